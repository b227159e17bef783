"""Losses and gradients that are not finite stop a run before anything is saved."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from detkit.structures import Batch
from detkit.training import replay
from detkit.training.state import State

# the step, its batch, the names of its losses, their values and when these will have arrived
Seen = tuple[int, Batch, list[str], Tensor, torch.cuda.Event | None]


class Watch:
    """Adds up the losses and stops the run at one that is not finite, or has no finite gradient.

    On a GPU the values of a batch are looked at one batch later, when they have long arrived:
    asking for them at once would make the GPU wait for Python after every batch.

    Args:
        replay_file: where the batch goes that stops the run.
    """

    def __init__(self, state: State, replay_file: Path, device: torch.device) -> None:
        self._state, self._file, self._device = state, replay_file, device
        self._pending: Seen | None = None
        self._last: Seen | None = None
        self._norm: Tensor | None = None

    def see(self, batch: Batch, losses: dict[str, Tensor]) -> None:
        """Notes the losses of a batch.

        Raises:
            DetkitError: they, or on a GPU those of the batch before, are not finite.
        """
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        before, event = self._pending, None
        if self._device.type == "cuda":
            values = values.to("cpu", non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._pending = self._last = (self._state.step, batch, list(losses), values, event)
        self._count(before)
        if event is None:
            self.wait()

    def see_norm(self, norm: Tensor) -> None:
        """Notes the norm of a gradient; it is looked at before anything is saved.

        Raises:
            DetkitError: it is not finite. On a GPU this is found by the next `wait`, and the batch
                that is named may be a later one.
        """
        self._norm = norm if self._norm is None else torch.maximum(self._norm, norm)
        if self._device.type != "cuda":
            self.wait()

    def wait(self) -> None:
        """Looks at what has not been looked at yet."""
        before, self._pending = self._pending, None
        self._count(before)
        norm, self._norm = self._norm, None
        if norm is not None and self._last is not None:
            self._judge(self._last, {"the gradient's norm": float(norm)})

    def _judge(self, seen: Seen, more: dict[str, float]) -> dict[str, float]:
        """The losses of a batch.

        Raises:
            DetkitError: they, or what else is known, are not finite.
        """
        step, batch, names, values, event = seen
        if event is not None:
            event.synchronize()
        losses = dict(zip(names, values.tolist(), strict=True))
        if not all(map(math.isfinite, [*losses.values(), *more.values()])):
            raise replay.write(self._file, step, batch, losses | more)
        return losses

    def _count(self, seen: Seen | None) -> None:
        if seen is None:
            return
        losses = self._judge(seen, {})
        for name, value in losses.items():
            self._state.sums[name] = self._state.sums.get(name, 0.0) + value
        self._state.count += 1
