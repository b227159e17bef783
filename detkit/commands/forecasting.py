"""What a recipe with solved stages will take, said before its first step.

The progress line counts steps alone; an SVM's pass over all proposals may take longer than they.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from detkit.commands.opening import Data
from detkit.data.loading import collate
from detkit.data.order import Key
from detkit.data.records import Records
from detkit.distributed import World
from detkit.models.model import Model
from detkit.ops.precision import autocast
from detkit.structures import Batch
from detkit.training.journal import Journal, duration
from detkit.training.loop import Plan
from detkit.training.recipe import Interval
from detkit.training.state import same_random_states

TIMED = 2  # images, behind one that is not


def forecast(
    data: Data,
    model: Model,
    recipe: Sequence[Interval],
    plan: Plan,
    batch_size: int,
    journal: Journal,
    world: World,
) -> None:
    """Says how long each stage will take, from a few images; nothing where no stage is solved.

    Args:
        batch_size: images of a batch of one process.
    """
    solved = [interval.stage.name for interval in recipe if interval.stage.solve is not None]
    if not solved or model.proposer is None or not world.main:
        return
    if absent := without_objects(data.records):
        journal.say(
            f"note: no training image shows {', '.join(absent)}: no SVM can be solved for such a"
            " class, and nothing is found of it"
        )
    trial = copy.deepcopy(model)  # its norms' statistics and gradients are not the model's
    with same_random_states(world.device):
        image = _seconds_an_image(trial, data, plan, world)
        parts = []
        for interval in recipe:
            stage, steps = interval.stage, interval.end - interval.start
            if stage.solve is None:
                view = stage.losses(trial) if stage.losses else trial
                step = _seconds_a_step(view, data, plan, batch_size, world) * plan.accumulate
                parts.append(f"{stage.name} {duration(steps * step)} ({steps:,} steps)")
    each = duration(image * len(data.records))
    parts.append(f"{' and '.join(solved)} up to {each}{' each' if len(solved) > 1 else ''}")
    measured = duration(image * len(data.val))
    journal.say(
        f"about {', '.join(parts)}, measuring {measured} each time ({image:.2g} s an image with"
        f" its proposals, {TIMED} were timed); features are made anew and take no disk"
    )


def without_objects(records: Records) -> list[str]:
    """The classes that no object of the records, crowds aside, is of."""
    seen = set(records.labels[~records.crowd].tolist())
    return [name for label, name in enumerate(records.names) if label not in seen]


@torch.no_grad()
def _seconds_an_image(model: Model, data: Data, plan: Plan, world: World) -> float:
    dataset = replace(data.dataset, transform=data.transform)
    model.eval()
    seconds = []
    for number in range(TIMED + 1):
        key = Key(0, number * (len(dataset) - 1) // TIMED)
        batch = collate([dataset[key]], dataset.transform.multiple).to(world.device)
        start = time.monotonic()
        with autocast(world.device, plan.dtype):
            model(**batch.inputs())
        _wait(world)
        seconds.append(time.monotonic() - start)
    return sum(seconds[1:]) / TIMED


def _seconds_a_step(
    net: torch.nn.Module, data: Data, plan: Plan, batch_size: int, world: World
) -> float:
    dataset = data.dataset
    net.train()
    for number in range(2):  # not the same images twice, of which a model may keep something
        keys = [Key(0, (number * batch_size + i) % len(dataset)) for i in range(batch_size)]
        batch: Batch = collate([dataset[key] for key in keys], dataset.transform.multiple)
        batch = batch.to(world.device)
        start = time.monotonic()
        with autocast(world.device, plan.dtype):
            losses = net(**batch.inputs(), targets=batch.targets)
        torch.stack(list(losses.values())).sum().backward()
        _wait(world)
    return time.monotonic() - start


def _wait(world: World) -> None:
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)
