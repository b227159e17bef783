"""Which sizes of objects a model is made for: its anchors, or the strides of its maps."""

from __future__ import annotations

import numpy as np

from detkit.data.anchors import shape_iou
from detkit.models.model import Model

FITS = 0.4  # overlap of an object with an anchor of its place, above which it is well caught


def anchor_sizes(model: Model, size: tuple[int, int]) -> np.ndarray | None:
    """(A, 2) float64 widths and heights of a model's anchors, None where it has none.

    Args:
        size: (height, width) of the network's image; SSD's boxes are shares of it.
    """
    for module in model.modules():
        if (sizes := getattr(module, "anchor_sizes", None)) is not None:
            return sizes(size).detach().cpu().double().numpy()
    return None


def fitting(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(N,) bool: the objects whose shape overlaps an anchor's by more than `FITS`.

    Args:
        sizes: (N, 2) widths and heights of objects.
        anchors: (A, 2).
    """
    found = np.zeros(len(sizes), bool)
    for first in range(0, len(sizes), 10_000):  # some 100 anchors: all pairs would be gigabytes
        part = slice(first, first + 10_000)
        found[part] = shape_iou(sizes[part], anchors).max(1) > FITS
    return found
