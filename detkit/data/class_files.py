"""The files that tools write class names into, each in its own form."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit import foreign
from detkit.data import splits
from detkit.errors import DetkitError

NAMES = ("class_names.txt", "labelmap.txt", "classes.txt", "_classes.csv", "_darknet.labels")
DEPTH = 2  # folders below the root among which they are looked for
_IGNORED = "__ignore__"  # labelme's first line for what has no number


def find(root: Path, depth: int = DEPTH, names: tuple[str, ...] = NAMES) -> Path | None:
    """The first such file at or below root, or a `*.names`; None if there is none.

    The file nearest to the root counts. Of several as near (a folder a split has its own) the
    longest does, as long as they number their classes alike.

    Raises:
        DetkitError: they do not, or as `read`.
    """
    found: dict[int, list[Path]] = {}
    for folder in splits.folders(root, depth):
        there = {name.lower(): name for name in reversed(splits.names_in(folder))}
        listed = [there[name] for name in names if name in there]
        listed += [there[name] for name in sorted(there) if name.endswith(".names")]
        if listed:
            found.setdefault(len(folder.parts), []).append(folder / listed[0])
    nearest = found[min(found)] if found else []
    if len(nearest) < 2:
        return next(iter(nearest), None)
    listed_in = {path: read(path) for path in nearest}
    longest = max(nearest, key=lambda path: len(listed_in[path]))
    for path, these in listed_in.items():
        check_alike(root, {path: these, longest: listed_in[longest]})
    return longest


def check_alike(root: Path, listed: Mapping[Path, Sequence[str]]) -> None:
    """
    Raises:
        DetkitError: two lists that do not begin alike, so that a number means two classes.
    """
    for one, other in itertools.combinations(listed, 2):
        pairs = zip(listed[one], listed[other], strict=False)
        for number, (name, another) in enumerate(pairs):
            if name != another:
                raise DetkitError(
                    f"The class {number} is {name!r} in {splits.below(root, one)}, and {another!r}"
                    f" in {splits.below(root, other)}: two data sets.",
                    file=root,
                    remedy="set dataset.root to the folder of one of them, or name the classes of"
                    " both with dataset.classes if their numbers do mean the same.",
                )


def read(path: Path) -> list[str]:
    """The names by number from 0.

    A line each, or CVAT's `labelmap.txt` (`cat:128,0,0::`), or Roboflow's `_classes.csv` (a table
    of value and name).

    Raises:
        DetkitError: the file cannot be read, or is not UTF-8, an empty line between two names, a
            name that occurs twice, numbers with gaps.
    """
    if path.suffix.lower() == ".csv":
        return _of_table(path)
    names = splits.class_names(path)
    if path.name.lower() == "labelmap.txt":
        named = (line.partition(":")[0].strip() for line in names if not line.startswith("#"))
        return _unique(list(named), path)
    names = names[1:] if names[:1] == [_IGNORED] else names
    numbered = [
        re.fullmatch(rf"{number}[\s:,.)]\s*(\S.*)", name) for number, name in enumerate(names)
    ]
    return _unique([found[1] for found in numbered if found], path) if all(numbered) else names


def colours(path: Path | None) -> NDArray[np.uint8] | None:
    """(K, 3) RGB of the names of a `labelmap.txt`; None for another file or one without colours."""
    if path is None or path.name.lower() != "labelmap.txt":
        return None
    lines = [line for line in splits.class_names(path) if not line.startswith("#")]
    found = [re.match(r"[^:]*:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(:|$)", line) for line in lines]
    triples = [(int(m[1]), int(m[2]), int(m[3])) for m in found if m]
    different = len(set(triples)) == len(lines) and max(map(max, triples), default=256) < 256
    return np.array(triples, np.uint8) if different else None


def _of_table(path: Path) -> list[str]:
    try:
        rows = list(csv.reader(foreign.read_text(path).splitlines(), skipinitialspace=True))
    except OSError as fault:
        raise splits.unreadable(path, fault) from fault
    numbered = [(row[0].strip(), row[1].strip()) for row in rows[1:] if len(row) >= 2]
    for number, (value, _) in enumerate(numbered):
        if value != str(number):
            raise DetkitError(
                f"The value {value!r} stands where {number} is expected.",
                file=path,
                record=f"line {number + 2}",
                remedy="name the values one after the other from 0 on, or give dataset.classes.",
            )
    return _unique([name for _, name in numbered], path)


def _unique(names: list[str], path: Path) -> list[str]:
    twice = next((name for n, name in enumerate(names) if name in names[:n]), None)
    if twice is not None:
        raise DetkitError(
            f"The class {twice!r} occurs twice.",
            file=path,
            remedy="write another name, or remove it: classes are numbered by their lines.",
        )
    return names
