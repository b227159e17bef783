"""The table of names and colours of masks in colour (`dataset.colours`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit import foreign
from detkit.data import splits
from detkit.errors import DetkitError
from detkit.folders import in_home
from detkit.structures import IGNORE

VOID = "ignore"  # the name of colours that do not count
# `road: 128,64,128` with what CVAT writes behind it, and `128 64 128 road` as CamVid has it
NAME_FIRST = re.compile(r"([^#:]+):\s*(\d+)[,\s]+(\d+)[,\s]+(\d+)\s*(?::.*)?")
COLOUR_FIRST = re.compile(r"(\d+)[,\s]+(\d+)[,\s]+(\d+)[,\s]+(\S.*)")


def colour_table(
    root: Path, colours: Mapping[str, Sequence[int]] | str
) -> tuple[NDArray[np.uint8], NDArray[np.int16], list[str]]:
    """The colours, their labels, and the names of the labels.

    Args:
        root: of the data; a file is looked for there, too.
        colours: red, green and blue by name; or a text file with a colour a line, `road:
            128,64,128` (CVAT's labelmap.txt) or `128 64 128 road` (CamVid's label_colors.txt).
            Colours of the name `ignore` do not count; lines of one name are one class.
    Returns:
        (C, 3) uint8, (C,) int16 with 255 for what does not count, K names.
    Raises:
        DetkitError: no such file, a line that is neither, no colour, or one that two classes have.
    """
    source: Path = root
    if isinstance(colours, str):
        source = next((p for p in (in_home(colours), root / colours) if splits.is_file(p)), root)
        if source == root:
            raise DetkitError(
                "There is no such file of colours.",
                file=colours,
                remedy="name one, or give the table: dataset.colours={road: [128, 64, 128], …}.",
            )
        rows = _rows(source)
    else:
        rows = [(name, list(colour)) for name, colour in colours.items()]
    names = list(dict.fromkeys(name for name, _ in rows if name != VOID))
    seen: dict[tuple[int, ...], str] = {}
    for name, colour in rows:
        if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
            raise DetkitError(
                f"The colour of {name} is {colour}.",
                file=source,
                remedy="give red, green and blue, each 0 … 255.",
            )
        if (other := seen.setdefault(tuple(colour), name)) != name:
            raise DetkitError(
                f"{other} and {name} have the same colour, {colour}.",
                file=source,
                remedy="give each class a colour of its own.",
            )
    if not names:
        raise DetkitError(
            "The table of colours names no class.",
            file=source,
            remedy="name each class: dataset.colours={road: [128, 64, 128], …}.",
        )
    labels = [IGNORE if seen[colour] == VOID else names.index(seen[colour]) for colour in seen]
    return np.array(list(seen), np.uint8), np.array(labels, np.int16), names


def _rows(file: Path) -> list[tuple[str, list[int]]]:
    try:
        lines = foreign.read_text(file).splitlines()
    except OSError as fault:
        raise splits.unreadable(file, fault) from fault
    rows = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if first := NAME_FIRST.fullmatch(text):
            name, *colour = first.groups()
        elif second := COLOUR_FIRST.fullmatch(text):
            *colour, name = second.groups()
        else:
            raise DetkitError(
                f"{line!r} is no name with a colour.",
                file=file,
                record=f"line {number}",
                remedy="write `road: 128,64,128` or `128 64 128 road`.",
            )
        rows.append((name.strip(), [int(value) for value in colour]))
    return rows
