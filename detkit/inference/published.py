"""A published network without any training of ours: ImageNet's 1000 classes from its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision

from detkit.backbones.pretrained import COUNTER
from detkit.data.transforms import build as build_transform
from detkit.errors import DetkitError
from detkit.evaluation.thresholds import Chosen
from detkit.inference.predictor import Predictor
from detkit.models.build import build
from detkit.structures import Classes


def published(
    model: Mapping[str, Any],
    backbone: Mapping[str, Any],
    transforms: Mapping[str, Any],
    device: torch.device | str,
    precision: str,
    score_thresh: Chosen,
    allow_download: bool = False,
) -> Predictor:
    """A predictor of ImageNet's classes, as `inference.predictor.load` gives one of a checkpoint.

    Args:
        model, backbone, transforms: names and settings; `backbone["weights"]` is the file.
    Raises:
        DetkitError: no file, or one that leaves some of the model's tensors as they are made.
    """
    if backbone.get("weights", "none") == "none":
        raise DetkitError(
            "There are no weights to predict with.",
            record="backbone.weights",
            remedy="set backbone.weights=FILE, or imagenet for torchvision's published file.",
        )
    names = imagenet_names()
    built = build(model, backbone, Classes.of(names), allow_download)
    report = built.backbone.weights_report
    assert report is not None
    counted = (key for key in built.state_dict() if not key.startswith(built.training_only))
    own = {key for key in counted if key != "mean_std" and not key.endswith(COUNTER)}
    if report.loaded < len(own):
        raise DetkitError(
            f"It holds {report.loaded} of the {len(own)} tensors of a {model['name']} on"
            f" {backbone['name']} with ImageNet's {len(names):,} classes.",
            file=report.file,
            remedy="train the rest first (detkit train …), and predict with checkpoint=RUN.",
        )
    config = {"model": dict(model), "backbone": dict(backbone), "transforms": dict(transforms)}
    meta = {"config": config, "names": names, "category_ids": range(1, len(names) + 1)}
    transform = build_transform(transforms, train=False)
    built.to(device).eval()
    return Predictor(
        built, meta, transform, device=device, precision=precision, score_thresh=score_thresh
    )


def imagenet_names() -> list[str]:
    """The classes of ImageNet's challenge in the order of all published networks (torchvision)."""
    return list(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
