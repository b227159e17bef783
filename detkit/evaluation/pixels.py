"""Metrics of a class for each pixel, from counts that grow image by image.

Intersection over union as in Everingham et al. 2010 (section 4.3): of a class, over the pixels of
the whole set, true positives / (true positives + false positives + false negatives). Pixels marked
255 count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detkit.errors import DetkitError
from detkit.structures import IGNORE


def count(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) int64: how many pixels of class `row` were called class `column`.

    Args:
        truth: (H, W) uint8, 0 … K−1, or 255 where it does not count.
        predicted: (H, W) uint8, 0 … K−1.
    Raises:
        DetkitError: the shapes differ, or a pixel of the truth has a class that does not exist.
    """
    if truth.shape != predicted.shape:
        raise DetkitError(
            f"The mask has {truth.shape[1]}×{truth.shape[0]} pixels, the prediction "
            f"{predicted.shape[1]}×{predicted.shape[0]}.",
            remedy="give each image a mask of its own size.",
        )
    counted = truth != IGNORE
    rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    if rows.size and max(rows.max(), columns.max()) >= classes:
        raise DetkitError(
            f"A pixel has class {max(rows.max(), columns.max())}, but there are {classes} classes "
            f"(0 … {classes - 1}; {IGNORE} is ignored).",
            remedy="correct the mask, or give the data set all its class names.",
        )
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def pixels(counts: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """The metrics of summed counts.

    Args:
        counts: (K, K) int64, true class by predicted class.
    Returns:
        `pixels/mIoU`, `pixels/accuracy`, and `pixels/IoU/NAME`, `pixels/precision/NAME`,
        `pixels/recall/NAME` and `pixels/F1/NAME` for each class, as fractions of 1; None for a
        class without a pixel in the truth, and the mean runs over the others.
    """
    right = np.diagonal(counts)
    truth = counts.sum(1)
    called = counts.sum(0)
    union = truth + called - right
    found = truth > 0
    of_class = {
        "precision": (right, called),
        "recall": (right, truth),
        "F1": (2 * right, truth + called),
    }
    iou = np.divide(right, union, out=np.zeros(len(right)), where=found)
    return {
        "pixels/mIoU": float(iou[found].mean()) if found.any() else None,
        "pixels/accuracy": float(right.sum() / truth.sum()) if found.any() else None,
        **{
            f"pixels/IoU/{name}": float(iou[k]) if found[k] else None
            for k, name in enumerate(names)
        },
        **{
            f"pixels/{key}/{name}": float(part[k] / whole[k]) if found[k] and whole[k] else None
            for key, (part, whole) in of_class.items()
            for k, name in enumerate(names)
        },
    }
