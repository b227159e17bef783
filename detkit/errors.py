"""The one exception that detkit raises on purpose: what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class DetkitError(Exception):
    """A mistake in the input, told in the user's terms.

    Args:
        problem: one sentence: what is wrong, with the offending value.
        file: the file that it is in.
        record: the place inside the file (a line, an object, a key).
        remedy: what to do about it, as an imperative.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        record: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.file, self.record, self.remedy = problem, file, record, remedy
        super().__init__(problem, file, record, remedy)

    def __str__(self) -> str:
        place = ", ".join(str(part) for part in (self.file, self.record) if part is not None)
        text = f"{place}: {self.problem}" if place else self.problem
        return f"{text}\n  Remedy: {self.remedy}" if self.remedy else text

    def __reduce__(self):  # keyword-only arguments have to survive the way out of a worker process
        return _rebuild, (self.problem, self.file, self.record, self.remedy)


def _rebuild(
    problem: str, file: str | Path | None, record: str | None, remedy: str | None
) -> DetkitError:
    return DetkitError(problem, file=file, record=record, remedy=remedy)


class UnknownName(DetkitError):
    """A name that does not exist."""


def unknown(kind: str, name: str, known: Iterable[str], remedy: str | None = None) -> DetkitError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return UnknownName(
        f"No {kind} {name!r}.{hint}",
        remedy=remedy or f"choose one of: {', '.join(names) or '(none)'}.",
    )
