"""Boundary IoU (Cheng et al. 2021, arXiv:2103.16562): the overlap of masks near their outlines.

Of a mask the pixels count that lie within a distance of its outline, inside it: the picture's edge
is an outline too. The distance is 2 % of the picture's diagonal, as in the paper.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.structures import IGNORE

RATIO = 0.02  # of the diagonal


def boundary(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """(H, W) bool: the mask's pixels that so many steps over edges and corners lead out of."""
    padded = np.pad(mask, 1).astype(np.uint8)
    steps = cv2.distanceTransform(padded, cv2.DIST_C, cv2.DIST_MASK_3)[1:-1, 1:-1]
    return mask & (steps <= distance)


def count_boundaries(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """(2, K) int64: pixels near both outlines of a class, and near either of them.

    Args:
        truth, predicted: (H, W) uint8 classes; where the truth is 255 neither mask has a pixel.
    """
    distance = max(1, round(RATIO * math.hypot(*truth.shape)))
    predicted = np.where(truth == IGNORE, np.uint8(IGNORE), predicted)
    counts = np.zeros((2, classes), np.int64)
    for label in set(np.unique(truth).tolist()) | set(np.unique(predicted).tolist()):
        if label < classes:
            masks = [labels == label for labels in (truth, predicted)]
            x, y, width, height = cv2.boundingRect((masks[0] | masks[1]).astype(np.uint8))
            part = slice(y, y + height), slice(x, x + width)
            first, second = (boundary(mask[part], distance) for mask in masks)
            counts[:, label] = (first & second).sum(), (first | second).sum()
    return counts
