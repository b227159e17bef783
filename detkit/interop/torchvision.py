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
_MASK_RCNN = {
    **_FASTER_RCNN,
    **{f"roi_heads.mask_head.{i}.0.": f"masks.layers.{i}." for i in range(4)},
    "roi_heads.mask_predictor.conv5_mask.": "masks.deconv.",
    "roi_heads.mask_predictor.mask_fcn_logits.": "masks.logits.",
}


def load_faster_rcnn(model: Model, state: Mapping[str, Tensor]) -> None:
    """Put the state dict of `torchvision.models.detection.fasterrcnn_resnet50_fpn` into ours.

    torchvision's class 0 is the background; ours is the last, and has no box of its own.

    Raises:
        DetkitError: a tensor whose place in ours is unknown.
    """
    _load(model, state, _FASTER_RCNN, "fasterrcnn_resnet50_fpn")


def load_mask_rcnn(model: Model, state: Mapping[str, Tensor]) -> None:
    """Put the state dict of `torchvision.models.detection.maskrcnn_resnet50_fpn` into ours.

    Its masks were learned half a pixel to the upper left (torchvision cuts its targets so), and are
    pasted here where they say.

    Raises:
        DetkitError: a tensor whose place in ours is unknown.
    """
    _load(model, state, _MASK_RCNN, "maskrcnn_resnet50_fpn")


def _load(model: Model, state: Mapping[str, Tensor], places: Mapping[str, str], peer: str) -> None:
    ours = {"mean_std": model.mean_std}
    for key, value in state.items():
        prefix = next((p for p in places if key.startswith(p)), None)
        if prefix is None:
            raise DetkitError(
                f"{key} is not a tensor of torchvision's {peer}.",
                remedy="pass its state dict as it is.",
            )
        if prefix.endswith("cls_score."):
            value = value.roll(-1, dims=0)
        elif prefix.endswith("box_predictor.bbox_pred."):
            value = value[4:]
        elif prefix.endswith("mask_fcn_logits."):
            value = value[1:]
        ours[places[prefix] + key[len(prefix) :]] = value
    model.load_state_dict(ours)
