"""Pictures of any size on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from detkit.draw import as_rgb, eight_bit, visible
from detkit.lettering import captioned

if TYPE_CHECKING:
    from detkit.data.records import Records

SIDE = 520  # pixels of the longer side that a picture of a data set is drawn at
GAP = 4  # pixels between the pictures
TALLEST = 2.5  # times its width: a cell's height, or a thin strip would make a sheet of gigabytes
CAPTION = 14  # pixels, of the letters below them


def contact_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    columns: int = 4,
    width: int = 1600,
) -> np.ndarray:
    """Pictures of any size side by side, row by row, each as wide as its column.

    A cell is at most `TALLEST` times as high as wide; a longer picture is narrower in it.

    Args:
        pictures: at least one (H, W, 3) uint8 RGB.
        captions: a line below each.
        width: pixels of the sheet.
    """
    columns = max(1, min(columns, len(pictures)))
    cell = (width - GAP * (columns + 1)) // columns
    rows = []
    for first in range(0, len(pictures), columns):
        row = [_fit(picture, cell) for picture in pictures[first : first + columns]]
        if captions is not None:
            said = captions[first : first + columns]
            row = [
                captioned(picture, text, CAPTION) for picture, text in zip(row, said, strict=True)
            ]
        height = max(picture.shape[0] for picture in row)
        strip = np.full((height + GAP, width, 3), 255, np.uint8)
        for place, picture in enumerate(row):
            left = GAP + place * (cell + GAP)
            strip[GAP : GAP + picture.shape[0], left : left + cell] = picture
        rows.append(strip)
    return np.concatenate([*rows, np.full((GAP, width, 3), 255, np.uint8)])


def picture_of(records: Records, i: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of a data set to draw on, its longer side `SIDE` pixels.

    Returns:
        (h, w, 3) uint8 RGB, and (4,) float64 by which xyxy boxes of the file's pixels are brought
        to its own.
    """
    image = as_rgb(visible(eight_bit(records.image(i))))
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = [max(1, round(side * scale)) for side in (width, height)]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    factors = np.array([size[0] / width, size[1] / height] * 2)
    return cv2.resize(image, size, interpolation=how), factors


def _fit(picture: np.ndarray, width: int) -> np.ndarray:
    """Resized to a width, or to the height that a cell may have, with white at its right."""
    height, across = picture.shape[:2]
    scale = min(width / across, TALLEST * width / height)
    size = max(1, round(across * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    fitted = cv2.resize(picture, size, interpolation=how)
    return np.pad(fitted, ((0, 0), (0, width - size[0]), (0, 0)), constant_values=255)
