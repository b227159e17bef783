"""The picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detkit.lettering import lettered

FULL = (23, 78, 140)  # RGB of a right cell that has all of its row; white has none
WRONG = (213, 94, 0)  # and of a wrong one
BACKGROUND = "background"
NUMBERED = 25  # classes up to which each cell says how many images it has
NAMED = 150  # and up to which the classes are named
SIDES = {10: 56, 25: 44, 60: 24, NAMED: 16}  # pixels of a cell, by the most classes
LONGEST = 28  # letters of a name


def draw_confusion(
    counts: np.ndarray, names: Sequence[str], background: bool = False
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a row a true class, a column what it was called, dark where it is often.

    A cell's colour is its share of the row, blue on the diagonal and orange beside it.

    Args:
        counts: (K, K) int64.
        background: the last class is none: its row is what was found where nothing is, coloured by
            its share of the column, and its column what was missed.
    """
    classes = len(names)
    cell = _cell(classes)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    if background:
        share[-1] = counts[-1] / np.maximum(counts.sum(0), 1)
    inks = np.where(np.eye(classes, dtype=bool)[..., None], FULL, WRONG)
    colours = 255 - share[..., None] * (255 - inks)
    cells = np.kron(colours.round().astype(np.uint8), np.ones((cell, cell, 1), np.uint8))
    if cell >= 8:  # thin lines between the cells
        cells[::cell], cells[:, ::cell] = 225, 225
    if classes <= NUMBERED:
        _write_numbers(cells, counts, share, cell)
    size = min(16, cell * 3 // 4) if classes <= NAMED else 0
    shown = [_short(name) for name in names] if size else []
    left = _stacked([lettered(name, size) for name in shown], cell, classes)
    above = np.rot90(_stacked([lettered(name, size) for name in shown[::-1]], cell, classes), -1)
    corner = np.full((above.shape[0], left.shape[1], 3), 255, np.uint8)
    sheet = np.vstack([np.hstack([corner, above]), np.hstack([left, cells])])
    lines = ["rows: annotated class, columns: found as"]
    if background:
        lines += [
            f"row {BACKGROUND}: not annotated, or found twice",
            f"column {BACKGROUND}: missed",
        ]
    titles = [lettered(line, 16) for line in (*lines, "")]
    width = max(part.shape[1] for part in (sheet, *titles))
    parts = [_widened(part, width) for part in (*titles, sheet)]
    return np.pad(np.vstack(parts), ((8, 8), (8, 8), (0, 0)), constant_values=255)


def _cell(classes: int) -> int:
    """Pixels a side of a cell, so that names and numbers can be read and the sheet stays small."""
    for most, side in SIDES.items():
        if classes <= most:
            return side
    return max(1, 2400 // classes)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _stacked(strips: Sequence[np.ndarray], cell: int, classes: int) -> np.ndarray:
    """The names below each other, each at the right end of a row as high as a cell."""
    width = max((strip.shape[1] for strip in strips), default=1)
    column = np.full((cell * classes, width, 3), 255, np.uint8)
    for place, strip in enumerate(strips):
        height = min(cell, strip.shape[0])
        top = place * cell + (cell - height) // 2
        column[top : top + height, width - strip.shape[1] :] = strip[:height]
    return column


def _write_numbers(cells: np.ndarray, counts: np.ndarray, share: np.ndarray, cell: int) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        text = lettered(_brief(int(counts[row, column])), min(14, cell // 3))
        height, width = text.shape[:2]
        if width > cell - 2:
            text = cv2.resize(text, (cell - 2, height), interpolation=cv2.INTER_AREA)
            width = cell - 2
        top, left = row * cell + (cell - height) // 2, column * cell + (cell - width) // 2
        place = cells[top : top + height, left : left + width]
        ink = 255 - text.astype(np.int64)  # 0 on paper, 255 on the letters
        target = 255 if share[row, column] > 0.5 else 0
        place[...] = (place + ink * (target - place.astype(np.int64)) // 255).astype(np.uint8)


def _brief(count: int) -> str:
    """In a few letters: 9,999 as it is, then 10k, 3.4M."""
    for unit, mark in ((1_000_000, "M"), (1_000, "k")):
        if count >= max(unit, 10_000):
            return f"{count / unit:.2g}{mark}" if count < 10 * unit else f"{count / unit:.0f}{mark}"
    return str(count)


def _widened(picture: np.ndarray, width: int) -> np.ndarray:
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
