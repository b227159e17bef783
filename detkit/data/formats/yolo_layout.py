"""Where the pictures, the text files and the splits of a YOLO data set are, in its layouts."""

from __future__ import annotations

import itertools
import os
import reprlib
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detkit import foreign
from detkit.data import alike, images, named, splits
from detkit.data.formats import BOXES, Needs
from detkit.errors import DetkitError
from detkit.folders import in_home

YAML, DATA = (".yaml", ".yml"), ".data"
HEAD = 1 << 16  # bytes that an obj.data may have
SHOWN = 10  # entries of a split that its source names


def pictures_of(root: Path, split: str) -> tuple[list[Path], str, tuple[str, ...]]:
    """The pictures of a split, how they were found, and what to tell."""
    home = home_of(root)
    listed = next((p for p in (in_home(split), home / split) if splits.is_file(p)), None)
    if listed:
        files, notes = _of_list(listed, home)
        return files, f"the list {split}", notes
    (file, content), words = described(root), _words(home)
    existing = existing_splits(root)
    word = splits.find(split, existing)
    if word and word in content:
        return _described(file, content, word)
    if word and word in words:
        files = [f / name for f in words[word] for name in splits.images_in(f).values()]
        notes = (*splits.merged(home, files), *_not_asked(home / f"{word}.txt", files))
        return files, f"the folder {words[word][0].relative_to(home)}", notes
    if word:
        files, notes = _of_list(home / f"{word}.txt", home)
        return files, f"the list {word}.txt", notes
    if existing:
        raise splits.missing(split, existing, home)
    files = [f / name for f in picture_folders(home) for name in splits.images_in(f).values()]
    if not files:
        raise DetkitError("There are no pictures.", file=home, remedy="correct dataset.root.")
    chosen, how = splits.by_hash([str(f.relative_to(home)) for f in files], split, home)
    return [files[i] for i in chosen], how, splits.merged(home, files)


def _not_asked(path: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """What to tell where a list of the split's name has other pictures than its folder."""
    if not splits.is_file(path) or len(splits.read_list(path)) == len(files):
        return ()
    told = f"{path.name} names another number of pictures, and is not looked at"
    return (f"{told}; for its pictures set the split to {path.name}",)


def home_of(root: Path) -> Path:
    """The data set's folder: the root, or the one that the root's file is in."""
    return root if root.is_dir() else root.parent


def own(root: Path) -> Path:
    """The root, or the folder below it that describes itself, if all pictures are in that one.

    An unpacked export often has a folder more.
    """
    if not root.is_dir() or described(root)[1]:
        return root
    below = (f for f in splits.folders(root, depth=2) if f != root and described(f)[1])
    found = list(itertools.islice(below, 2))
    if len(found) != 1 or any(not f.is_relative_to(found[0]) for f in picture_folders(root)):
        return root
    return found[0]


def _of_list(
    path: Path, home: Path, more: Sequence[Path] = ()
) -> tuple[list[Path], tuple[str, ...]]:
    """The pictures of a list, relative to the list or to the data set's folder, and what to tell.

    Raises:
        DetkitError: none of them is there.
    """
    bases = [path.parent, *more, home]
    found, notes = named.pictures(splits.read_list(path), bases, home, path)
    if not any(map(splits.is_file, found)):
        raise splits.with_twin(
            DetkitError(
                "The picture is missing, as are all others of this list.",
                file=found[0],
                record=f"listed in {path}",
                remedy="correct the paths, which count from the list's folder or the data set's,"
                " or put the pictures below one of these.",
            )
        )
    return found, notes


def picture_folders(home: Path) -> list[Path]:
    return [folder for folder in splits.folders(home) if splits.images_in(folder)]


def _words(home: Path) -> dict[str, list[Path]]:
    """Folders of pictures by the split that their path names."""
    found: dict[str, list[Path]] = {}
    for folder in picture_folders(home):
        if word := splits.word_of(folder, home):
            found.setdefault(word, []).append(folder)
    return found


def described(root: Path) -> tuple[Path, dict[str, Any]]:
    """What the data set's own file says: its YAML, or Darknet's and CVAT's `obj.data`.

    Returns:
        the file, and its values by the YAML's keys (`names_file` is the list of names that
        `obj.data` has instead); no values where there is no such file.
    """
    home = home_of(root)
    if root.is_file() and root.name.lower().endswith((*YAML, DATA)):
        content = _data(root) if root.name.lower().endswith(DATA) else _yaml(root)
        if not isinstance(content, dict):
            raise DetkitError(
                "This YAML holds no keys.", file=root, remedy="write train:, val: and names:."
            )
        return root, {key: value for key, value in content.items() if value}
    for name in sorted(splits.names_in(home), key=lambda name: (name.lower() != "data.yaml", name)):
        if name.lower().endswith(YAML):
            content = _yaml(home / name)
            if isinstance(content, dict) and _describes(content):
                return home / name, {key: value for key, value in content.items() if value}
    for name in splits.names_in(home):
        if name.lower().endswith(DATA) and (content := _data(home / name)):
            return home / name, content
    return home / "data.yaml", {}


def _describes(content: dict[Any, Any]) -> bool:
    """Whether a YAML is a data set's; others may have a key `train`, too."""
    return "names" in content or ("nc" in content and not splits.WORDS.isdisjoint(content))


def _yaml(file: Path) -> object:
    try:
        return foreign.read_yaml(file)
    except OSError as fault:
        raise splits.unreadable(file, fault) from fault


def _data(file: Path) -> dict[str, Any]:
    """Lines `train = data/train.txt`, `valid = …`, `names = data/obj.names`; else nothing."""
    try:
        lines = foreign.glance(file, HEAD).splitlines()
        pairs = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
        found = {key.strip().lower(): value.strip() for key, _, value in pairs if value.strip()}
        if "names" not in found or not found.keys() & splits.WORDS:
            return {}
        foreign.read_text(file)  # which says where it is no text
    except OSError as fault:
        raise splits.unreadable(file, fault) from fault
    content: dict[str, Any] = {key: found[key] for key in found.keys() & splits.WORDS}
    return {**content, "names_file": found["names"]}


def _described(
    file: Path, content: dict[str, Any], word: str
) -> tuple[list[Path], str, tuple[str, ...]]:
    """The pictures that the data set's file names for a split, from where, and what to tell."""
    home = file.parent
    entries = content[word] if isinstance(content[word], list) else [content[word]]
    for key, values in ((word, entries), ("path", [content.get("path", "")])):
        if odd := [value for value in values if not isinstance(value, (str, int))]:
            raise DetkitError(
                f"{key} names {reprlib.repr(odd[0])}, which is no path.",
                file=file,
                remedy=f"write such as {key}: images/{word}, in quotes where YAML takes it for"
                " something else.",
            )
    base = home / str(content.get("path", ""))
    found: list[Path] = []
    notes: list[str] = []
    places = []
    for entry in map(str, entries):
        place = _place(entry, base, file, word)
        if not named.as_written(place, entry, (base, home)):
            notes.append(f"{word} of {file.name} is {entry!r}: {place} is read")
        places.append(splits.below(home, place))
        if images.is_image(place) and place.is_file():
            found.append(place)
        elif place.is_file():
            listed, told = _of_list(place, home, (base,))
            found += listed
            notes += told
        else:
            found += [f / n for f in splits.folders(place) for n in splits.images_in(f).values()]
    shown = ", ".join(places[:SHOWN]) + (f" … ({len(places):,})" if len(places) > SHOWN else "")
    return found, f"{word} of {file.name}: {shown}", tuple(notes[:SHOWN])


def _place(entry: str, base: Path, file: Path, word: str) -> Path:
    """The folder or list that an entry means.

    Raises:
        DetkitError: there is none, or `path` leads to another one than the data set's own.
    """
    home = file.parent
    at_base, own = (named.exact([entry], [b], home, os.path.exists) for b in (base, home))
    if at_base and own and not at_base.samefile(own) and ".." in base.parts:
        raise DetkitError(
            f"{word} names {entry!r}, which could be {own} or, by `path`, {at_base.resolve()}.",
            file=file,
            remedy="write the whole path of the folder that is meant as `path`, or remove `path`.",
        )
    place = named.folder(entry, [base, home], home)
    if place is None:
        raise DetkitError(
            f"{word} names {entry!r}, which is not there.",
            file=file,
            remedy="correct the path; it counts from `path`, else from this file's folder.",
        )
    return place


def label_files(home: Path, pictures: Sequence[Path]) -> list[Path]:
    """The text file of each picture: in `labels/` where that is in `images/`, else beside it.

    Of either the text's name or the picture's may have percent signs for other characters; where
    there is none of that name, one that looks alike is it. A link to nothing is a file, too:
    reading it tells.
    """
    texts: dict[Path, dict[str, str]] = {}
    found = []
    for picture in pictures:
        places = _label_places(home, picture)
        label = next((place for place in places if os.path.lexists(place)), None)
        for place in places if label is None else ():
            folder = place.parent
            if folder not in texts:
                texts[folder] = alike.by_form(splits.names_in(folder))
            if name := texts[folder].get(alike.form(place.name)):
                label = folder / name
                break
        found.append(label or picture.with_suffix(".txt"))
    return found


def _label_places(home: Path, picture: Path) -> list[Path]:
    """Where the text file of a picture may be, the likeliest first."""
    base = home if picture.is_relative_to(home) else Path(picture.anchor)  # data.yaml may lie apart
    parts = list(picture.relative_to(base).parts)
    folders = [picture.parent]
    for i in reversed(range(len(parts) - 1)):
        if parts[i].lower() in ("images", "jpegimages"):
            words = ("labels",) if parts[i] == "images" else ("labels", "Labels", "LABELS")
            folders = [base.joinpath(*parts[:i], w, *parts[i + 1 : -1]) for w in words] + folders
            break
    stem = picture.stem
    stems = dict.fromkeys([stem, urllib.parse.quote(stem), urllib.parse.unquote(stem)])
    return [folder / f"{one}.txt" for one in stems for folder in folders]


def existing_splits(root: Path, needs: Needs = BOXES) -> list[str]:
    """Splits by data.yaml, list files and folder names."""
    root = own(root)
    home, (_, content) = home_of(root), described(root)
    keys = {key for key in content if key in splits.WORDS}
    lists = {name[:-4] for name in splits.names_in(home) if name.endswith(".txt")} & splits.WORDS
    return sorted(keys | lists | _words(home).keys())
