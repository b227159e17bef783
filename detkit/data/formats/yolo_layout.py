"""Where the pictures, the text files and the splits of a YOLO data set are, in its layouts."""

from __future__ import annotations

import os
import reprlib
from pathlib import Path

from detkit import foreign
from detkit.data import splits
from detkit.data.formats import BOXES, Needs
from detkit.errors import DetkitError
from detkit.folders import in_home

YAML = (".yaml", ".yml")


def pictures_of(root: Path, split: str) -> tuple[list[Path], str]:
    """The pictures of a split, and how they were found."""
    home = home_of(root)
    listed = next((p for p in (in_home(split), home / split) if splits.is_file(p)), None)
    if listed:
        return _of_list(listed, home), f"the list {split}"
    (file, described), words = described_by_yaml(root), _words(home)
    existing = existing_splits(root)
    word = splits.find(split, existing)
    if word and word in described:
        return _described(file, described, word), f"{word} of {file.name}"
    if word and word in words:
        files = [f / name for f in words[word] for name in splits.images_in(f).values()]
        return files, f"the folder {words[word][0].relative_to(home)}"
    if word:
        return _of_list(home / f"{word}.txt", home), f"the list {word}.txt"
    if existing:
        raise splits.missing(split, existing, home)
    files = [f / name for f in picture_folders(home) for name in splits.images_in(f).values()]
    if not files:
        raise DetkitError("There are no pictures.", file=home, remedy="correct dataset.root.")
    chosen, how = splits.by_hash([str(f.relative_to(home)) for f in files], split, home)
    return [files[i] for i in chosen], how


def home_of(root: Path) -> Path:
    """The data set's folder: the root, or the one that the root's file is in."""
    return root if root.is_dir() else root.parent


def _of_list(path: Path, home: Path) -> list[Path]:
    """The pictures of a list, relative to the list or to the data set's folder.

    Raises:
        DetkitError: none of them is there.
    """
    found, there = [], False
    for line in splits.read_list(path):
        places = [path.parent / line, home / line]
        place = next((place for place in places if splits.is_file(place)), None)
        found.append(place or places[1])
        there = there or place is not None
    if not there:
        raise splits.with_twin(
            DetkitError(
                "The picture is missing, as are all others of this list.",
                file=found[0],
                record=f"listed in {path}",
                remedy="correct the paths; they count from the list's folder or the data set's.",
            )
        )
    return found


def picture_folders(home: Path) -> list[Path]:
    return [folder for folder in splits.folders(home) if splits.images_in(folder)]


def _words(home: Path) -> dict[str, list[Path]]:
    """Folders of pictures by the split that their path names."""
    found: dict[str, list[Path]] = {}
    for folder in picture_folders(home):
        if word := splits.word_of(folder, home):
            found.setdefault(word, []).append(folder)
    return found


def described_by_yaml(root: Path) -> tuple[Path, dict]:
    """What a YAML file says: the root if it is one, else data.yaml or another one with names."""
    if root.is_file() and root.name.endswith(YAML):
        content = _yaml(root)
        if not isinstance(content, dict):
            raise DetkitError(
                "This YAML holds no keys.", file=root, remedy="write train:, val: and names:."
            )
        return root, {key: value for key, value in content.items() if value}
    home = home_of(root)
    for name in sorted(splits.names_in(home), key=lambda name: name != "data.yaml"):
        if name.endswith(YAML):
            content = _yaml(home / name)
            if isinstance(content, dict) and "names" in content:
                return home / name, {key: value for key, value in content.items() if value}
    return home / "data.yaml", {}


def _yaml(file: Path) -> object:
    try:
        return foreign.read_yaml(file)
    except OSError as fault:
        raise splits.unreadable(file, fault) from fault


def _described(file: Path, content: dict, word: str) -> list[Path]:
    """The pictures that data.yaml names for a split."""
    home = file.parent
    found: list[Path] = []
    entries = content[word] if isinstance(content[word], list) else [content[word]]
    for key, values in ((word, entries), ("path", [content.get("path", "")])):
        if odd := [value for value in values if not isinstance(value, (str, int))]:
            raise DetkitError(
                f"{key} names {reprlib.repr(odd[0])}, which is no path.",
                file=file,
                remedy=f"write such as {key}: images/{word}, in quotes where YAML takes it for"
                " something else.",
            )
    for entry in map(str, entries):
        inside = entry.removeprefix("../").removeprefix("./")  # exports count from a folder below
        places = [home / str(content.get("path", "")) / entry, home / entry, home / inside]
        # pathlib would raise on a name that is too long
        place = next((p for p in places if os.path.exists(p)), None)  # noqa: PTH110
        if place is None:
            raise DetkitError(
                f"{word} names {entry!r}, which is not there.",
                file=file,
                remedy="correct the path; it counts from `path`, else from this file's folder.",
            )
        if place.is_file():
            found += _of_list(place, home)
        else:
            found += [f / n for f in splits.folders(place) for n in splits.images_in(f).values()]
    return found


def label_file(home: Path, picture: Path) -> Path:
    """The text file of a picture: in `labels/` where that is in `images/`, else beside it.

    A link to nothing is one, too: reading it tells.
    """
    base = home if picture.is_relative_to(home) else Path(picture.anchor)  # data.yaml may lie apart
    parts = list(picture.relative_to(base).parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i].lower() in ("images", "jpegimages"):
            swapped = base.joinpath(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
            return swapped if os.path.lexists(swapped) else picture.with_suffix(".txt")
    return picture.with_suffix(".txt")


def existing_splits(root: Path, needs: Needs = BOXES) -> list[str]:
    """Splits by data.yaml, list files and folder names."""
    home, (_, described) = home_of(root), described_by_yaml(root)
    keys = {key for key in described if key in splits.WORDS}
    lists = {name[:-4] for name in splits.names_in(home) if name.endswith(".txt")} & splits.WORDS
    return sorted(keys | lists | _words(home).keys())
