"""Numbers as pictures: heat, signed weights, grids of tiles, tables, boxes; all (H, W, 3) uint8."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from detkit.lettering import lettered

WHITE = (255, 255, 255)
FRAME = (210, 214, 220)  # between tiles
MARKED = (255, 221, 120)  # cells that a step looks at
INK = (32, 36, 44)
CELL = 14  # pixels of a grid's cells, from which on their borders are drawn
OPACITY = 0.55  # of heat over a picture, where it is hottest


def heat(values: np.ndarray) -> np.ndarray:
    """(H, W) numbers from dark (the least) to yellow (the largest of them)."""
    low, high = float(values.min()), float(values.max())
    shares = (values - low) / (high - low) if high > low else np.zeros(values.shape)
    coloured = cv2.applyColorMap((shares * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.ascontiguousarray(coloured[..., ::-1])


def signed(values: np.ndarray, most: float | None = None) -> np.ndarray:
    """(H, W) numbers: blue below zero, white at it, red above.

    Args:
        most: the magnitude of full colour; None is the largest there is.
    """
    most = float(np.abs(values).max(initial=0.0)) if most is None else most
    shares = np.clip(values / most if most else np.zeros(values.shape), -1, 1)[..., None]
    red, blue = np.array([200, 40, 40]), np.array([40, 80, 200])
    ends = np.where(shares > 0, red, blue)
    return (255 + np.abs(shares) * (ends - 255)).round().astype(np.uint8)


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """Its pixels as squares, so many times larger that its long side is about `side`."""
    factor = max(1, round(side / max(picture.shape[:2])))
    return picture.repeat(factor, 0).repeat(factor, 1)


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Smoothly, to that size."""
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)


def shrunk(picture: np.ndarray, most: int) -> np.ndarray:
    """Averaged to a long side of at most so many pixels."""
    factor = most / max(picture.shape[:2])
    if factor >= 1:
        return picture
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def over(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Heat laid over a picture, thin where the numbers are small.

    Args:
        values: (h, w), not below 0; stretched to the picture.
    """
    height, width = picture.shape[:2]
    large = cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    shares = np.clip(large / large.max(), 0, 1) if large.max() > 0 else np.zeros_like(large)
    hot = cv2.applyColorMap((shares * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    weight = OPACITY * (0.25 + 0.75 * shares[..., None]) * (large.max() > 0)
    return (picture * (1 - weight) + hot * weight).round().astype(np.uint8)


def cells_over(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The same without smoothing: each cell of a grid has one colour, and its border is drawn."""
    height, width = picture.shape[:2]
    rows = (np.arange(height) * values.shape[0] / height).astype(int)
    columns = (np.arange(width) * values.shape[1] / width).astype(int)
    found = over(picture, values[rows][:, columns])
    if max(values.shape) * CELL <= max(height, width):
        found[np.flatnonzero(np.diff(rows)) + 1] = FRAME
        found[:, np.flatnonzero(np.diff(columns)) + 1] = FRAME
    return found


def grid(tiles: Sequence[np.ndarray], columns: int | None = None, gap: int = 3) -> np.ndarray:
    """Tiles row by row on one sheet, each in the upper left of its place.

    Args:
        columns: None: about as many as rows.
    """
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    sheet = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), np.uint8)
    sheet[:] = WHITE
    for place, tile in enumerate(tiles):
        down, across = divmod(place, columns)
        top, left = gap + down * (height + gap), gap + across * (width + gap)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def titled(picture: np.ndarray, text: str, size: int = 15) -> np.ndarray:
    """The picture below a line of text; the sheet is as wide as the wider of the two."""
    strip = lettered(text, size, INK)
    width = max(picture.shape[1], strip.shape[1])
    parts = []
    for part in (strip, picture):
        beside = ((0, 0), (0, width - part.shape[1]), (0, 0))
        parts.append(np.pad(part, beside, constant_values=255))
    return np.concatenate(parts)


def number(value: float) -> str:
    """A number as short as it can be said."""
    return f"{value:.4g}".replace("-", "−")


def table(
    values: np.ndarray, marked: np.ndarray | None = None, shaded: bool = True, cell: int = 34
) -> np.ndarray:
    """A matrix of numbers in squares.

    Args:
        values: (H, W); NaN leaves its square empty.
        marked: (H, W) bool, the squares that are looked at.
        shaded: whether a number's size also darkens its square.
        cell: pixels a side.
    """
    rows, columns = values.shape
    sheet = np.full((rows * cell + 1, columns * cell + 1, 3), FRAME, np.uint8)
    known = np.nan_to_num(values)
    most = float(np.abs(known).max(initial=0.0)) or 1.0
    tones = signed(known * 0.45, most) if shaded else np.full((rows, columns, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * cell + 1, column * cell + 1
            square = sheet[top : top + cell - 1, left : left + cell - 1]
            square[:] = tones[row, column]
            if marked is not None and marked[row, column]:
                square[:] = MARKED
            if not math.isnan(values[row, column]):
                _middle(square, number(values[row, column]))
    return sheet


def boxes(
    picture: np.ndarray,
    corners: np.ndarray,
    colours: Sequence[tuple[int, int, int]],
    line: int = 2,
) -> np.ndarray:
    """A copy with rectangles on it, the last on top.

    Args:
        corners: (N, 4) xyxy, pixels of the picture; what lies outside is not drawn.
        colours: N, or one for all.
    """
    drawn = picture.copy()
    for place, (x0, y0, x1, y1) in enumerate(np.nan_to_num(corners).clip(-1e5, 1e5).round()):
        ends = (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1)
        cv2.rectangle(drawn, *ends, colours[place % len(colours)], line, cv2.LINE_AA)
    return drawn


def row(parts: Sequence[np.ndarray], gap: int = 14) -> np.ndarray:
    """Pictures beside each other, middles in one line."""
    height = max(part.shape[0] for part in parts)
    placed = []
    for part in parts:
        above = (height - part.shape[0]) // 2
        rest = height - part.shape[0] - above
        placed.append(np.pad(part, ((above, rest), (gap, 0), (0, 0)), constant_values=255))
    return np.concatenate(placed, 1)


def _middle(square: np.ndarray, text: str) -> None:
    """Writes a text into the middle of a square, smaller where it is long."""
    size = 15 if len(text) < 4 else 11
    drawn = lettered(text, size, INK)
    height, width = (min(a, b) for a, b in zip(drawn.shape, square.shape[:2], strict=False))
    top, left = (square.shape[0] - height) // 2, (square.shape[1] - width) // 2
    part = square[top : top + height, left : left + width]
    np.minimum(part, drawn[:height, :width], out=part)
