"""A small map of an object inside its box → the pixels of the image that are the object's.

Boxes are continuous here, so the map's cells divide its box evenly and a pixel asks for the value
at its centre, bilinearly; beyond the box there is nothing. (torchvision rounds the box to pixels
first and makes it one wider: of small objects that costs several hundredths of their overlap.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.5  # Mask R-CNN, section 3.1: a pixel is the object's from here on

Window = tuple[slice, slice, NDArray[np.bool_]]


def paste(cells: NDArray, box: Sequence[float], size: tuple[int, int]) -> Window:
    """The part of an image that a map's box covers, so that memory is that of the box.

    Args:
        cells: (m, m) float, 0 … 1, how surely each cell of the box is the object's.
        box: xyxy, pixels of the image; it may reach beyond it.
        size: (height, width) of the image.
    Returns:
        rows, columns: of the image, whole pixels around the box.
        mask: (rows, columns) bool.
    """
    x1, y1, x2, y2 = box
    rows, columns = _covered(y1, y2, size[0]), _covered(x1, x2, size[1])
    across = np.asarray(cells, np.float32) @ _weights(columns, x1, x2, cells.shape[1]).T
    values = _weights(rows, y1, y2, cells.shape[0]) @ across
    return rows, columns, values >= THRESHOLD


def _covered(low: float, high: float, side: int) -> slice:
    """The pixels of an axis that an extent touches; none of an extent without length."""
    if not high > low:
        return slice(0, 0)
    start = min(max(math.floor(low), 0), side)
    return slice(start, max(start, min(math.ceil(high), side)))


def _weights(pixels: slice, low: float, high: float, cells: int) -> NDArray[np.float32]:
    """(pixels, cells): bilinear interpolation along one axis, as a matrix."""
    centres = np.arange(pixels.start, pixels.stop) + 0.5
    place = (centres - low) * (cells / max(high - low, 1e-9)) - 0.5
    distance = np.abs(place[:, None] - np.arange(cells))
    return np.maximum(0, 1 - distance).astype(np.float32)
