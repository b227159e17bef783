"""COCO's run lengths of a mask, looked at before pycocotools decodes them: it does not check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def sound(counts: object, pixels: int) -> bool:
    """Whether run lengths, a list or COCO's compressed text, are those of so many pixels."""
    runs: Any = counts if isinstance(counts, list) else unpacked(counts)
    whole = all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in runs)
    return whole and bool(runs) and sum(runs) == pixels


def packed(counts: str | Sequence[int], height: int, width: int) -> str:
    """Sound run lengths as COCO's compressed text."""
    from pycocotools import mask

    if isinstance(counts, str):
        return counts
    record = mask.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width)
    return record["counts"].decode()


def unpacked(text: object) -> list[int]:
    """The run lengths of COCO's compressed text; none if it is no such thing.

    Each is six bits a character, five of them digits from the lowest on and one for "goes on", the
    last digit signed; from the fourth on they are differences from the one two before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text if isinstance(text, str) else "":
        code = ord(character) - 48
        if not 0 <= code < 64:
            return []
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return [] if shift else runs
