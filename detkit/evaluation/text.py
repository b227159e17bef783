"""How tables and messages show figures."""

from __future__ import annotations

from collections.abc import Sequence


def figure(value: float | None) -> str:
    """Three decimals, or – where nothing could be measured."""
    return "–" if value is None else f"{value:.3f}"


def number(count: int, word: str) -> str:
    """`1 step`, `12 classes`."""
    ending = "" if count == 1 else "es" if word.endswith("s") else "s"
    return f"{count:,} {word}{ending}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of words as lines with aligned columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def condensed(
    rows: Sequence[Sequence[str]], most: int = 20, beside: Sequence[int] = ()
) -> tuple[list[Sequence[str]], list[str]]:
    """Rows of a long table without those that say nothing, and a line that counts these.

    Args:
        rows: of words, a name first.
        most: rows up to which a table is left as it is.
        beside: columns that say nothing of the row by themselves, such as the score asked for.
    """
    silent = [
        row
        for row in rows
        if {row[k] for k in range(1, len(row)) if k not in beside} <= {"0.000", "–"}
    ]
    if len(rows) <= most or len(silent) < 2:
        return list(rows), []
    few = ", ".join(row[0] for row in silent[:5]) + (", …" if len(silent) > 5 else "")
    kept = [row for row in rows if row not in silent]
    return kept, [f"and {len(silent):,} at 0.000 or –: {few}"]
