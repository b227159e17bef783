"""Which part of a data set a word like `train` means, and where in a folder things are."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detkit import foreign, ours
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
FORMS: tuple[Literal["NFC"], Literal["NFD"]] = ("NFC", "NFD")
TWIN = (
    "a file that looks the same is there, but writes its accents in the other Unicode form (NFC,"
    " NFD): rename it, or write the name anew."
)
UNREAD = frozenset(
    [".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".tga", ".psd", ".svg", ".exr", ".hdr"]
    + [".dng", ".nef", ".cr2", ".arw", ".raw", ".dcm", ".mpo"]
)
CONVERT = "pictures of this kind are not read; convert them to PNG or JPEG"
LIST = "a list file with its suffix (such as mine.txt)"


def find(asked: str, existing: Collection[str]) -> str | None:
    """The existing split that was asked for, by its own name or a synonym (`val`, `valid`)."""
    for group in SYNONYMS:
        if asked in group:
            return next((name for name in (asked, *group) if name in existing), None)
    return asked if asked in existing else None


def missing(
    asked: str, existing: Collection[str], root: Path, takes: str | None = LIST
) -> DetkitError:
    """The error for a split that is not there, with those that are.

    Args:
        takes: the file that the format takes instead of a split's name, if it takes one.
    """
    listed = ", ".join(sorted(existing)) or "none"
    also = f"; these also name {takes}. Without any split a fifth is val." if takes else "."
    return DetkitError(
        f"There is no split {asked!r}.",
        file=root,
        remedy=f"choose one that exists ({listed}) with dataset.train_split=, dataset.val_split="
        f" or split={also}",
    )


def by_hash(
    names: Sequence[str],
    split: str,
    root: Path,
    takes: str | None = LIST,
    classes: NDArray[np.int64] | None = None,
    why: str = "no split came with the data",
) -> tuple[NDArray[np.int64], str]:
    """A split for data without one: by SHA-256 of the names a fifth is `val`, the rest `train`.

    Args:
        takes: see `missing`.
        classes: (len(names),) of each name, a fifth of each of which is `val`.
        why: the sentence begins with it.
    Returns:
        the chosen indices in order, and the sentence that tells the user.
    """
    parts = {part: find(part, BY_HASH) for part in split.split("+")}
    for part, found in parts.items():
        if found is None:
            raise missing(part, BY_HASH, root, takes)
    wanted = next(iter(parts.values())) if len(set(parts.values())) == 1 else ALL
    if wanted == ALL:
        return np.arange(len(names)), f"all {len(names):,} images (no split)"
    digests = [hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in names]
    held_out = _fifths(np.array(digests, "S32"), classes)
    chosen = np.flatnonzero(held_out if wanted == "val" else ~held_out)
    fifth = "a fifth" if classes is None else "a fifth of each class"
    told = f"{why}, so {fifth} by hash of the file names is val: {wanted} has"
    return chosen, f"{told} {len(chosen):,} of {len(names):,} images ({ALL}: every one)"


def _fifths(digests: NDArray, classes: NDArray | None) -> NDArray[np.bool_]:
    """Of each class the fifth, rounded up, with the lowest digests; none of a single one."""
    held_out = np.zeros(len(digests), bool)
    classes = np.zeros(len(digests), np.int64) if classes is None else classes
    order = np.argsort(digests, kind="stable")
    for one in np.unique(classes):
        members = order[classes[order] == one]
        held_out[members[: -(-len(members) // 5) if len(members) > 1 else 0]] = True
    return held_out


def folders(root: Path, depth: int = 3) -> Iterator[Path]:
    """`root` and the folders below it, sorted; hidden ones and detkit's own are left out."""
    return (folder for folder, is_output in _walk(root, depth) if not is_output)


def outputs(root: Path, depth: int = 3) -> list[Path]:
    """The folders below root that detkit wrote, which are no data."""
    return [folder for folder, is_output in _walk(root, depth) if is_output]


def _walk(root: Path, depth: int) -> Iterator[tuple[Path, bool]]:
    yield root, False
    if depth:
        try:
            below = sorted(e.name for e in os.scandir(root) if _is(e.is_dir) and e.name[0] != ".")
        except OSError:
            return
        for name in below:
            if _is_output(root / name):
                yield root / name, True
            else:
                yield from _walk(root / name, depth - 1)


def _is_output(folder: Path) -> bool:
    """Whether detkit wrote the folder, a run or predictions: the pictures there are drawn ones."""
    if ours.is_run(folder / "run.json"):
        return True
    tables = (folder / "predictions.csv", folder / "predictions.partial.csv")  # ended too early
    return any(ours.is_table(table) for table in tables)


def names_in(folder: Path) -> list[str]:
    """The names of the files in a folder, sorted; hidden ones and links to nothing are left out."""
    try:
        return sorted(e.name for e in os.scandir(folder) if e.name[0] != "." and _is(e.is_file))
    except OSError:
        return []


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link to itself
        return False


def twin(path: Path) -> Path | None:
    """The file whose name looks the same: é as one character (NFC), or as e and an accent (NFD)."""
    name, whole = path.name, str(path)
    forms = [(unicodedata.normalize(f, name), unicodedata.normalize(f, whole)) for f in FORMS]
    others = [place for name, whole in forms for place in (path.parent / name, Path(whole))]
    return next((other for other in others if other != path and is_file(other)), None)


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that cannot be one (too long) is none."""
    return foreign.is_file(path)


def with_twin(fault: DetkitError) -> DetkitError:
    """The error of a file that is not there, with the one that may be meant and lies there."""
    path = Path(fault.file or "")
    if not path.name or is_file(path):
        return fault
    if twin(path) is not None:
        return DetkitError(fault.problem, file=path, record=fault.record, remedy=TWIN)
    for name in names_in(path.parent):
        if Path(name).stem == path.stem and Path(name).suffix.lower() in UNREAD:
            remedy = f"{name} is there: {CONVERT}."
            return DetkitError(fault.problem, file=path, record=fault.record, remedy=remedy)
    return fault


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


def unreadable(path: Path, fault: OSError) -> DetkitError:
    """The error for a file that is there, or is named, and cannot be read."""
    return DetkitError(
        f"The file cannot be read ({fault.strerror}).",
        file=path,
        remedy="allow reading it, or remove it (or the link to nothing that it is).",
    )


def below(root: Path, path: Path) -> str:
    """A path as seen from root, or whole if it is elsewhere."""
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def merged(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    """What to tell of pictures, or annotations, in several folders, of which no file says so."""
    places = list(dict.fromkeys(below(root, file.parent) for file in files))
    if len(places) < 2:
        return ()
    shown = ", ".join(places[:3]) + (" …" if len(places) > 3 else "")
    return (f"{len(places):,} folders are read as one data set: {shown}",)


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
        lines = [line.strip() for line in foreign.read_text(path).splitlines()]
    except OSError as fault:
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
        DetkitError: the file cannot be read, an empty line between two names (does it count?), or
            a name that occurs twice.
    """
    try:
        text = foreign.read_text(path)
    except OSError as fault:
        raise unreadable(path, fault) from fault
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
