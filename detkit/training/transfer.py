"""Transfer learning: two stages around a model of one, where some of its weights were loaded.

    steps:  0          head_first · steps                    steps
            head ──────▶ train ─────────────────────────────▶
            what has no  everything, at `optimizer.rates`
            loaded weights

`backbone.frozen_stages` keeps weights as they are for ever, `training.head_first` for a while.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from detkit.backbones import from_run
from detkit.errors import DetkitError
from detkit.models.model import Model
from detkit.models.stages import Stage
from detkit.training.recipe import Interval, below, stage_names

LEAVE = "leave training.head_first out, or "
RESTORE = "restore the run's last/, or start a new run from the weights with weights=."


def stages_of(
    model: Model,
    head_first: float | None,
    transferred: Mapping[str, Any] | None,
    first: Sequence[str] | None = None,
) -> Sequence[Stage]:
    """The model's own stages; with `training.head_first` the two around its one.

    Args:
        model: as the run starts.
        head_first: share of the steps that the first stage has; None or 0 is no such stage.
        transferred: what `restore.transfer` gave, for a run with `weights=`.
        first: of a run that goes on: the prefixes of what learns first.
    Raises:
        DetkitError: a model with stages of its own, or with nothing or everything loaded.
    """
    own = model.stages()
    if not head_first:
        return own
    if len(own) > 1:
        raise DetkitError(
            f"The model has stages of its own ({stage_names(own)}), and training.head_first makes"
            " two around a model of one.",
            record="training.head_first",
            remedy=f"{LEAVE}choose another model.",
        )
    if first is None:
        first = covering([n for n, _ in model.named_parameters()], unloaded(model, transferred))
    head, rest = Stage("head", head_first, trains=tuple(first)), Stage("train", 1 - head_first)
    return (head, rest) if head_first < 1 else (head,)


def unloaded(model: Model, transferred: Mapping[str, Any] | None) -> set[str]:
    """Names of the parameters that neither `backbone.weights` nor `weights` filled.

    Raises:
        DetkitError: there are none, or no others.
    """
    names = [name for name, _ in model.named_parameters()]
    loaded = from_run.filled(names, model.backbone.weights_report)
    if transferred:
        loaded |= set(transferred["taken"])
    new = {name for name in names if name not in loaded}
    if not loaded.intersection(names):
        raise DetkitError(
            "No weights are loaded, so there are none that what is new could spoil.",
            record="training.head_first",
            remedy=f"{LEAVE}give weights with backbone.weights=FILE or weights=RUN.",
        )
    if not new:
        raise DetkitError(
            "Every part of the model has loaded weights, so nothing is new that could learn first.",
            record="training.head_first",
            remedy=f"{LEAVE}load a backbone alone, with backbone.weights=.",
        )
    return new


def covering(names: Sequence[str], chosen: Collection[str]) -> tuple[str, ...]:
    """The shortest prefixes, each the name of a part or of a parameter, that mean the chosen alone.

    Args:
        names: of all parameters, such as "head.logits.weight".
        chosen: some of them.
    """
    others = [name for name in names if name not in chosen]
    found: list[str] = []
    for name in names:
        if name not in chosen or name.startswith(tuple(found)):
            continue
        parts = name.split(".")
        prefixes = [".".join([*parts[:depth], ""]) for depth in range(1, len(parts))]
        free = (p for p in prefixes if not any(other.startswith(p) for other in others))
        found.append(next(free, name))
    return tuple(found)


def first_of(plain: Mapping[str, Any]) -> list[str]:
    """The prefixes that a run kept in its `resume.json`.

    Raises:
        DetkitError: it kept none.
    """
    first = plain.get("first")
    if not isinstance(first, list) or not all(isinstance(prefix, str) for prefix in first):
        raise DetkitError(
            "The saved state does not say what learns first (training.head_first).",
            file="resume.json",
            remedy=RESTORE,
        )
    return first


def line(model: nn.Module, recipe: Sequence[Interval]) -> str:
    """What learns first and for how long, for the run's first lines."""
    first = recipe[0]
    own = [p.numel() for n, p in model.named_parameters() if below(n, first.stage.trains)]
    every = sum(p.numel() for p in model.parameters())
    parts = ", ".join(prefix.rstrip(".") for prefix in first.stage.trains[:6])
    more = ", …" if len(first.stage.trains) > 6 else ""
    return (
        f"head first: {parts}{more} ({sum(own):,} of {every:,} parameters, which have no loaded"
        f" weights) learn alone for {first.end:,} of {recipe[-1].end:,} steps"
    )
