"""Optimiser and schedule that fit a run's length, for whoever chose none.

The papers' recipes are made for some 90,000 steps: SGD, hundreds of steps of warm-up, a rate that
falls twice. In a few hundred steps they hardly get going.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detkit.evaluation.text import number

AUTO = "auto"
SHORT = 5_000  # steps
LR, BATCH, HIGHEST = 0.0005, 4, 0.001  # AdamW's rate for that batch; it grows with its square root
WARMUP, MOST = 0.1, 200  # share of a short run, and steps at most


def fitted(
    optimizer: Mapping[str, Any], schedule: Mapping[str, Any], steps: int, batch: int
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The settings with `auto` as what fits.

    Args:
        steps: of the whole run.
        batch: images a step.
    Returns:
        Those of the optimiser and of the schedule, and why in a line; empty if neither is `auto`.
    """
    automatic = [part for part in (optimizer, schedule) if part["name"] == AUTO]
    if not automatic:
        return dict(optimizer), dict(schedule), ""
    short = steps < SHORT
    rate = round(min(HIGHEST, LR * (batch / BATCH) ** 0.5), 6)
    own: dict[str, Any] = {"name": "sgd"}
    falls: dict[str, Any] = {"name": "multistep"}
    if short:
        own = {"name": "adamw", "lr": rate, "weight_decay": 0.0001}
        warmup = max(1, min(MOST, round(steps * WARMUP)))
        falls = {"name": "cosine", "warmup_steps": warmup, "final": 0.02}
    chosen = dict(own if optimizer["name"] == AUTO else optimizer)
    falling = dict(falls if schedule["name"] == AUTO else schedule)
    parts = " and ".join(
        new["name"]
        for new, old in ((chosen, optimizer), (falling, schedule))
        if old["name"] == AUTO
    )
    length = number(steps, "step")
    why = (
        f"{parts}, for a run of {length}, which is short (from {SHORT:,} on: sgd and multistep)"
        if short
        else f"{parts}, for a run of {length}, which is long (below {SHORT:,}: adamw and cosine)"
    )
    return chosen, falling, f"{why}; optimizer= and schedule= choose others"
