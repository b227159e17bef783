"""A picture of what a capsule knows: a picture, its reconstruction, and the paper's figure 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from detkit.draw import as_rgb, eight_bit
from detkit.lettering import captioned, lettered

CELL = 56  # pixels of a small picture, at least
GAP = 2
LETTERS = 14


def capsule_picture(
    image: Any, reconstruction: Tensor, shifted: Tensor, shifts: Sequence[float]
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: at the left picture and reconstruction, at the right a row a dimension.

    Args:
        image: an (H, W, C) array, or what else is a picture.
        reconstruction: (C, side, side) in 0 … 1.
        shifted: (D, S, C, side, side) in 0 … 1, one of D dimensions changed by one of S values.
        shifts: those S values.
    """
    rows = [
        np.concatenate([_beside(f"{i + 1}"), *(_cell(one) for one in of_dimension)], 1)
        for i, of_dimension in enumerate(shifted)
    ]
    head = [_above(f"{shift:+.2f}", _cell(shifted[0, 0]).shape[1]) for shift in shifts]
    grid = np.concatenate([np.concatenate([_beside("", head[0].shape[0]), *head], 1), *rows])
    whole = image if isinstance(image, np.ndarray) else as_rgb(image)
    shown = [
        (_rgb(whole), "picture"),
        (_rgb(reconstruction.detach().permute(1, 2, 0).numpy()), "reconstruction"),
    ]
    left = [captioned(_square(one, 4 * CELL), text, LETTERS) for one, text in shown]
    height = max(sum(one.shape[0] for one in left), grid.shape[0])
    return np.concatenate([_padded(np.concatenate(left), height), _padded(grid, height)], 1)


def _cell(picture: Tensor) -> np.ndarray:
    """A small picture with a white border."""
    return np.pad(
        _square(_rgb(picture.permute(1, 2, 0).numpy()), CELL),
        ((0, GAP), (0, GAP), (0, 0)),
        constant_values=255,
    )


def _rgb(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of any number of channels: other than 1 and 3 are averaged."""
    picture = eight_bit(picture)
    if picture.ndim == 3 and picture.shape[2] not in (1, 3):
        picture = picture.mean(2).astype(np.uint8)
    return as_rgb(picture)


def _square(picture: np.ndarray, side: int) -> np.ndarray:
    how = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_NEAREST
    return cv2.resize(picture, (side, side), interpolation=how)


def _beside(text: str, height: int = CELL + GAP) -> np.ndarray:
    return _on_white(text, height, CELL // 2)


def _above(text: str, width: int) -> np.ndarray:
    return _on_white(text, LETTERS + LETTERS // 2, width)


def _on_white(text: str, height: int, width: int) -> np.ndarray:
    """A text in the middle of a white field."""
    field = np.full((height, width, 3), 255, np.uint8)
    letters = lettered(text, LETTERS)[:height, :width]
    top, left = (height - letters.shape[0]) // 2, (width - letters.shape[1]) // 2
    field[top : top + letters.shape[0], left : left + letters.shape[1]] = letters
    return field


def _padded(picture: np.ndarray, height: int) -> np.ndarray:
    below = height - picture.shape[0]
    return np.pad(picture, ((0, below), (0, LETTERS), (0, 0)), constant_values=255)
