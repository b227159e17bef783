"""The lines of YOLO's text files: which files hold some, their objects, what is wrong there."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit import foreign
from detkit.data import splits
from detkit.errors import DetkitError

LOOKED_AT = 200  # pictures of a folder of which one should have a text file, lines of a text
HEAD = 1 << 16  # bytes of a text file that is looked at
NOT_LABELS = ("classes", "obj", "names", "readme", "license", "notes")  # stems of other text files
_FIELDS = re.compile(r"[\s,;]+")


def is_labels(path: Path) -> bool:
    """Whether a line has at least five fields, nearly all numbers; an empty file may be one."""
    if path.stem.lower() in NOT_LABELS:
        return False
    lines = lines_of(path)
    return not lines or any(map(_is_object, lines[:LOOKED_AT]))


def _is_object(line: str) -> bool:
    fields = _FIELDS.split(line.strip())
    return len(fields) >= 5 and sum(not math.isnan(_number(field)) for field in fields[:5]) >= 4


def _number(text: str) -> float:
    """NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def lines_of(path: Path) -> list[str]:
    """Those that are not empty, of a file that may be anything."""
    try:
        return [line for line in foreign.glance(path, HEAD).splitlines() if line.strip()]
    except OSError as fault:
        raise splits.unreadable(path, fault) from fault


def class_number(line: str) -> float:
    """What a line begins with; NaN where that is no number."""
    return _number(_FIELDS.split(line.strip())[0])


def _text(path: Path) -> str:
    try:
        return foreign.read_text(path)
    except OSError as fault:
        raise splits.unreadable(path, fault) from fault


def objects_of(label: Path, names: Sequence[str], keypoints: int) -> list[tuple[int, list[float]]]:
    """(line number, its numbers) of each object in a text file; none if there is no file.

    Args:
        keypoints: numbers behind the box, which are left out; 0 where polygons are possible.
    """
    found = []
    text = _text(label) if os.path.lexists(label) else ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(value) for value in line.split()]
        except ValueError:
            raise _no_numbers(label, number, line.strip()) from None
        if keypoints and len(values) == 5 + keypoints:
            values = values[:5]
        if len(values) != 5 and (keypoints or len(values) < 7 or len(values) % 2 == 0):
            wanted = "class x y width height, or a class and at least three corners"
            remedy = "correct or remove the line; for keypoints give kpt_shape in data.yaml."
            if keypoints:
                wanted = f"class x y width height and the {keypoints} of kpt_shape"
                remedy = "correct or remove the line, or correct kpt_shape in data.yaml."
            raise _bad(label, number, f"it has {len(values)} numbers, not {wanted}", remedy)
        if values[0] not in range(len(names)):
            known = f"the {len(names)} classes are 0 … {len(names) - 1}"
            remedy = "correct the line, or the list of names (data.yaml, dataset.classes)."
            raise _bad(label, number, f"its class is {values[0]:g}; {known}", remedy)
        if len(values) > 5 and not all(map(math.isfinite, values)):
            raise _bad(label, number, "a corner of its polygon is no finite number")
        found.append((number, values))
    return found


def _no_numbers(label: Path, number: int, line: str) -> DetkitError:
    """The error for a line that has something else among its numbers, such as commas."""
    words, shown = line.split(), f"{line[:80]!r}"
    if len(words) >= 5 and not any(math.isnan(_number(w.replace(",", "."))) for w in words):
        problem, remedy = f"{shown} has decimal commas", "write points in the numbers."
    elif len(words) > 1 and math.isnan(_number(words[0])) and _is_object(line):
        problem = f"{shown} begins with {words[0]!r}, not with the number of a class"
        remedy = "write the number that the class has in the list of names, from 0 on."
    elif _is_object(line) and not any(math.isnan(_number(w)) for w in _FIELDS.split(line)):
        problem = f"{shown} has other signs than spaces between its numbers"
        remedy = "write `class x y width height` with a space between the numbers."
    elif len(words) in (9, 10) and not any(math.isnan(_number(w)) for w in words[:8]):
        problem = f"{shown} is an oriented box: four corners in pixels, then the name of its class"
        remedy = "export upright boxes (`class x y width height`)."
    else:
        problem, remedy = f"{shown} is not all numbers", "correct or remove the line."
    return _bad(label, number, problem, remedy)


def no_oriented(
    labels: Sequence[Path], corners: Sequence[int], outline: NDArray, counts: Sequence[int]
) -> None:
    """
    Args:
        labels: the text files, with `counts` objects each.
        corners: of each object, 0 for a box.
        outline: (P, 2) all corners.
    Raises:
        DetkitError: each object has four corners, and not all of them are upright rectangles.
    """
    if not len(corners) or set(corners) != {4}:
        return
    four = outline.reshape(-1, 4, 2)
    upright = np.isin(four, np.stack([four.min(1), four.max(1)])).all((1, 2))
    if upright.all():
        return
    first = int(np.repeat(np.arange(len(labels)), counts)[upright.argmin()])
    raise DetkitError(
        "These are oriented boxes: every line has 9 numbers, a class and four corners.",
        file=labels[first],
        remedy="export upright boxes (`class x y width height`); where they are outlines that"
        " happen to have four corners, write the first corner at the end of a line again.",
    )


def box_of(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Centre and size, or a polygon, → corners, still in fractions."""
    if len(values) == 4:
        x, y, w, h = values
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _bad(
    label: Path, number: int, problem: str, remedy: str = "correct or remove the line."
) -> DetkitError:
    return DetkitError(f"{problem}.", file=label, record=f"line {number}", remedy=remedy)
