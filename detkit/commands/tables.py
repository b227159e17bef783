"""The tables of measured figures in a text, written from their rows.

Between `<!-- measured: docs/measured/*.json -->` and `<!-- measured: end -->` stands a table of the
files that the pattern names, a row each, in the order of their names.
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

_BLOCK = re.compile(r"(<!-- measured: (\S+\.json) -->\n)(.*?)(<!-- measured: end -->)", re.DOTALL)
HEAD = ("what", "figure", "time", "how to get it again")


def tables(file: Path, check: bool = False) -> None:
    """Writes the tables of a text.

    Args:
        file: the text; patterns are relative to its folder.
        check: write nothing, but raise where the text would change.
    Raises:
        DetkitError: no table in the text, a file that is no row, a row of `docs/measured` that is
            in no table or in two; with `check` a table that disagrees with its rows.
    """
    text = foreign.read_text(file)
    blocks = {match[2]: match[3] for match in _BLOCK.finditer(text)}
    rows = {pattern: sorted(file.parent.glob(pattern)) for pattern in blocks}
    shown = [path for paths in rows.values() for path in paths]
    for path in sorted((file.parent / "docs" / "measured").rglob("*.json")):
        if shown.count(path) != 1:
            raise DetkitError(
                f"This row is in {shown.count(path)} tables.",
                file=path,
                remedy=f"{file.name} names rows by <!-- measured: PATTERN.json -->: correct these.",
            )
    if not shown:
        raise DetkitError("There is no table of rows.", file=file, remedy="add its two marks.")
    new = {pattern: table([read(path) for path in paths]) for pattern, paths in rows.items()}
    for pattern, block in blocks.items():
        if check and block != new[pattern]:
            raise DetkitError(
                f"The table disagrees with its rows: {_difference(block, new[pattern])}",
                file=file,
                record=pattern,
                remedy="run python scripts/tables.py, which writes the tables from the rows.",
            )
    if not check:
        write_text(file, _BLOCK.sub(lambda match: match[1] + new[match[2]] + match[4], text))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, and below the table the machines that its letters stand for."""
    machines = list(dict.fromkeys(row.cpu for row in rows if row.cpu))
    letters = {cpu: chr(ord("A") + number) for number, cpu in enumerate(machines)}
    lines = [HEAD, ("---",) * len(HEAD)]
    for row in rows:
        time = " on ".join(filter(None, (duration(row), letters.get(row.cpu or ""))))
        lines.append((row.what, figure(row), time, f"`{row.command}`"))
    text = "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)
    return text + "".join(f"\n{letters[cpu]}: {cpu}.\n" for cpu in machines)


def figure(row: Row) -> str:
    """Mean and each seed's value, then what has to be known beside it."""
    if isinstance(row.figure, str):
        parts = [row.figure]
    else:
        values = [f"{key} {_value(value)}" for key, value in row.figure.items()]
        parts = [", ".join(values) + _seeds(row.seeds)]
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
