"""Weights of torchvision's detectors in ours: the same tensors under our names, background last."""

from __future__ import annotations

from collections.abc import Mapping

import torch
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


_SSD = {
    "backbone.features.": "backbone.features.",
    "backbone.scale_weight": "backbone.norm.weight",
    **{f"backbone.extra.0.{i}.": f"backbone.features.{23 + i}." for i in (1, 3, 5)},
    "backbone.extra.0.7.1.": "backbone.fc6.0.",
    "backbone.extra.0.7.3.": "backbone.fc7.0.",
    **{f"backbone.extra.{i + 1}.": f"layers.{i}." for i in range(4)},
    "head.classification_head.module_list.": "head.logits.",
    "head.regression_head.module_list.": "head.deltas.",
}
_SSD_MEAN = (0.48235, 0.45882, 0.40784)  # Caffe's colours; their deviation is one of 255 steps
SSD_SCALES = {"smallest_scale": 0.15, "largest_scale": 0.9, "finest_scale": 0.07}


def load_ssd(model: Model, state: Mapping[str, Tensor]) -> None:
    """Put the state dict of `torchvision.models.detection.ssd300_vgg16` into our ssd300.

    Its default boxes are those of `SSD_SCALES`, settings of ours. Background moves from class 0 to
    the last one.

    Raises:
        DetkitError: a tensor whose place in ours is unknown.
    """
    deviation = torch.full((3,), 1 / 255)
    mean_std = torch.stack([torch.tensor(_SSD_MEAN), deviation])[..., None, None]
    ours = {"mean_std": mean_std}
    numbers = model.num_classes + 1
    for key, value in state.items():
        prefix = next((p for p in _SSD if key.startswith(p)), None)
        if prefix is None:
            raise DetkitError(
                f"{key} is not a tensor of torchvision's SSD.",
                remedy="pass the state dict of ssd300_vgg16 as it is.",
            )
        if "classification_head" in prefix:
            value = value.unflatten(0, (-1, numbers)).roll(-1, 1).flatten(0, 1)
        ours[_SSD[prefix] + key[len(prefix) :]] = value
    model.load_state_dict(ours)
