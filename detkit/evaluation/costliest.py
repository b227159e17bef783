"""The images with the costliest mistakes, while images come: a few are kept, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST = 8  # images


@dataclass(frozen=True)
class Costly:
    """An image that was mistaken.

    Attributes:
        cost: of its mistakes, more is worse; 0 where there is none.
        index: of the image in the records.
        found: what it was taken for, as whoever draws it needs it.
    """

    cost: float
    index: int
    found: Any


def costliest(*parts: Sequence[Costly]) -> list[Costly]:
    """The `MOST` of all parts that cost most, of equal ones the first in the data set."""
    mistaken = [one for part in parts for one in part if one.cost > 0]
    return sorted(mistaken, key=lambda one: (-one.cost, one.index))[:MOST]
