"""A folder a class: what a picture shows is the name of the folder that it is in.

Layouts: `train/CLASS/x.jpg` and `val/CLASS/…` (also below a folder such as `images/`, or with
folders below the class), `CLASS/train/x.jpg`, or `CLASS/x.jpg` without splits. Class names are the
folders', alphabetically over all splits, so that every split numbers them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np

from detkit.data import checks, splits
from detkit.data import images as decoder
from detkit.data.draft import Draft, absent_class, class_list
from detkit.data.formats import BOXES, LABELS, PIXELS, Needs, beside, formats
from detkit.data.records import Records
from detkit.errors import DetkitError, unknown

NAME = "image_folder"
LOOKS_FOR = "folders named by their class with pictures in them, such as train/cat/1.jpg"
DEPTH = 5  # folders below the root among which classes are looked for


@dataclass(frozen=True)
class Folder:
    """A folder with pictures.

    Attributes:
        path, files: of it, and the names in it.
        split: that its path names, empty where it names none.
        label: the class's name, None where no folder is one.
    """

    path: Path
    files: tuple[str, ...]
    split: str
    label: str | None


@formats.register(NAME)
def read(
    root: Path,
    split: str,
    *,
    needs: Needs = LABELS,
    classes: Sequence[str] | None = None,
    unknown_classes: str = "error",
    bad_images: str = "error",
) -> Records:
    """Read one split.

    Args:
        root: the folder.
        split: the name of a split's folder, several joined with `+`, or `all`; without any split a
            fifth of each class is `val` by hash.
        needs: `image_labels`; there is nothing else here.
        classes: the class list, in this order; by default the folders' names, alphabetically.
        unknown_classes: what to do with folders that are not in `classes`: `error` or `drop`.
        bad_images: see `detkit.data.checks.finish`.
    Raises:
        DetkitError: no class folders, no such split, a class without a folder or the reverse.
    """
    if "image_labels" not in needs:
        raise DetkitError(
            f"Folders of classes hold no {' and no '.join(sorted(needs))}.",
            file=root,
            remedy="choose a classifier (model=classifier), or a data set with boxes or masks.",
        )
    found = class_folders(root)
    named = sorted({folder.label for folder in found if folder.label is not None})
    if not named:
        raise DetkitError(
            "There are no folders of classes with pictures.",
            file=root,
            remedy=f"lay out {LOOKS_FOR}.",
        )
    names, label = class_list(named, classes)
    if absent := [name for name in names if name not in named]:
        raise absent_class(absent[0], named, root)
    label_of = dict(zip(named, label, strict=True))
    chosen = [folder for folder in found if folder.label is not None]
    chosen, left_out = _known(chosen, label_of, unknown_classes, root)
    members = [(f, name) for f in _of_split(chosen, split, root) for name in f.files]
    labels = np.array([label_of[str(folder.label)] for folder, _ in members], np.int64)
    files = [splits.below(root, folder.path / name) for folder, name in members]
    how = f"the folders of {split}"
    if not any(folder.split for folder in chosen):
        indices, how = splits.by_hash(files, split, root, None, labels)
        files, labels = [files[i] for i in indices], labels[indices]
    draft = Draft(
        root=root,
        source=f"folders of classes, {how}",
        names=names,
        files=files,
        image_ids=files,
        annotation_files=[str(Path(file).parent) for file in files],
        counts=[0] * len(files),
        boxes=np.zeros((0, 4)),
        labels=np.zeros(0, np.int64),
        numbers=np.zeros(0, np.int64),
        image_labels=labels,
        notes=(*left_out, *_notes(root, found)),
    )
    return checks.finish(draft, images=True, bad_boxes="error", bad_images=bad_images)


def recognises(root: Path, needs: Needs = LABELS) -> str | None:
    """Why these are folders of classes: their names. None if there are not two, or annotations."""
    if "image_labels" not in needs or not root.is_dir():
        return None
    found = class_folders(root)
    names = sorted({folder.label for folder in found if folder.label is not None})
    if len(names) < 2 or _annotated(root):
        return None
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    return f"{len(names):,} folders of classes with pictures: {shown}"


def existing_splits(root: Path, needs: Needs = LABELS) -> list[str]:
    """The splits that folders are named for."""
    labelled = (folder for folder in class_folders(root) if folder.label is not None)
    return sorted({folder.split for folder in labelled} - {""})


def class_folders(root: Path) -> list[Folder]:
    """The folders with pictures at or below root, each with its split and class.

    Where some name a split and a class, the others have no class. Where none does, the class is the
    first folder in which their paths differ; `train` is one only among others (a railway's).
    """
    pictures = {
        folder: files
        for folder in splits.folders(root, DEPTH)
        if (files := tuple(n for n in splits.names_in(folder) if decoder.is_image(Path(n))))
    }
    places = {folder: _split_and_class(folder.relative_to(root).parts) for folder in pictures}
    if not any(split and label for split, label in places.values()):
        paths = [folder.relative_to(root).parts for folder in pictures if folder != root]
        above = zip(*(path[:-1] for path in paths), strict=False)  # as deep as the least of them
        common = len(list(takewhile(lambda level: len(set(level)) == 1, above)))
        places = {
            folder: ("", next(iter(folder.relative_to(root).parts[common:]), None))
            for folder in pictures
        }
        words = {label for _, label in places.values() if label and label.lower() in splits.WORDS}
        if len(words) > 1 or len(words) == len({label for _, label in places.values()}):
            places = dict.fromkeys(pictures, ("", None))  # splits without classes
    else:
        places = {f: (s, c) if s and c else ("", None) for f, (s, c) in places.items()}
    return [Folder(folder, files, *places[folder]) for folder, files in pictures.items()]


def _split_and_class(parts: Sequence[str]) -> tuple[str, str | None]:
    """`images/train/cat/old` and `cat/train` → train, cat."""
    for i, part in enumerate(parts):
        if part.lower() in splits.WORDS:
            beside_it = parts[i + 1 : i + 2] or parts[:i][-1:]
            return part.lower(), beside_it[0] if beside_it else None
    return "", None


def _annotated(root: Path) -> bool:
    """Whether the folder holds boxes or masks in another format, whose folders are no classes."""
    for name in formats.names():
        ask = beside(name, "recognises")
        for needs in (BOXES, PIXELS) if ask and name != NAME else ():
            with suppress(DetkitError):  # not readable as that
                if ask(root, needs):
                    return True
    return False


def _known(
    found: list[Folder], label_of: dict[str, int], unknown_classes: str, root: Path
) -> tuple[list[Folder], tuple[str, ...]]:
    """The folders of the class list, and what to tell of the others."""
    if unknown_classes not in ("error", "drop"):
        raise unknown("choice for dataset.unknown_classes", unknown_classes, ("error", "drop"))
    strange = [folder for folder in found if label_of[str(folder.label)] < 0]
    if not strange:
        return found, ()
    others = ", ".join(sorted({str(folder.label) for folder in strange}))
    if unknown_classes == "error":
        raise DetkitError(
            f"The folder {strange[0].label!r} is no class of dataset.classes.",
            file=strange[0].path,
            remedy="add it to dataset.classes, or leave such folders out with"
            f" dataset.unknown_classes=drop ({others}).",
        )
    kept = [folder for folder in found if label_of[str(folder.label)] >= 0]
    return kept, (f"left out folders of other classes: {others}",)


def _of_split(found: list[Folder], split: str, root: Path) -> list[Folder]:
    """Those of one split, or of several joined with `+`; all where there are no splits."""
    existing = {folder.split for folder in found} - {""}
    if not existing or split == splits.ALL:
        return found
    words = {word: splits.find(word, existing) for word in split.split("+")}
    if absent := [word for word, there in words.items() if there is None]:
        raise splits.missing(absent[0], existing, root, None)
    return [folder for folder in found if folder.split in words.values()]


def _notes(root: Path, found: list[Folder]) -> list[str]:
    """Pictures that are in no class's folder, and folders of classes without pictures."""
    notes = [
        f"left out {len(folder.files):,} pictures of {folder.path}, which is no class's folder"
        for folder in found
        if folder.label is None
    ]
    beside_classes = {folder.path.parent for folder in found if folder.label == folder.path.name}
    filled = {folder.path for folder in found}
    empty = [
        splits.below(root, folder)
        for folder in splits.folders(root, DEPTH)
        if folder.parent in beside_classes and not any(p.is_relative_to(folder) for p in filled)
    ]
    if empty:
        notes.append(f"folders without pictures: {', '.join(empty)}")
    return notes
