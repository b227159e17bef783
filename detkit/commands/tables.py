"""The tables of measured figures in the texts, written from their rows.

Between `<!-- measured: docs/measured/*.json -->` and `<!-- measured: end -->` stands a table of the
files that the pattern names, a row each, in the order of their names; with `measured, short:` it
leaves out the commands and what has to be known beside a figure.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from detkit import foreign
from detkit.atomic import write_text
from detkit.commands.measured import Row, read
from detkit.errors import DetkitError

_BLOCK = re.compile(
    r"(<!-- measured(, short)?: (\S+\.json) -->\n)(.*?)(<!-- measured: end -->)", re.DOTALL
)
TEXTS = ("README.md", "docs/measured.md")
HEAD = ("what", "figure", "time", "how to get it again")


def tables(root: Path, check: bool = False) -> None:
    """Writes the tables of the texts.

    Args:
        root: the folder of the texts; patterns are relative to it.
        check: write nothing, but raise where a text would change.
    Raises:
        DetkitError: no table in the texts, a file that is no row, a row of `docs/measured` that is
            in no table or in two (short ones don't count); with `check` a table that disagrees with
            its rows.
    """
    texts = {file: foreign.read_text(file) for name in TEXTS if (file := root / name).is_file()}
    whole = [match[3] for text in texts.values() for match in _BLOCK.finditer(text) if not match[2]]
    if not whole:
        raise DetkitError("There is no table of rows.", file=root, remedy="add its two marks.")
    shown = [path for pattern in whole for path in root.glob(pattern)]
    for path in sorted((root / "docs" / "measured").rglob("*.json")):
        if shown.count(path) != 1:
            raise DetkitError(
                f"This row is in {shown.count(path)} tables.",
                file=path,
                remedy=f"{' or '.join(TEXTS)} names rows by <!-- measured: PATTERN.json -->:"
                " correct these.",
            )

    def written(match: re.Match[str]) -> str:
        rows = [read(path) for path in sorted(root.glob(match[3]))]
        return match[1] + table(rows, short=bool(match[2])) + match[5]

    for file, text in texts.items():
        new = _BLOCK.sub(written, text)
        if check and new != text:
            raise DetkitError(
                f"A table disagrees with its rows: {_difference(text, new)}",
                file=file,
                remedy="run python scripts/tables.py, which writes the tables from the rows.",
            )
        if not check and new != text:
            write_text(file, new)


def table(rows: Sequence[Row], short: bool = False) -> str:
    """The rows as Markdown, and below the table the machines that its letters stand for."""
    machines = list(dict.fromkeys(row.cpu for row in rows if row.cpu))
    letters = {cpu: chr(ord("A") + number) for number, cpu in enumerate(machines)}
    lines = [HEAD, ("---",) * len(HEAD)]
    for row in rows:
        time = " on ".join(filter(None, (duration(row), letters.get(row.cpu or ""))))
        lines.append((row.what, figure(row, short), time, f"`{row.command}`"))
    lines = [line[: 3 if short else None] for line in lines]
    text = "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)
    return text + "".join(f"\n{letters[cpu]}: {cpu}.\n" for cpu in machines)


def figure(row: Row, short: bool = False) -> str:
    """Mean and each seed's value, then what has to be known beside it."""
    if isinstance(row.figure, str):
        parts = [row.figure]
    else:
        values = [f"{key} {_value(value)}" for key, value in row.figure.items()]
        parts = [", ".join(values) + _seeds(row.seeds)]
    if short:
        return parts[0]
    parts += [f"paper: {row.paper}"] if row.paper else []
    return "; ".join([*parts, *filter(None, (row.note, row.cause))])


def _value(value: list[float | None] | str) -> str:
    if isinstance(value, str):
        return value
    each = ["–" if one is None else f"{one:.3f}" for one in value]
    known = [one for one in value if one is not None]
    if len(each) == 1 or not known:
        return ", ".join(each)
    return f"{statistics.fmean(known):.3f} ({', '.join(each)})"


def _seeds(seeds: list[int] | None) -> str:
    if not seeds:
        return ""
    if len(seeds) == 1:
        return f" (seed {seeds[0]})"
    return f"; mean of seeds {', '.join(map(str, seeds))}"


def duration(row: Row) -> str:
    """`4.6 min`, or from the shortest to the longest seed's, `12 to 13 min`."""
    known = [minutes for minutes in row.minutes or [] if minutes is not None]
    if not known:
        return ""
    ends = dict.fromkeys(f"{m:.1f}" if m < 9.95 else f"{m:.0f}" for m in (min(known), max(known)))
    return f"{' to '.join(ends)} min"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _difference(old: str, new: str) -> str:
    """The first line of one that the other lacks."""
    ours, theirs = old.splitlines(), new.splitlines()
    more = [line for line in theirs if line not in ours] or [s for s in ours if s not in theirs]
    return more[0] if more else "its lines stand in another order."
