"""Letters on (H, W, 3) uint8 RGB pictures: lines of text on strips of one colour."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

Colour = tuple[int, int, int]


def captioned(picture: np.ndarray, text: str, size: int) -> np.ndarray:
    """The picture with a line below it, in letters of so many pixels."""
    height = extent(text, size)[1]
    strip = np.full((height, picture.shape[1], 3), 255, np.uint8)
    _write(strip, text, (0, height - extent(text, size)[2]), (0, 0, 0), size)
    return np.concatenate([picture, strip])


def lettered(text: str, size: int, ink: Colour = (0, 0, 0)) -> np.ndarray:
    """A line of text on white, as large as it needs to be, in letters of so many pixels."""
    width, height, descent = extent(text, size)
    strip = np.full((height, width, 3), 255, np.uint8)
    _write(strip, text, (size // 4, height - descent), ink, size)
    return strip


def font_size(side: float) -> int:
    """Pixels of the letters on a picture whose sides have this geometric mean."""
    return max(12, round(side / 45))


def label(
    picture: np.ndarray, text: str, x: int, y: int, back: Colour, size: int, below: bool = False
) -> int:
    """Text on a strip of a colour, on top of (x, y) or below; returns its end.

    It is moved to stay inside the picture; what is longer than the picture is cut.
    """
    height = extent(text, size)[1]
    top = y if below or y < height else y - height
    strip(picture, text, x, top, back, size)
    return top + height


def strip(picture: np.ndarray, text: str, x: int, top: int, back: Colour, size: int) -> None:
    """Text on a strip whose upper left is (x, top), moved to the left where it is too long."""
    rows, columns = place(picture.shape, text, x, top, size)
    part = picture[rows, columns]
    part[...] = back
    brightness = 0.299 * back[0] + 0.587 * back[1] + 0.114 * back[2]
    ink = (0, 0, 0) if brightness > 140 else (255, 255, 255)
    canvas = np.ascontiguousarray(part)
    _, height, descent = extent(text, size)
    _write(canvas, text, (size // 4, height - descent), ink, size)
    part[...] = canvas


def place(shape: tuple[int, ...], text: str, x: int, top: int, size: int) -> tuple[slice, slice]:
    """The rows and columns of a picture that such a strip takes."""
    width, height, _ = extent(text, size)
    left = max(0, min(x, shape[1] - width))
    return slice(top, top + height), slice(left, left + width)


@lru_cache(maxsize=4096)
def extent(text: str, size: int) -> tuple[int, int, int]:
    """Width and height of the strip that a text needs, and its base line's height in it."""
    text = _decodable(text)
    if hasattr(cv2, "FontFace"):
        width = cv2.getTextSize((0, 0), text, (0, 0), _face(), size)[2]
    else:
        width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size / 26, 1)[0][0]
    return width + size // 2, size + size // 3, size // 3


def _decodable(text: str) -> str:
    """With ? for what a file's name has that is no UTF-8: OpenCV would end the process."""
    return text.encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=1)
def _face() -> Any:
    return cv2.FontFace("uni")  # OpenCV 5 brings the letters of most scripts with it


def _write(canvas: np.ndarray, text: str, at: tuple[int, int], ink: Colour, size: int) -> None:
    text = _decodable(text)
    if hasattr(cv2, "FontFace"):
        cv2.putText(canvas, text, at, ink, _face(), size)
    else:  # OpenCV 4, which shows ? for what is not ASCII
        cv2.putText(
            canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size / 26, ink, 1, lineType=cv2.LINE_AA
        )
