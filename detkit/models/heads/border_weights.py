"""Weights of the narrow background between objects (Ronneberger 2015, section 3, equation 2)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.structures import IGNORE

NEAR = 6.0  # deviations, beyond which a weight is below 2e-8 of the largest
FAR = np.float32(1e6)


def border_weights(
    labels: NDArray[np.uint8], background: int, w0: float, sigma: float
) -> NDArray[np.float32]:
    """(H, W) float32: w0 · exp(−(d1 + d2)² / 2σ²) on the background, 0 elsewhere.

    d1 and d2 are the distances, in pixels, to the two nearest objects. An object is a connected
    region (by edges, not by corners) of one class that is not the background.

    Args:
        labels: (H, W) uint8 class of each pixel, 255 where it does not count.
        background: the class between the objects; the paper's figure 3d shows weights there alone.
        w0: the largest weight; the paper has 10.
        sigma: pixels; the paper has about 5.
    """
    nearest = np.full(labels.shape, FAR, np.float32)
    second = nearest.copy()
    reach = int(np.ceil(NEAR * sigma))
    for label in set(np.unique(labels).tolist()) - {background, IGNORE}:
        same = (labels == label).astype(np.uint8)
        count, numbers, boxes, _ = cv2.connectedComponentsWithStats(same, connectivity=4)
        for number in range(1, count):
            x, y, width, height = boxes[number, :4].tolist()
            around = (
                slice(max(y - reach, 0), y + height + reach),
                slice(max(x - reach, 0), x + width + reach),
            )
            outside = (numbers[around] != number).astype(np.uint8)
            distance = np.full(outside.shape, FAR, np.float32)
            distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE, distance)
            second[around] = np.minimum(second[around], np.maximum(nearest[around], distance))
            nearest[around] = np.minimum(nearest[around], distance)
    weights = w0 * np.exp(-((nearest + second).astype(np.float64) ** 2) / (2 * sigma**2))
    return np.where(labels == background, weights, 0).astype(np.float32)
