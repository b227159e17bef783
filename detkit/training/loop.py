"""A training run, from the first step to the last.

batches ─▶ losses ─▶ gradients ─▶ step ─▶ average ─▶ log ─▶ evaluate ─▶ save
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer

from detkit import distributed
from detkit.distributed import World
from detkit.models.stages import Stage
from detkit.ops.precision import autocast
from detkit.structures import Batch
from detkit.training.journal import Journal
from detkit.training.optimization import Schedule, set_rate
from detkit.training.recipe import Interval, train_mode
from detkit.training.signals import Interrupted, stop_signals
from detkit.training.state import State, same_random_states, undisturbed
from detkit.training.watch import Watch

NEVER = 10**9  # updates
ASKED_EVERY = 2.0  # seconds; torchrun waits 30 before it kills


@dataclass(frozen=True)
class Plan:
    """How long a run is and when it does what.

    Attributes:
        steps: updates of the whole run.
        update: images in an update, of all processes and their accumulated batches.
        epoch: images in one pass over the data.
        accumulate: batches in an update; their gradients are averaged.
        dtype: what autocast computes in.
        clip_norm: the gradient's norm is cut to this.
        log_every, checkpoint_every: in updates.
        evaluate_every: in epochs.
    """

    steps: int
    update: int
    epoch: int
    accumulate: int = 1
    dtype: torch.dtype = torch.float32
    clip_norm: float | None = None
    log_every: int = 20
    evaluate_every: int = 1
    checkpoint_every: int = NEVER

    @staticmethod
    def of(training: Any, epoch: int, update: int, dtype: torch.dtype) -> Plan:
        """From the settings of `training`; see above for the rest."""
        steps = -(-training.epochs * epoch // update)  # the last one may begin another pass
        return Plan(
            steps=steps if training.max_steps is None else min(steps, training.max_steps),
            update=update,
            epoch=epoch,
            accumulate=training.accumulate,
            dtype=dtype,
            clip_norm=training.clip_norm,
            log_every=training.log_every,
            evaluate_every=training.evaluate_every,
            checkpoint_every=training.checkpoint_every or NEVER,
        )

    def epochs(self, step: int) -> float:
        """Passes over the data that so many updates are."""
        return round(step * self.update / self.epoch, 4)

    def completes(self, step: int, epochs: int = 1) -> bool:
        """Whether an epoch ended with this update, of those that are a multiple of `epochs`."""
        seen, each = step * self.update, self.epoch * epochs
        return seen // each > (seen - self.update) // each


@dataclass(frozen=True)
class Hooks:
    """What the loop asks of whoever started it.

    Attributes:
        validate: measures `state.shown`, writes `best/` when it is the best so far.
        save: writes `last/`. Both are called in every process.
        patience: so many measurements in a row that are no better than the best one end the run;
            None: none does.
    """

    validate: Callable[[State], None]
    save: Callable[[State], None]
    patience: int | None = None

    def impatient(self, state: State) -> bool:
        """Whether the run has waited long enough for a better figure."""
        return self.patience is not None and state.since_best >= self.patience


def fit(
    state: State,
    batches: Iterable[Batch],
    schedule: Schedule,
    plan: Plan,
    hooks: Hooks,
    journal: Journal,
    folder: Path,
    world: World,
    interval: Interval | None = None,
) -> None:
    """Trains `state.model` from `state.step` to the end of a stage.

    Args:
        batches: `plan.accumulate` for each update from `state.step` on.
        folder: where a replay file goes when a loss is not finite.
        interval: the stage's steps; None: it is the run's only one.
    Raises:
        DetkitError: a loss that is not finite; nothing is saved after it.
        Interrupted: after Ctrl-C or SIGTERM, once the step is done and saved.
    """
    interval = interval or Interval(Stage("train"), 0, 0, plan.steps)
    stage, first, end = interval.stage, interval.first, interval.end
    view = stage.losses(state.model) if stage.losses else state.model
    net, device = distributed.wrap(view, world), world.device
    name = "replay" if world.main else f"replay_{world.rank}"
    watch = Watch(state, folder / f"{name}.safetensors", device)
    clock, optimizer = Clock(state.step), state.optimizer
    assert optimizer is not None
    asking = Asking(world, plan.log_every)
    with stop_signals() as stop:

        def measure() -> None:
            with same_random_states(device), clock.paused(), stop.at_once():
                hooks.validate(state)
            state.due = False
            train_mode(net, stage)

        train_mode(net, stage)
        if state.due:  # the run was saved, and then ended before or while it was measured
            measure()
        feed = undisturbed(batches, device)
        while state.step < end and not hooks.impatient(state):
            factor = schedule(state.step - first, interval.last - first)
            rate = set_rate(optimizer, stage.rate * factor)
            images = backward(net, feed, state, plan, watch, device)
            update(state, optimizer, plan, watch, first)
            if state.step % plan.log_every == 0 or state.step == end:
                watch.wait()
                log(state, plan, journal, clock, rate, images, world)
            left = clock.seconds_a_step(state.step) * (plan.steps - state.step)
            journal.progress(state.step, left)
            stopping = asking.stopping(stop.asked, state.step, clock)
            ended = state.step == end
            state.due = stage.measured and (
                state.step == interval.last or plan.completes(state.step, plan.evaluate_every)
            )
            if stopping or ended or state.due or saves(state.step, plan):
                watch.wait()
                hooks.save(state)
                distributed.barrier(world)  # nobody ends while the main process still writes
            if stopping:
                raise Interrupted
            if state.due:
                measure()
        if state.step < end:
            journal.say(
                f"step {state.step:,}: {state.since_best} measurements without a better figure"
                " (training.patience), so the run ends here"
            )


def backward(
    net: nn.Module,
    feed: Iterator[Batch],
    state: State,
    plan: Plan,
    watch: Watch,
    device: torch.device,
) -> int:
    """Gradients of an update, from `plan.accumulate` batches; returns the images of the last."""
    for part in range(plan.accumulate):
        batch = next(feed).to(device, non_blocking=True)
        with distributed.local(net, last=part == plan.accumulate - 1):
            with autocast(device, plan.dtype):
                losses = net(**batch.inputs(), targets=batch.targets)
            watch.see(batch, losses)
            total = torch.stack(list(losses.values())).sum() / plan.accumulate
            state.scaler.scale(total).backward()
    return len(batch)


def update(state: State, optimizer: Optimizer, plan: Plan, watch: Watch, start: int) -> None:
    """One step of the optimiser and of the average; `start` is where the average began."""
    state.scaler.unscale_(optimizer)
    if plan.clip_norm is not None:
        norm = clip_grad_norm_(state.model.parameters(), plan.clip_norm)
    else:
        gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
        norm = get_total_norm(gradients)
    if not state.scaler.is_enabled():  # it leaves such steps out by itself
        watch.see_norm(norm)
    state.scaler.step(optimizer)
    state.scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if state.ema:
        state.ema.update(state.model, state.step - start)
    state.step += 1


def saves(step: int, plan: Plan) -> bool:
    """Whether it is `last/`'s own turn to be written after this step, or the end of an epoch."""
    return step % plan.checkpoint_every == 0 or plan.completes(step)


def log(
    state: State,
    plan: Plan,
    journal: Journal,
    clock: Clock,
    rate: float,
    images: int,
    world: World,
) -> None:
    """One line of metrics.jsonl: mean losses since the last one, learning rate, speed.

    Args:
        images: of a batch of this process.
    """
    parts = distributed.gather((state.sums, state.count), world)
    count = sum(batches for _, batches in parts)
    means = {name: sum(sums[name] for sums, _ in parts) / count for name in state.sums}
    state.sums, state.count = {}, 0
    seconds = clock.seconds_a_step(state.step)
    loss = sum(means.values())
    journal.write(
        state.step,
        {
            "epoch": plan.epochs(state.step),
            "loss": loss,
            **{f"loss/{name}": value for name, value in means.items()},
            "lr": rate,
            "images_per_second": round(images * world.size * plan.accumulate / seconds, 2),
        },
    )
    journal.loss = state.step, loss


class Clock:
    """Seconds a step since the start, pauses left out."""

    def __init__(self, step: int) -> None:
        self._step, self._start = step, time.monotonic()

    def seconds_a_step(self, step: int) -> float:
        return max(1e-9, time.monotonic() - self._start) / max(1, step - self._step)

    @contextmanager
    def paused(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self._start += time.monotonic() - before


class Asking:
    """Whether to stop, which several processes ask each other every few seconds, at one step.

    Args:
        most: updates between two times, however short they are.
    """

    def __init__(self, world: World, most: int) -> None:
        self._world, self._most, self._next = world, most, 0

    def stopping(self, asked: bool, step: int, clock: Clock) -> bool:
        if self._world.size == 1:
            return asked
        if step < self._next:
            return False
        answers = distributed.gather((asked, clock.seconds_a_step(step)), self._world)
        slowest = max(seconds for _, seconds in answers)
        self._next = step + max(1, min(self._most, int(ASKED_EVERY / slowest)))
        return any(asked for asked, _ in answers)
