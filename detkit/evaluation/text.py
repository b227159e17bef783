"""How tables show figures."""

from __future__ import annotations

from collections.abc import Sequence


def figure(value: float | None) -> str:
    """Three decimals, or – where nothing could be measured."""
    return "–" if value is None else f"{value:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of words as lines with aligned columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
