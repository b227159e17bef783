"""Which part of a data set a word like `train` means, and where in a folder things are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.data import images
from detkit.errors import DetkitError

SYNONYMS = (
    ("train", "training"),
    ("val", "valid", "validation", "dev"),
    ("test", "testing"),
    ("trainval",),
)
WORDS = frozenset(word for group in SYNONYMS for word in group)
ALL = "all"
BY_HASH = ("train", "val", ALL)  # the splits of a data set that came without any


def find(asked: str, existing: Collection[str]) -> str | None:
    """The existing split that was asked for, by its own name or a synonym (`val`, `valid`)."""
    for group in SYNONYMS:
        if asked in group:
            return next((name for name in (asked, *group) if name in existing), None)
    return asked if asked in existing else None


def missing(asked: str, existing: Collection[str], root: Path, remedy: str = "") -> DetkitError:
    """The error for a split that is not there, with those that are."""
    listed = ", ".join(sorted(existing)) or "none"
    return DetkitError(
        f"There is no split {asked!r}.",
        file=root,
        remedy=remedy or f"choose one that exists ({listed}), or name a list file.",
    )


def by_hash(names: Sequence[str], split: str, root: Path) -> tuple[NDArray[np.int64], str]:
    """A split for data without one: by SHA-256 of the names a fifth is `val`, the rest `train`.

    Returns:
        the chosen indices in order, and the sentence that tells the user.
    """
    wanted = find(split, BY_HASH)
    if wanted is None:
        raise missing(split, BY_HASH, root)
    if wanted == ALL:
        return np.arange(len(names)), f"all {len(names):,} images (no split)"
    digests = [hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in names]
    ranks = np.argsort(np.argsort(np.array(digests, "S32"), kind="stable"), kind="stable")
    held_out = ranks < -(-len(names) // 5) if len(names) > 1 else np.zeros(len(names), bool)
    chosen = np.flatnonzero(held_out if wanted == "val" else ~held_out)
    told = f"no split came with the data, so a fifth by hash of the file names is val: {wanted} has"
    return chosen, f"{told} {len(chosen):,} of {len(names):,} images"


def folders(root: Path, depth: int = 3) -> Iterator[Path]:
    """`root` and the folders below it, sorted, hidden ones left out."""
    yield root
    if depth:
        try:
            below = sorted(e.name for e in os.scandir(root) if _is_folder(e) and e.name[0] != ".")
        except OSError:
            return
        for name in below:
            yield from folders(root / name, depth - 1)


def names_in(folder: Path) -> list[str]:
    """The names of the files in a folder, sorted, hidden ones left out."""
    try:
        return sorted(e.name for e in os.scandir(folder) if e.name[0] != "." and not _is_folder(e))
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def images_in(folder: Path) -> dict[str, str]:
    """File name by stem of the pictures in a folder.

    Raises:
        DetkitError: two pictures share a stem, so that an annotation could mean either.
    """
    found: dict[str, str] = {}
    for name in names_in(folder):
        stem, dot, suffix = name.rpartition(".")
        if dot + suffix.lower() not in images.SUFFIXES:
            continue
        if stem in found:
            raise DetkitError(
                f"{found[stem]} and {name} would both be the image {stem!r}.",
                file=folder,
                remedy="rename or remove one of them.",
            )
        found[stem] = name
    return found


def below(root: Path, path: Path) -> str:
    """A path as seen from root, or whole if it is elsewhere."""
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def ids_of(root: Path, files: Sequence[Path]) -> list[str]:
    """The stem of each file; where two are the same, the path below root without its suffix."""
    stems = [file.stem for file in files]
    if len(set(stems)) == len(stems):
        return stems
    return [below(root, file.with_suffix("")) for file in files]


def word_of(folder: Path, root: Path) -> str | None:
    """The split that a folder's path below root names (`images/train` → train)."""
    parts = folder.relative_to(root).parts
    return next((part.lower() for part in parts if part.lower() in WORDS), None)


def read_list(path: Path) -> list[str]:
    """The lines of a list file, stripped, without the empty ones.

    Raises:
        DetkitError: missing, not text, empty, or a line that occurs twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as fault:
        raise DetkitError(
            f"The list cannot be read ({fault}).", file=path, remedy="write one image name a line."
        ) from fault
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line and first.setdefault(line, number) != number:
            raise DetkitError(
                f"{line!r} is listed twice, in lines {first[line]} and {number}.",
                file=path,
                remedy="remove one of the lines.",
            )
    if not first:
        raise DetkitError("The list is empty.", file=path, remedy="write one image name a line.")
    return list(first)


def class_names(path: Path) -> list[str]:
    """The names of a file with one a line, by number from 0.

    Raises:
        DetkitError: an empty line between two names (does it count?), or a name that occurs twice.
    """
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    names = [line.strip() for line in text.rstrip().splitlines()]
    for number, name in enumerate(names, 1):
        if not name or names.index(name) + 1 < number:
            raise DetkitError(
                f"The class {name!r} occurs twice." if name else "There is no class name here.",
                file=path,
                record=f"line {number}",
                remedy="write another name, or remove it: classes are numbered by their lines.",
            )
    return names
