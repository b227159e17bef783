"""What the values of index masks mean: the names of classes, and which label each value has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.data import class_files
from detkit.data import images as decoder
from detkit.data.pixel_maps import places
from detkit.errors import DetkitError
from detkit.structures import IGNORE

GAP = 4  # the highest value is so many times their count: they are no class indices
LOOKED_AT = 500  # masks whose values tell how many classes there are, when nobody names them
EDGES = 25  # masks whose edges are looked at
BETWEEN = 0.4  # share of edges with a value between their sides, from which on they are smoothed
FEW, MANY, MOST = 100, 32, 0.9  # edges that tell; values of which two have most of the pixels
THRESHOLD = 128
VOID = (224, 224, 192)  # the colour of VOC's border


def labels_of(
    root: Path,
    masks: Sequence[Path],
    values: Mapping[int, int] | None = None,
    ignore: int | None = None,
    names: Sequence[str] = (),
    colours: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.int16], list[str], tuple[str, ...]]:
    """(256,) label by value, the names of the labels, and what to tell.

    Args:
        masks: all of the data set.
        values: label by value, where they differ.
        ignore: a value that does not count, besides 255.
        colours: (K, 3) RGB that stand for the values from 0 on in masks of colours.
        names: by value, or with `values` by label; without any the values are looked at.
    Raises:
        DetkitError: values that are no numbers of classes, or settings that no mask can hold.
    """
    told: tuple[str, ...] = ()
    if ignore is not None and not 0 <= ignore <= IGNORE:
        raise DetkitError(
            f"dataset.ignore is {ignore}, which no mask can hold.",
            file=root,
            remedy=f"set it to a value of 0 … {IGNORE}, or to null.",
        )
    if values is None:
        most = EDGES if names else LOOKED_AT  # only: are there but 0 and 255?
        sample = masks[:: len(masks) // most + 1]
        counts = _counts(sample, colours)
        seen = set(map(int, np.flatnonzero(counts)))
        if seen == {0, IGNORE} and len(names) in (0, 2) and ignore is None:
            values, told = {0: 0, IGNORE: 1}, ("masks of 0 and 255: read as classes 0 and 1",)
        else:
            counted = seen - {IGNORE, ignore}
            highest = max(counted, default=0)
            if highest >= max(len(names), 3) and colours is None:
                _refuse_smoothed(root, sample, counts)
            if not names and counted and highest >= GAP * len(counted):
                raise _no_indices(root, sorted(seen - {ignore}))
            named = names or [str(number) for number in range(highest + 1)]
            numbers = [number for number in range(len(named)) if number != ignore]
            values = {number: label for label, number in enumerate(numbers)}
            names = [named[number] for number in numbers]
    used = [label for label in values.values() if label != IGNORE]
    names = list(names) or [str(label) for label in range(max(used, default=0) + 1)]
    allowed = np.full(256, -1, np.int16)
    allowed[[IGNORE] if ignore is None else [IGNORE, ignore]] = IGNORE
    for value, label in values.items():
        if not (0 <= value <= IGNORE and (0 <= label < len(names) or label == IGNORE)):
            raise DetkitError(
                f"dataset.values makes {value} the label {label}, of {len(names)} classes.",
                file=root,
                remedy=f"values are 0 … {IGNORE}, labels 0 … {len(names) - 1} (or {IGNORE}).",
            )
        allowed[value] = label
    return allowed, names, told


def listed_names(root: Path) -> tuple[list[str], NDArray[np.uint8] | None]:
    """Class names, and their colours, from a file that lies with the data, if there is one."""
    found = class_files.find(root)
    return class_files.read(found) if found else [], class_files.colours(found)


def by_colour(
    colours: NDArray[np.uint8] | None, labels: NDArray[np.int16]
) -> NDArray[np.int16] | None:
    """`Records.pixel_colours` of colours that stand for the values from 0 on, `VOID` for 255.

    Args:
        labels: (256,) by value.
    """
    if colours is None:
        return None
    listed, values = _with_void(colours)
    return np.column_stack([listed, labels[values]]).astype(np.int16)


def _with_void(colours: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(C, 3) the colours, and `VOID` where it is not among them, and the value of each."""
    values = np.arange(len(colours))
    if (colours == VOID).all(1).any():
        return colours, values
    return np.vstack([colours, np.array([VOID], np.uint8)]), np.append(values, IGNORE)


def _refuse_smoothed(root: Path, masks: Sequence[Path], counts: NDArray[np.int64]) -> None:
    """
    Raises:
        DetkitError: greys between two values: edges that were smoothed, or saved as JPEG.
    """
    between = edges = 0
    for path in masks[:: len(masks) // EDGES + 1]:
        found = _edges(_read(path))
        between, edges = between + found[0], edges + found[1]
    two = np.sort(counts)[-2:].sum() / max(1, counts.sum())
    number = int((counts > 0).sum())
    smoothed = edges >= FEW and between >= BETWEEN * edges
    if not smoothed and not (number >= MANY and two >= MOST):
        return
    low, high = sorted(map(int, np.argsort(counts)[-2:]))
    raise DetkitError(
        f"The masks hold {number} values, most of them greys between {low} and {high}: edges that"
        " were smoothed, hardly the numbers of classes.",
        file=root,
        remedy="make the masks anew without smoothing (resize with nearest, save as PNG); those of"
        f" two values become whole again with a threshold (0 below {THRESHOLD}, else 255).",
    )


def _edges(values: NDArray[np.uint8]) -> tuple[int, int]:
    """How many pixels of a row lie strictly between their neighbours, and how many edges it has."""
    rows = values.astype(np.int16)
    step = np.diff(rows, axis=1)
    between = int((step[:, 1:] * step[:, :-1] > 0).sum())
    return between, int((step != 0).sum()) - between


def _no_indices(root: Path, seen: Sequence[int]) -> DetkitError:
    """The error for masks of 0, 127 and 254, which would be taken for 255 classes."""
    setting = ", ".join(f"{value}: {label}" for label, value in enumerate(seen))
    void = f" ({IGNORE}: {IGNORE} where that does not count)" if IGNORE in seen else ""
    return DetkitError(
        f"The masks hold the values {', '.join(map(str, seen))}: hardly the numbers of classes.",
        file=root,
        remedy=f"say which class each is with 'dataset.values={{{setting}}}'{void}, or if they are"
        " numbers, name the classes by number in classes.txt or dataset.classes.",
    )


def _counts(masks: Sequence[Path], colours: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """(256,) pixels of each value."""
    counts = np.zeros(256, np.int64)
    for path in masks:
        for page in range(_pages(path)):
            counts += np.bincount(_read(path, colours, page).ravel(), minlength=256)
    return counts


def _pages(path: Path) -> int:
    """Of a stack; 1 of a bad mask, which is told of where its image is checked."""
    try:
        return decoder.pages(path)
    except DetkitError:
        return 1


def _read(path: Path, colours: NDArray[np.uint8] | None = None, page: int = 0) -> NDArray[np.uint8]:
    """Its values; none of a bad mask, which is told of where its image is checked."""
    try:
        if colours is None or not decoder.has_colours(path):
            return decoder.read_values(path, page)
        listed, values = _with_void(colours)
        found = places(decoder.read_colours(path, page), listed)
        return values[found[found >= 0]].astype(np.uint8)
    except DetkitError:
        return np.zeros((0, 0), np.uint8)
