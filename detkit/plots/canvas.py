"""Matplotlib in one room: figures without a display, in letters that there are.

Its Agg canvas alone is used, never pyplot, so that no screen is asked for and no setting of the
user's process is changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from detkit.atomic import json_text, write_bytes
from detkit.draw import colour, save_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of its font cache, a home without leave
DOTS = 100  # an inch
FONT = "DejaVu Sans"  # which matplotlib brings along
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.parse_math": False,  # a class may be called $x$
    "figure.constrained_layout.use": True,
}


@contextmanager
def attempted(file: Path, say: Callable[[str], Any]) -> Iterator[None]:
    """A picture that cannot be drawn is told of, and ends nothing: it must not cost a training."""
    try:
        yield
    except Exception as fault:  # matplotlib raises anything
        say(f"note: {file.name} was not drawn ({type(fault).__name__}: {fault})")


@contextmanager
def sheet(
    width: float, height: float, texts: Sequence[str] = (), **layout: Any
) -> Iterator[tuple[Figure, Any]]:
    """A figure and its axes, to be drawn and saved inside the block.

    Args:
        width, height: pixels.
        texts: what will be written on it, so that fonts with their letters are chosen.
        layout: for `Figure.subplots`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fonts, _ = _fonts(frozenset("".join(texts)))
    style: Any = {**STYLE, "font.family": list(fonts)}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width / DOTS, height / DOTS), dpi=DOTS)
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(**layout)


def pixels(figure: Figure) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a figure."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def save(figure: Figure, file: Path, numbers: Any) -> None:
    """Writes a figure, and what it shows as JSON beside it."""
    save_picture(pixels(figure), file, numbers)  # savefig would draw twice


def save_picture(picture: np.ndarray, file: Path, numbers: Any) -> None:
    """Writes an (H, W, 3) uint8 RGB picture by its suffix, with our sign in it, and its numbers."""
    save_image(file, picture)
    write_numbers(file, numbers)


def write_numbers(file: Path, numbers: dict[str, Any]) -> None:
    text = json_text({"picture": file.name, **numbers})
    # a file's name of any bytes becomes JSON's own escapes
    write_bytes(file.with_suffix(".json"), text.encode("utf-8", "backslashreplace"))


def paint(label: int) -> tuple[float, float, float]:
    """A class's colour as matplotlib takes it."""
    red, green, blue = colour(label)
    return red / 255, green / 255, blue / 255


def legible(text: str) -> str:
    """A text in letters that some font here has; others as their numbers, such as U+4E2D."""
    missing = _fonts(frozenset(text))[1]
    return "".join(
        " " if not c.isprintable() and c.isspace() else f"U+{ord(c):04X}" if c in missing else c
        for c in text
    )


def short(text: str, most: int = 24) -> str:
    """A name of which beginning and end are left where it is long, legible."""
    kept = (most - 1) // 2
    return legible(text if len(text) <= most else f"{text[:kept]}…{text[-kept:]}")


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, each as wide as the widest, with white at its right."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [
            cv2.copyMakeBorder(
                p, 0, 0, 0, width - p.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3
            )
            for p in parts
        ]
    )


@lru_cache(maxsize=64)
def _fonts(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The fonts that have the letters, ours first, and the letters that none has."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    chosen = [FONT]
    missing = {ord(letter) for letter in letters}
    missing -= FT2Font(font_manager.findfont(FONT)).get_charmap().keys()
    known = (
        {entry.name: entry.fname for entry in font_manager.fontManager.ttflist} if missing else {}
    )
    for name, file in sorted(known.items()):
        if not missing:
            break
        try:
            found = missing & FT2Font(file).get_charmap().keys()
        except Exception:  # a damaged font
            continue
        if found and "LastResort" not in name.replace(" ", ""):
            chosen.append(name)
            missing -= found
    return tuple(chosen), frozenset(map(chr, missing))
