"""Weights of torchvision's detectors in ours: the same tensors under our names, background last."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from detkit.errors import DetkitError
from detkit.models.model import Model

_FASTER_RCNN = {
    "backbone.": "backbone.",
    "rpn.head.conv.0.0.": "rpn.conv.",
    "rpn.head.cls_logits.": "rpn.objectness.",
    "rpn.head.bbox_pred.": "rpn.deltas.",
    "roi_heads.box_head.": "head.extractor.tail.",
    "roi_heads.box_predictor.cls_score.": "head.predictor.logits.",
    "roi_heads.box_predictor.bbox_pred.": "head.predictor.deltas.",
}


def load_faster_rcnn(model: Model, state: Mapping[str, Tensor]) -> None:
    """Put the state dict of `torchvision.models.detection.fasterrcnn_resnet50_fpn` into ours.

    torchvision's class 0 is the background; ours is the last, and has no box of its own.

    Raises:
        DetkitError: a tensor whose place in ours is unknown.
    """
    ours = {"mean_std": model.mean_std}
    for key, value in state.items():
        prefix = next((p for p in _FASTER_RCNN if key.startswith(p)), None)
        if prefix is None:
            raise DetkitError(
                f"{key} is not a tensor of torchvision's Faster R-CNN.",
                remedy="pass the state dict of fasterrcnn_resnet50_fpn as it is.",
            )
        if prefix.endswith("cls_score."):
            value = value.roll(-1, dims=0)
        elif prefix.endswith("box_predictor.bbox_pred."):
            value = value[4:]
        ours[_FASTER_RCNN[prefix] + key[len(prefix) :]] = value
    model.load_state_dict(ours)
