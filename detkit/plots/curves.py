"""`curves.png`: how a run went so far: losses, learning rate, the figures on validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detkit import foreign
from detkit.plots import canvas

MOST = 1000  # points of a curve; more are thinned out
AT_BEST = {  # the score that `best/` is stored with
    "best/precision": "precision at the best score",
    "best/recall": "recall at the best score",
}
IN_USE = {  # where none is chosen
    "in_use/precision": "precision at the score in use",
    "in_use/recall": "recall at the score in use",
}
GREY = "#888888"  # the learning rate, on a scale of its own
INKS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195")


def draw(metrics: Path, keys: Sequence[str], file: Path) -> None:
    """Writes the picture and its numbers.

    Args:
        metrics: the run's metrics.jsonl.
        keys: the figures on validation that are shown, the one that chooses first.
    """
    rows = [json.loads(line) for line in foreign.read_text(metrics).splitlines()]
    found = {name: _column(rows, name) for row in rows for name in row if _shown(name, keys)}
    losses = {k: v for k, v in found.items() if k.startswith(("loss", "val_loss"))}
    named = AT_BEST if found.get("best/precision", ([], []))[0] else IN_USE
    figures = {k: found[k] for k in keys if k in found}
    figures |= {label: found[k] for k, label in named.items() if k in found}
    with canvas.sheet(1200, 420, keys, ncols=2) as (figure, (left, right)):
        _lines(left, losses, logarithmic=True)
        left.set_title("losses (logarithmic)")
        _lines(right, figures)
        if keys and (chooses := found.get(keys[0])):
            _star(right, *chooses)
        if "lr" in found:
            left.plot([], [], color=GREY, linewidth=1, label="learning rate (scale at the right)")
        for axes, lines in ((left, losses), (right, figures)):
            if lines:
                axes.legend(loc="best")
        right.set_title("figures on validation")
        right.set_ylim(_floor([value for _, values in figures.values() for value in values]), 1)
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.set_xlim(
                0, max([1, *(step for steps, _ in found.values() for step in steps)]) * 1.02
            )
        if rate := found.get("lr"):
            beside = left.twinx()
            steps, values = _thin(rate)
            few = "." if len(steps) <= 40 else None
            beside.plot(steps, values, color=GREY, linewidth=1, marker=few)
            beside.tick_params(colors=GREY)
            beside.set_ylim(0, None)
            beside.grid(visible=False)
            beside.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3), useMathText=False)
        canvas.save(figure, file, {name: {"step": s, "value": v} for name, (s, v) in found.items()})


def _shown(name: str, keys: Sequence[str]) -> bool:
    """Whether a metric has a curve; those of single classes have none."""
    kind = name.partition("/")[0]
    return name in (*keys, *AT_BEST, *IN_USE, "lr") or kind in ("loss", "val_loss")


def _column(rows: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    known = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in known], [value for _, value in known]


def _thin(points: tuple[list[int], list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Means of as many neighbours as leave `MOST` points."""
    steps, values = map(np.asarray, points)
    each = -(-len(steps) // MOST)
    if each <= 1:
        return steps, values
    starts = np.arange(0, len(steps), each)
    sizes = np.diff(np.append(starts, len(steps)))
    return steps[starts], np.add.reduceat(values, starts) / sizes


def plain(value: float, _: Any = None) -> str:
    """A tick's number: matplotlib's own of a logarithmic axis are formulas."""
    return f"{value:g}"


def _floor(values: Sequence[float]) -> float:
    """Where the axis of fractions begins: at 0, or a tenth below figures that are all high."""
    lowest = min(values, default=0.0)
    return np.floor(lowest * 10 - 1) / 10 if lowest > 0.5 else 0.0


def _star(axes: Any, steps: Sequence[int], values: Sequence[float]) -> None:
    """Marks the best value, the first of several: that of `best/`."""
    if values:
        place = int(np.argmax(values))
        label = f"best: {values[place]:.3f} at step {steps[place]:,}"
        look = {"marker": "*", "markersize": 13, "linestyle": "", "color": INKS[0]}
        axes.plot([steps[place]], [values[place]], label=label, zorder=5, **look)


def _lines(axes: Any, curves: dict[str, Any], logarithmic: bool = False) -> None:
    """Each in an ink of its own, that of the same loss for one on validation."""
    trained = [name for name in curves if not name.startswith("val_")]
    inks = {name: INKS[place % len(INKS)] for place, name in enumerate(trained)}
    for place, (name, points) in enumerate(curves.items()):
        steps, values = _thin(points)
        few = len(steps) <= 40
        axes.plot(
            steps,
            values,
            color=inks.get(name.removeprefix("val_"), INKS[-1]),
            linewidth=2 if place == 0 else 1.2,
            linestyle="--" if name.startswith("val_") else "-",
            marker="o" if few else None,
            markersize=3,
            label=name,
        )
        if logarithmic and (values > 0).all():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(plain)
            axes.yaxis.set_minor_formatter("")
