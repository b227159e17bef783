"""The class names of a YOLO data set, by number: of its YAML, its obj.data, or a list of names."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detkit import foreign
from detkit.data import class_files, named, splits
from detkit.data.formats.yolo_layout import described, home_of
from detkit.data.formats.yolo_lines import class_number, is_labels, lines_of
from detkit.errors import DetkitError


def names_of(root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Class names by number, and what to tell of them.

    Raises:
        DetkitError: names that are no list of different ones, a file of names that is not there,
            or several data sets below the root, whose numbers mean different classes.
    """
    home, (file, content) = home_of(root), described(root)
    listed = content.get("names")
    if listed and not isinstance(listed, str):
        names = _of_yaml(file, listed)
        return names, (*_other_count(file, content, names), *_other_names(home, names, file))
    if listed := _of_data(home, file, listed or content.get("names_file")):
        return class_files.read(listed), ()
    if not content:
        _not_below(home)
    if listed := class_files.find(home):
        return class_files.read(listed), ()
    labels = [
        folder / name
        for folder in splits.folders(home)
        for name in splits.names_in(folder)
        if name.lower().endswith(".txt") and is_labels(folder / name)
    ]
    first = [class_number(line) for file in labels for line in lines_of(file)]
    most = max((int(number) for number in first if number % 1 == 0), default=-1)
    told = (
        "no names in a data.yaml, classes.txt or *.names: the classes are called by their numbers"
    )
    return [str(number) for number in range(most + 1)], (told,)


def _of_yaml(file: Path, listed: Any) -> list[str]:
    """Names as they are written: YAML would make 7 of 007."""
    written = foreign.read_yaml(file, as_text=True)["names"]
    texts, values = written, listed
    if isinstance(listed, dict) and isinstance(written, dict):
        numbers = list(map(str, range(len(listed))))
        texts = [written[number] for number in numbers if number in written]
        values = list(listed.values())
    fit = isinstance(texts, list) and isinstance(values, list) and len(texts) == len(values)
    names = [text.strip() for text in texts if isinstance(text, str)] if fit else []
    odd = not fit or any(isinstance(value, bool | list | dict | None) for value in values)
    if odd or not all(names) or len(set(names)) < len(values):
        raise DetkitError(
            f"names is {reprlib.repr(listed)}: not one name each for the numbers from 0 on.",
            file=file,
            remedy="write names: [cat, dog], or give them with dataset.classes; YAML takes no,"
            " yes, on and null for other things, so put such names in quotes.",
        )
    return names


def _of_data(home: Path, file: Path, entry: str | None) -> Path | None:
    """The list of names that obj.data names."""
    if entry is None:
        return None
    place = named.folder(entry, [home], home)
    if place is None or not place.is_file():
        raise DetkitError(
            f"names is {entry!r}, which is not there.",
            file=file,
            remedy="put the list of class names there, or correct the path.",
        )
    return place


def _other_count(file: Path, content: dict[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """What to tell where `nc` is not how many names there are."""
    count = content.get("nc", len(names))
    if count == len(names):
        return ()
    return (f"nc of {file.name} is {count!r:.20}, and it names {len(names)} classes, which count",)


def _other_names(home: Path, names: Sequence[str], file: Path) -> tuple[str, ...]:
    """What to tell where a classes.txt says something else than data.yaml."""
    other = home / "classes.txt"
    try:
        if not other.is_file() or splits.class_names(other) == names:
            return ()
    except DetkitError:  # what counts is the other file
        pass
    return (f"{other.name} has other class names than {file.name}, whose are taken",)


def _not_below(home: Path) -> None:
    """
    Raises:
        DetkitError: folders below describe a data set each, with classes and paths of their own.
    """
    files = [described(f)[0] for f in splits.folders(home, 2) if f != home and described(f)[1]]
    if not files:
        return
    shown = " and ".join(splits.below(home, file) for file in files[:2])
    what = "a data set each" if len(files) > 1 else "a data set, and there are pictures outside it"
    raise DetkitError(
        f"{shown} describe{'' if len(files) > 1 else 's'} {what}.",
        file=home,
        remedy=f"set dataset.root to one ({files[0].parent}), or write a data.yaml here, with all"
        " folders of train and val, and names.",
    )
