"""Which JSON file of a folder is a COCO split, and where its pictures are."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.data import splits
from detkit.errors import DetkitError

HEAD = 1 << 20  # bytes at either end of a JSON file, among which its keys are looked for
TRIED = 20  # images whose files are looked for before their folder counts as absent


def annotation_file(root: Path, split: str, annotations: str | None) -> tuple[Path, bool]:
    """The file, and whether it is the split as a whole."""
    named = annotations or (split if split.endswith(".json") else None)
    if named:
        places = (Path(named).expanduser(), root / named, root / "annotations" / named)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise DetkitError(
                "There is no such annotation file.",
                file=named,
                remedy="correct dataset.annotations, or the split if it is that file.",
            )
        return file, True
    files = candidates(root)
    by_word = {word: file for file in reversed(files) if (word := split_word(file, root))}
    word = splits.find(split, by_word)
    if word:
        return by_word[word], True
    if len(files) == 1 and not by_word:
        return files[0], False
    if not files:
        raise DetkitError(
            "There is no COCO annotation file.",
            file=root,
            remedy="set dataset.root to its folder, or dataset.annotations to the file.",
        )
    names = by_word or [str(file) for file in files]
    raise splits.missing(split, list(names), root, "" if by_word else "set dataset.annotations.")


def candidates(root: Path) -> list[Path]:
    """Annotation files at or below root; those called instances_… alone, if there are any."""
    if root.is_file():
        return [root] if root.suffix == ".json" and _has_keys(root) else []
    found = [
        folder / name
        for folder in splits.folders(root, depth=2)
        for name in splits.names_in(folder)
        if name.endswith(".json") and _has_keys(folder / name)
    ]
    return [file for file in found if file.name.startswith("instances")] or found


def _has_keys(file: Path) -> bool:
    """Whether a JSON file is an annotation file, from its beginning and end."""
    with file.open("rb") as stream:
        text = stream.read(HEAD)
        stream.seek(max(file.stat().st_size - HEAD, 0))
        text += stream.read(HEAD)
    keys = (b"images", b"annotations", b"categories")
    text = text.removeprefix(codecs.BOM_UTF8)
    return text.lstrip().startswith(b"{") and sum(_is_list(key, text) for key in keys) >= 2


def _is_list(key: bytes, text: bytes) -> bool:
    return re.search(rb'"%s"\s*:\s*\[' % key, text) is not None  # a run's meta.json counts images


def split_word(file: Path, root: Path) -> str | None:
    """The split a file is named for, by its name (`instances_val2014_100` → val) or its folder."""
    parts = [re.sub(r"\d+$", "", part.lower()) for part in re.split(r"[^A-Za-z0-9]+", file.stem)]
    named = next((part for part in parts if part in splits.WORDS), None)
    return named or (
        splits.word_of(file.parent, root) if file.parent.is_relative_to(root) else None
    )


def image_folder(
    home: Path, file: Path, images: Sequence[Mapping[str, Any]], split: str
) -> tuple[Path, bool]:
    """The folder that file names are relative to, and whether pictures are there at all."""
    word = split_word(file, home) or split
    folders = list(dict.fromkeys([file.parent, *splits.folders(home)]))
    folders.sort(key=lambda f: word not in f.name.lower())  # stable: the split's own first
    for image in images[:TRIED]:
        for folder in folders:
            if (folder / str(image.get("file_name"))).is_file():
                return folder, True
    return home, False
