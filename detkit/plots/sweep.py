"""`sweep.png`: the figure that each job of a sweep came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detkit.plots import canvas

LONGEST = 70  # letters of a job's settings


def draw(names: Sequence[str], values: Sequence[float | None], figure: str, file: Path) -> None:
    """Writes the picture and its numbers.

    Args:
        names: each job's own settings.
        values: what it came to, as a fraction of 1; None is drawn as nothing.
        figure: its key.
    """
    texts = [f"{n}  {canvas.short(name, LONGEST)}" for n, name in enumerate(names)]
    known = np.array([0.0 if value is None else value for value in values])
    with canvas.sheet(1000, 90 + 26 * len(names), names) as (sheet, axes):
        places = np.arange(len(names))
        best = known == known.max()
        axes.barh(places, known, color=["#2ca02c" if one else "#4c78a8" for one in best])
        axes.set_yticks(places, texts)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_title(f"{figure} of each job; the best is green")
        for place, value in enumerate(values):
            text = "–" if value is None else f"{value:.3f}"
            axes.annotate(f" {text}", (known[place], place), va="center", fontsize=8)
        axes.set_xlim(0, max(known.max() * 1.12, 0.01))
        jobs = [{"settings": n, "value": v} for n, v in zip(names, values, strict=True)]
        canvas.save(sheet, file, {"figure": figure, "jobs": jobs})
