"""Names that look alike: in other cases, or with accents in the other Unicode form (NFC, NFD).

Windows and macOS take them for one file, Linux does not: what met on one machine parts on another.
The own spelling always comes first, and what two names could mean is nobody's.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def form(name: str) -> str:
    """What names that look alike have in common."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def by_form(names: Iterable[str]) -> dict[str, str]:
    """Each name by its form, without those that look like another one."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(form(name), []).append(name)
    return {key: same[0] for key, same in found.items() if len(same) == 1}


def respelt(found: Mapping[str, T], wanted: Collection[str]) -> dict[str, T]:
    """`found` in its order, where a key that is not wanted has the spelling of one that is."""
    absent = by_form(name for name in wanted if name not in found)
    if not absent:
        return dict(found)
    near = by_form(name for name in found if name not in wanted)
    new = {near[key]: name for key, name in absent.items() if key in near}
    return {new.get(name, name): value for name, value in found.items()}


def place(base: Path, parts: Sequence[str]) -> Path | None:
    """What lies at a path below base, each part in whatever spelling; None for nothing, or two."""
    for part in parts:
        if not os.path.lexists(base / part):
            try:
                near = by_form(path.name for path in base.iterdir()).get(form(part))
            except OSError:
                return None
            if near is None:
                return None
            part = near
        base = base / part
    return base


def note(pairs: Iterable[tuple[str, str]], what: str) -> tuple[str, ...]:
    """What to tell of names that stand in a file otherwise than on the disk.

    Args:
        pairs: each as it is on the disk, and as it is written.
        what: they are, in the plural.
    """
    other = [(there, written) for there, written in pairs if there != written]
    if not other:
        return ()
    there, written = other[0]
    return (
        f"{len(other):,} {what} are spelt otherwise (upper and lower case, or the Unicode form of"
        f" their accents), and read. First: {there} for {written}",
    )


def note_of_classes(names: Sequence[str]) -> tuple[str, ...]:
    """What to tell of classes that may be meant as one."""
    by_form: dict[str, list[str]] = {}
    for name in names:
        by_form.setdefault(form(name), []).append(name)
    return tuple(
        f"the classes {' and '.join(map(repr, same))} are {len(same)}, though they look alike"
        for same in by_form.values()
        if len(same) > 1
    )
