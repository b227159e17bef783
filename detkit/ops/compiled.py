"""Loops that NumPy has no word for, compiled by numba at their first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: `function` as machine code, kept on disk for the next process where it may be.

    No fast arithmetic: sums keep their order, so results do not depend on the processor.
    """
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # no folder that numba may write to
        return numba.njit(function)
