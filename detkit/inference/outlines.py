"""The regions of a map of classes as polygons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Region:
    """A connected region (by edges) of one class.

    Attributes:
        polygon: x, y, x, y … of its outline, pixels; a quarter of a pixel inside its edge, so that
            whoever fills it meets just the region's pixels. Holes are not in it.
        box: x, y, width, height.
        rows, columns: of the picture, where it is.
        mask: (h, w) bool there.
    """

    polygon: list[float]
    box: tuple[int, int, int, int]
    rows: slice
    columns: slice
    mask: NDArray[np.bool_]


def regions(labels: NDArray[np.uint8], label: int) -> Iterator[Region]:
    """The regions of a class in (H, W) labels, in the order of their first pixels."""
    same = (labels == label).astype(np.uint8)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(same, connectivity=4)
    for number in range(1, count):
        x, y, width, height = map(int, stats[number, :4])
        rows, columns = slice(y, y + height), slice(x, x + width)
        mask = numbers[rows, columns] == number
        fine = mask.repeat(2, 0).repeat(2, 1).astype(np.uint8)  # a pixel of its own has an outline
        outlines, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        corners = (outlines[0][:, 0] + 0.5) / 2 + [x, y]
        yield Region(corners.ravel().tolist(), (x, y, width, height), rows, columns, mask)
