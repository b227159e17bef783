"""Where a picture is that a file names, also where that file was written on another machine.

Exports keep the folders of the machine they came from, Windows' backslashes, a server's prefix or
percent signs. Every list, JSON file and data.yaml asks here, so that all find the same.
"""

from __future__ import annotations

import itertools
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from detkit.data import alike, images, splits
from detkit.errors import DetkitError

_DRIVE = re.compile(r"^[A-Za-z]:")
_SERVER = re.compile(r"^\w{2,}://[^/]*")  # file://, https://host
_QUERY = "?d="  # Label Studio: /data/local-files/?d=folder/x.jpg


def spellings(name: str) -> list[str]:
    """The name, then what it would be with slashes, without a server, with percent signs read."""
    found = [name]
    for change in (
        lambda text: text.replace("\\", "/"),
        lambda text: _SERVER.sub("", text).rpartition(_QUERY)[2],
        lambda text: _DRIVE.sub("", text),
        lambda text: urllib.parse.unquote(text, errors="surrogateescape"),
    ):
        found += [change(text) for text in found]
    return list(dict.fromkeys(text for text in found if text.strip("/")))


def parts_of(name: str) -> tuple[str, ...]:
    """The folders and the file that a name of any machine consists of, without `..`."""
    slashed = next((text for text in spellings(name) if "\\" not in text), name)
    return tuple(part for part in PurePosixPath(slashed).parts if part not in ("/", "..", "."))


def pictures(
    names: Sequence[str],
    bases: Sequence[Path],
    root: Path,
    file: Path,
    rank: Callable[[Path], object] = lambda path: 0,
) -> tuple[list[Path], tuple[str, ...]]:
    """The picture of each name: where it says, else the one that the end of its path fits best.

    Args:
        names: paths as `file` writes them.
        bases: the folders that they may count from, the likeliest first: one that is nowhere is
            wanted there.
        root: the data set's folder, below which the others are looked for.
        rank: of several that fit as well, the one of the lowest rank is meant.
    Returns:
        a path each, which does not exist where nothing fits, and what to tell.
    Raises:
        DetkitError: two pictures fit a name as well, or two names one picture.
    """
    found = [exact([name], bases, root, splits.is_file) for name in names]
    lost = {n for n, place in enumerate(found) if place is None}
    by_name: dict[str, list[Path]] = {}
    for path in _below([root, *bases]) if lost else ():
        by_name.setdefault(alike.form(path.name), []).append(path)
    for n in sorted(lost):
        found[n] = exact(spellings(names[n]), bases, root, splits.is_file) or _fitting(
            names[n], by_name, root, file, rank
        )
    mended = [
        n
        for n, place in enumerate(found)
        if place is not None
        and (n in lost or (".." in names[n] and not as_written(place, names[n], bases)))
    ]
    _check_one_each(names, found, mended, file)
    paths = [place or _wanted(name, bases) for name, place in zip(names, found, strict=True)]
    if not mended:
        return paths, ()
    first = splits.below(root, paths[mended[0]])
    share = f"{len(mended):,} of {len(names):,} pictures are"
    note = f"{share} not where {splits.below(root, file)} says, and found by the end of their path"
    return paths, (f"{note}: {names[mended[0]]} is {first}",)


def exact(
    texts: Sequence[str], bases: Sequence[Path], root: Path, exists: Callable[[Path], bool]
) -> Path | None:
    """What a name means as it stands; inside the data set, where it is there and above it too.

    Args:
        texts: the spellings of the name.
        exists: whether a file, or a folder, is there.
    """
    above = None
    for text, base in itertools.product(texts, bases):
        place = _normal(base / text) if ".." in text else base / text
        if exists(place):
            if ".." not in text or place.is_relative_to(_normal(root)):
                return place
            above = above or place
    if above is None:
        return None
    inside = root.joinpath(*parts_of(texts[0]))
    return inside if exists(inside) else above


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))


def as_written(place: Path, name: str, bases: Sequence[Path]) -> bool:
    """Whether a name, taken literally, leads to the place."""
    return any(_normal(place) == _normal(base / name) for base in bases)


def folder(name: str, bases: Sequence[Path], root: Path) -> Path | None:
    """The folder, or the list, that a name means: as it stands, else by the end of its path.

    An end that no longer has the word of the split (`train`) could be any split's, and is none.
    """
    if place := exact(spellings(name), bases, root, os.path.exists):
        return place
    parts = parts_of(name)
    words = splits.WORDS.intersection(part.lower() for part in parts)
    ends = [parts[start:] for start in range(len(parts))]
    ends = [end for end in ends if words.issubset(part.lower() for part in end)]
    places = (root.joinpath(*end) for end in ends)
    if place := next((place for place in places if os.path.exists(place)), None):  # noqa: PTH110
        return place
    return next((place for end in ends if (place := alike.place(root, end))), None)


def _fitting(
    name: str,
    by_name: dict[str, list[Path]],
    root: Path,
    file: Path,
    rank: Callable[[Path], object],
) -> Path | None:
    """The picture with the longest end in common with the name; of equal ones the lowest rank's."""
    for parts in dict.fromkeys(parts_of(text) for text in spellings(name)):
        known = by_name.get(alike.form(parts[-1]), []) if parts else []
        if not known:
            continue
        common = {path: _common_end(parts, path.parts) for path in known}
        best = [path for path in known if common[path] == max(common.values())]
        best = [path for path in best if path.name == parts[-1]] or best
        lowest = min(map(rank, best))  # type: ignore[type-var]
        best = [path for path in best if rank(path) == lowest]
        if len({path.resolve() for path in best}) > 1:
            one, other, *more = sorted(splits.below(root, path) for path in best)
            others = f", and {len(more):,} more" if more else ""
            raise DetkitError(
                f"{name!r} is not there; {one} and {other} could both be meant{others}.",
                file=file,
                remedy="write each picture's path from the data set's folder, or move the other"
                " folder out of it.",
            )
        return best[0]
    return None


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    same = (alike.form(a) == alike.form(b) for a, b in pairs)
    return len(list(itertools.takewhile(bool, same)))


def _below(folders: Sequence[Path]) -> Iterator[Path]:
    """The pictures at or below the folders, each once."""
    seen = set()
    for start in folders:
        if start != folders[0] and folders[0].is_relative_to(start):
            continue  # above the data set
        for place in splits.folders(start):
            if place not in seen:
                seen.add(place)
                names = splits.names_in(place)
                yield from (place / name for name in names if images.is_image(Path(name)))


def _check_one_each(
    names: Sequence[str], found: Sequence[Path | None], mended: Sequence[int], file: Path
) -> None:
    """
    Raises:
        DetkitError: a picture that was looked for is that of another name as well.
    """
    first: dict[Path, int] = {}
    for n, place in enumerate(found if mended else ()):
        if place is None or first.setdefault(place, n) == n or names[first[place]] == names[n]:
            continue
        raise DetkitError(
            f"{names[first[place]]!r} and {names[n]!r} would both be the picture {place.name}.",
            file=file,
            remedy="put the pictures into folders as the names have them, or write the path of"
            " each from the data set's folder.",
        )


def _wanted(name: str, bases: Sequence[Path]) -> Path:
    """Where a picture that is nowhere would be found: a path that can be made on this machine."""
    foreign = "\\" in name or _DRIVE.match(name) or _SERVER.match(name)
    return bases[0].joinpath(*parts_of(name)[-1:]) if foreign else bases[0] / name
