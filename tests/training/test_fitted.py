"""Optimiser and schedule of a run that nobody chose them for."""

from __future__ import annotations

import pytest

from detkit.evaluation.text import number
from detkit.training.fitted import SHORT, fitted
from detkit.training.optimization import optimizers, schedules

AUTO = {"name": "auto"}


@pytest.mark.parametrize(
    ("steps", "batch", "optimizer", "lr", "schedule", "warmup"),
    [
        (325, 2, "adamw", 0.000354, "cosine", 32),
        (1, 4, "adamw", 0.0005, "cosine", 1),
        (SHORT - 1, 64, "adamw", 0.001, "cosine", 200),
        (SHORT, 2, "sgd", 0.0025, "multistep", 500),
    ],
)
def test_what_fits(steps, batch, optimizer, lr, schedule, warmup):
    chosen, falling, why = fitted(AUTO, AUTO, steps, batch)
    assert (chosen["name"], falling["name"]) == (optimizer, schedule)
    assert optimizers.complete(optimizer, chosen)["lr"] == lr
    assert schedules.complete(schedule, falling)["warmup_steps"] == warmup
    assert f"{optimizer} and {schedule}" in why
    assert f"a run of {number(steps, 'step')}" in why


def test_what_was_chosen_stays():
    sgd, constant = {"name": "sgd", "lr": 0.1}, {"name": "constant"}
    assert fitted(sgd, constant, 10, 2) == (sgd, constant, "")
    chosen, falling, why = fitted(sgd, AUTO, 10, 2)
    assert (chosen, falling["name"]) == (sgd, "cosine")
    assert why.startswith("cosine, ")
