"""Which JSON file of a folder is a COCO split, and where its pictures are."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit import foreign
from detkit.data import named, splits
from detkit.data.images import is_image
from detkit.errors import DetkitError
from detkit.folders import in_home

SUFFIX = ".json"
INSTANCES = "instances"
OTHERS = ("captions", "image_info", "panoptic", "person_keypoints", "stuff")  # COCO's other files
HEAD = 1 << 20  # bytes at either end of a JSON file, among which its keys are looked for
LISTED = "an annotation file (.json)"  # what may stand for a split's name
TRIED = 20  # images whose files are looked for before their folder counts as absent


def annotation_file(root: Path, split: str, annotations: str | None) -> tuple[Path, bool]:
    """The file, and whether it is the split as a whole."""
    named = annotations or (split if split.lower().endswith(SUFFIX) else None)
    if named:
        places = (in_home(named), root / named, root / "annotations" / named)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise DetkitError(
                "There is no such annotation file.",
                file=named,
                remedy="correct dataset.annotations, or the split if it is that file.",
            )
        return file, True
    files = candidates(root)
    by_word: dict[str, list[Path]] = {}
    for file in files:
        if word := split_word(file, root):
            by_word.setdefault(word, []).append(file)
    if word := splits.find(split, by_word):
        return _only_file(by_word[word], word, root), True
    if len(files) == 1 and not by_word:
        return files[0], False
    if not files:
        raise DetkitError(
            "There is no COCO annotation file.",
            file=root,
            remedy="set dataset.root to its folder, or dataset.annotations to the file.",
        )
    if by_word:
        raise splits.missing(split, by_word, root, LISTED)
    raise DetkitError(
        f"None of these annotation files is named for the split {split!r}: "
        f"{', '.join(splits.below(root, file) for file in files)}.",
        file=root,
        remedy="choose one with dataset.annotations, or as dataset.train_split and val_split.",
    )


def _only_file(files: Sequence[Path], word: str, root: Path) -> Path:
    """The one file of a split, or of several the one that is called nothing else.

    Raises:
        DetkitError: none is.
    """
    plain = [
        f for f in files if set(_parts(f.stem)) - {"", "annotations", "coco"} <= {INSTANCES, word}
    ]
    chosen = files if len(files) == 1 else plain
    if len(chosen) == 1:
        return chosen[0]
    one, other, *more = sorted(splits.below(root, file) for file in files)
    others = f", and {len(more):,} more" if more else ""
    raise DetkitError(
        f"{one} and {other} could both be the split {word!r}{others}.",
        file=root,
        remedy=f"choose one with dataset.train_split={one} (dataset.val_split=…), or set"
        " dataset.root to the folder of one data set.",
    )


def candidates(root: Path) -> list[Path]:
    """Annotation files at or below root; beside instances_… without COCO's files of other kinds."""
    if root.is_file():
        return [root] if root.suffix.lower() == SUFFIX and _has_keys(root) else []
    found = [
        folder / name
        for folder in splits.folders(root, depth=2)
        for name in splits.names_in(folder)
        if name.lower().endswith(SUFFIX) and _has_keys(folder / name)
    ]
    if not any(file.name.startswith(INSTANCES) for file in found):
        return found
    return [file for file in found if not file.name.startswith(OTHERS)]


def _has_keys(file: Path) -> bool:
    """Whether a JSON file is an annotation file, from its beginning and end."""
    try:
        with foreign.opened(file) as stream:
            text = stream.read(HEAD)
            stream.seek(max(file.stat().st_size - HEAD, 0))
            text += stream.read(HEAD)
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = foreign.glance(file).encode("utf-8", "replace")
    except OSError as fault:
        raise splits.unreadable(file, fault) from fault
    keys = [key for key in (b"images", b"annotations", b"categories") if _is_list(key, text)]
    other = b'"segments_info"' in text or (b'"caption"' in text and b"categories" not in keys)
    text = text.removeprefix(codecs.BOM_UTF8)
    return text.lstrip().startswith(b"{") and len(keys) >= 2 and not other


def _is_list(key: bytes, text: bytes) -> bool:
    return re.search(rb'"%s"\s*:\s*\[' % key, text) is not None  # a run's meta.json counts images


def split_word(file: Path, root: Path) -> str | None:
    """The split a file is named for, by its name (`instances_val2014_100` → val) or its folder."""
    named = next((part for part in _parts(file.stem) if part in splits.WORDS), None)
    return named or (
        splits.word_of(file.parent, root) if file.parent.is_relative_to(root) else None
    )


def _parts(name: str) -> list[str]:
    """The words of a name, without the numbers behind them (`val2014_100` → val)."""
    return [re.sub(r"\d+$", "", part.lower()) for part in re.split(r"[^A-Za-z0-9]+", name)]


def pictures(
    home: Path, file: Path, images: Sequence[Mapping[str, Any]], split: str, needed: bool
) -> tuple[list[Path], bool, tuple[str, ...]]:
    """The path of each image's picture, whether there are any, and what to tell.

    Args:
        needed: the pictures will be read; else only some are looked for.
    Raises:
        DetkitError: several pictures fit a name, and nobody knows which is meant.
    """
    word = split_word(file, home) or split
    folders = dict.fromkeys([file.parent, *splits.folders(home)])
    rank = {f: (not _is_of(f, home, word), f != file.parent) for f in folders}
    names = [image["file_name"] for image in images]
    folder = _image_folder(home, names, rank, needed)
    if folder and not needed:
        return [folder / name for name in names], True, ()
    asked = names if needed else names[:TRIED]
    bases = list(dict.fromkeys([folder or file.parent, home]))
    last = (True, True)
    found, notes = named.pictures(
        asked,
        bases[::-1] if folder is None else bases,
        home,
        file,
        lambda path: rank.get(path.parent, last),
    )
    there = any(map(splits.is_file, found))
    wanted = found + [(folder or home) / name for name in names[len(found) :]]
    return wanted, there or folder is not None, notes


def _image_folder(
    home: Path, names: Sequence[str], rank: Mapping[Path, tuple[bool, bool]], needed: bool
) -> Path | None:
    """The folder that file names are relative to; None if the first ones are in none.

    The split's own folders come first, then the one that the annotation file is in.

    Raises:
        DetkitError: several folders hold the first picture, and nobody knows which is meant.
    """
    for name in names[:TRIED]:
        holding = [folder for folder in rank if _holds(folder, name)]
        if holding:
            best = min(rank[folder] for folder in holding)
            fitting = [folder for folder in holding if rank[folder] == best]
            return _only(fitting, name, home) if needed else fitting[0]
    return None


def unlisted_pictures(home: Path, file: Path, paths: Sequence[Path]) -> tuple[str, ...]:
    """What to tell of pictures that lie among the others, and that the file does not name."""
    listed = set(paths)
    folders = dict.fromkeys(path.parent for path in paths)
    there = [f / name for f in folders for name in splits.names_in(f) if is_image(Path(name))]
    left = [path for path in there if path not in listed]
    if not left:
        return ()
    first = splits.below(home, left[0])
    name = splits.below(home, file)
    return (f"left out {len(left):,} pictures that {name} does not name. First: {first}",)


def _is_of(folder: Path, home: Path, word: str) -> bool:
    """Whether a folder's path below home names a split (`images/val2017`, `valid` → val)."""
    parts = folder.relative_to(home).parts if folder.is_relative_to(home) else (folder.name,)
    named = (word in part.lower() or splits.find(word, _parts(part)) for part in parts)
    return word in splits.WORDS and any(named)


def _holds(folder: Path, name: str) -> bool:
    return splits.is_file(folder / name) or splits.twin(folder / name) is not None


def _only(folders: Sequence[Path], name: str, home: Path) -> Path:
    """The one folder that holds the picture; links to the same one count once."""
    different = {(folder / name).resolve(): folder for folder in reversed(folders)}
    if len(different) > 1:
        first, second, *more = sorted(splits.below(home, f / name) for f in different.values())
        others = f", and {len(more):,} more" if more else ""
        raise DetkitError(
            f"{first} and {second} could both be the picture {name!r}{others}.",
            file=home,
            remedy="write the folder into each file_name, or move the other folder out of here.",
        )
    return folders[0]
