"""Anchors, scales and sizes of the run's own boxes: numbers in place of a model's `auto`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from detkit.commands.opening import Data
from detkit.data.anchors import cluster, mean_iou, shares_of, sizes_of, spread
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.faster_rcnn import sizes_per_level
from detkit.models.heads.ssd_head import box_shapes
from detkit.models.model import models

Found = tuple[Any, float]  # the setting's value, and the mean best IoU with the boxes


def of_own_boxes(
    model: Mapping[str, Any], backbone: Mapping[str, Any], data: Data, seed: int
) -> tuple[dict[str, Any], str | None]:
    """
    Args:
        model, backbone: settings; a value that is to come of the boxes is `auto`.
        seed: of k-means' beginnings.
    Returns:
        The model's settings with numbers, and a line about them where there was an `auto`.
    Raises:
        DetkitError: too few boxes, or a scale beside `auto`.
    """
    settings = dict(model)
    for key in ("anchors", "scales", "anchor_sizes"):
        if settings.get(key) != "auto":
            continue
        if key == "anchors":
            value, iou = _anchors(settings, data, seed)
        elif key == "scales":
            value, iou = _scales(models.complete(settings["name"], settings), data)
        else:
            value, iou = _sizes(settings, backbone, data)
        line = f"{key.replace('_', ' ')}: {value}, mean best IoU with the boxes {iou:.3f}"
        return {**settings, key: value}, line
    return settings, None


def _anchors(settings: Mapping[str, Any], data: Data, seed: int) -> Found:
    """The YOLOs': as many as the model's own, by k-means."""
    if settings.get("anchor_scale", 1.0) != 1.0:
        raise DetkitError(
            "Anchors of the run's own boxes need no scale.",
            record="model.anchor_scale",
            remedy="set it to 1, or give the anchors as numbers.",
        )
    number = len(models.settings(settings["name"])["anchors"].default)
    found, iou = cluster(sizes_of(data.records, data.transform), number, seed)
    return _extended(found.round(1).tolist(), "model.anchors"), iou


def _scales(settings: Mapping[str, Any], data: Data) -> Found:
    """SSD's: one a map, and one beyond them."""
    ratios = settings["aspect_ratios"]
    shares = shares_of(data.records, data.transform)
    scales = spread(np.sqrt(shares.prod(1)), len(ratios) + 1)
    scales = [round(scale, 4) for scale in scales]
    shapes = torch.cat(box_shapes(scales, ratios)).double().numpy()
    return scales, mean_iou(shares, shapes)


def _sizes(settings: Mapping[str, Any], backbone: Mapping[str, Any], data: Data) -> Found:
    """Faster R-CNN's: as many a level as without any setting, the smallest for the finest."""
    plain = {**settings, "anchor_sizes": None}
    built = build(plain, {**backbone, "weights": "none"}, data.classes)
    counts = [len(own) for own in sizes_per_level(None, list(built.backbone.strides.values()))]
    boxes = sizes_of(data.records, data.transform)
    found = iter(round(size, 1) for size in spread(np.sqrt(boxes.prod(1)), sum(counts)))
    sizes: list[Any] = [[next(found) for _ in range(count)] for count in counts]
    _extended(sizes, "model.anchor_sizes")
    ratios = models.complete(settings["name"], settings)["anchor_ratios"]
    root = np.sqrt(np.array(ratios, np.float64))
    sides = np.concatenate(sizes)[:, None]
    anchors = np.stack([sides / root, sides * root], -1).reshape(-1, 2)
    return sizes[0] if len(sizes) == 1 else sizes, mean_iou(boxes, anchors)


def _extended(sizes: list[Any], setting: str) -> list[Any]:
    """The same.

    Raises:
        DetkitError: one of them is nothing, rounded to a tenth of a pixel.
    """
    if np.min(np.concatenate([np.ravel(own) for own in sizes])) <= 0:
        raise DetkitError(
            "Boxes are below a tenth of a pixel in the network's pictures.",
            record=setting,
            remedy="raise transforms.short_side or transforms.long_side, or give the sizes as"
            " numbers.",
        )
    return sizes
