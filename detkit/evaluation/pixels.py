"""Metrics of a class for each pixel, from counts that grow image by image.

Intersection over union as in Everingham et al. 2010 (section 4.3): of a class, over the pixels of
the whole set, true positives / (true positives + false positives + false negatives). Pixels marked
255 count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detkit.errors import DetkitError
from detkit.structures import IGNORE

SIDE = 1024  # pixels of the longer side of what is kept of an image


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


def wrong_share(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Of the pixels that count those of a wrong class, as a fraction of 1; 0 where none counts.

    Args:
        truth, predicted: as for `count`.
    """
    counted = truth != IGNORE
    return float((truth != predicted)[counted].mean()) if counted.any() else 0.0


def reduced(labels: np.ndarray) -> np.ndarray:
    """(h, w) uint8 labels of at most `SIDE` pixels a side: kept to be looked at, gigapixels or not.

    Args:
        labels: (H, W) uint8.
    """
    height, width = labels.shape
    scale = SIDE / max(height, width)
    if scale >= 1:
        return labels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)


def pixels(counts: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """The metrics of summed counts.

    Args:
        counts: (K, K) int64, true class by predicted class.
    Returns:
        `pixels/mIoU`, `pixels/mDice`, `pixels/accuracy`, and `pixels/IoU/NAME`,
        `pixels/Dice/NAME` (F1), `pixels/precision/NAME` and `pixels/recall/NAME` for each class, as
        fractions of 1; None for a class without a pixel in the truth (of precision: that no pixel
        is called), and the mean runs over the others.
    """
    right = np.diagonal(counts)
    truth, called = counts.sum(1), counts.sum(0)
    both = truth + called
    found = truth > 0
    iou = np.divide(right, both - right, out=np.zeros(len(right)), where=found)
    dice = np.divide(2 * right, both, out=np.zeros(len(right)), where=found)
    precision = np.divide(right, called, out=np.zeros(len(right)), where=called > 0)
    recall = np.divide(right, truth, out=np.zeros(len(right)), where=found)
    return {
        "pixels/mIoU": _mean(iou, found),
        "pixels/mDice": _mean(dice, found),
        "pixels/accuracy": float(right.sum() / truth.sum()) if found.any() else None,
        **_of_classes("pixels/IoU", iou, found, names),
        **_of_classes("pixels/Dice", dice, found, names),
        **_of_classes("pixels/precision", precision, called > 0, names),
        **_of_classes("pixels/recall", recall, found, names),
    }


def boundaries(
    counts: np.ndarray, found: np.ndarray, names: Sequence[str]
) -> dict[str, float | None]:
    """`pixels/boundary_mIoU` and `pixels/boundary_IoU/NAME` of summed counts.

    Args:
        counts: (2, K) int64, as `evaluation.boundaries.count_boundaries` gives them.
        found: (K,) bool, the classes in the truth.
    """
    iou = np.divide(counts[0], counts[1], out=np.zeros(len(found)), where=counts[1] > 0)
    return {
        "pixels/boundary_mIoU": _mean(iou, found),
        **_of_classes("pixels/boundary_IoU", iou, found, names),
    }


def _mean(values: np.ndarray, found: np.ndarray) -> float | None:
    return float(values[found].mean()) if found.any() else None


def _of_classes(
    key: str, values: np.ndarray, found: np.ndarray, names: Sequence[str]
) -> dict[str, float | None]:
    return {f"{key}/{n}": float(values[k]) if found[k] else None for k, n in enumerate(names)}
