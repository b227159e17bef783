"""What a run has to remember to go on as if it had never stopped: tensors and plain JSON."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from detkit import distributed
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.models.model import Model
from detkit.training.fitting import misfit
from detkit.training.optimization import EMA

T = TypeVar("T")


@dataclass
class State:
    """What changes while a run goes on.

    Attributes:
        model: the raw weights, which are trained.
        ema: their moving average, which is evaluated and saved where there is one.
        step: updates made so far; the position in the data follows from it.
        stage: number of the stage of the recipe that it is in.
        solved: what solved stages wrote: a digest of their folder by their name; and that of the
            file of the run's first weights, where there is one.
        due: whether the shown weights of this step are still to be measured.
        best: the best value so far of the metric that chooses `best/`, None before the first.
        since_best: measurements since that one.
        sums, count: losses since the last line of metrics.jsonl, and over how many batches.
    """

    model: Model
    optimizer: Optimizer | None
    scaler: torch.amp.GradScaler
    ema: EMA | None = None
    step: int = 0
    stage: int = 0
    due: bool = False
    best: float | None = None
    since_best: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    solved: dict[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> Model:
        """The model to evaluate and to save."""
        return self.ema.model if self.ema else self.model  # type: ignore[return-value]

    def pack(self, world: World) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The contents of resume.safetensors and resume.json. Every process has to call it."""
        packed = {f"model/{key}": tensor for key, tensor in self.model.state_dict().items()}
        plain: dict[str, Any] = {
            "step": self.step,
            "stage": self.stage,
            "solved": self.solved,
            "due": self.due,
            "best": self.best,
            "since_best": self.since_best,
            "sums": self.sums,
            "count": self.count,
            "scaler": self.scaler.state_dict(),
            "optimizer": {},
            "random": [],
        }
        states = self.optimizer.state if self.optimizer else {}
        for name, parameter in self.model.named_parameters():
            for key, value in states.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    packed[f"optimizer/{name}/{key}"] = value
                else:
                    plain["optimizer"][f"{name}/{key}"] = value
        for rank, (tensor_part, plain_part) in enumerate(
            distributed.gather(random_states(world.device), world)
        ):
            packed |= {f"random/{rank}/{key}": value for key, value in tensor_part.items()}
            plain["random"].append(plain_part)
        plain["tensors"] = len(packed)
        return packed, plain

    def restore(
        self,
        shown: Mapping[str, Tensor],
        packed: Mapping[str, Tensor],
        plain: Mapping[str, Any],
        world: World,
    ) -> None:
        """Takes over what `pack` gave, and the shown weights (the averaged ones with an EMA).

        With another number of processes than before their random states start afresh.

        Raises:
            DetkitError: they are not those of this model and optimizer.
        """
        with _fitting():
            fresh, scaler = random_states(world.device), self.scaler.state_dict()
            fault = misfit(self.model, self.optimizer, scaler, shown, packed, plain, fresh)
            if fault:
                raise ValueError(fault)
            raw = {k.removeprefix("model/"): v for k, v in packed.items() if k.startswith("model/")}
            self.model.load_state_dict(raw)
            if self.ema:
                self.ema.model.load_state_dict(shown)
            parameters = dict(self.model.named_parameters())
            states = self.optimizer.state if self.optimizer else {}
            for place, value in [*packed.items(), *plain["optimizer"].items()]:
                if isinstance(value, Tensor):
                    group, _, place = place.partition("/")
                    if group != "optimizer":
                        continue
                name, _, key = place.rpartition("/")
                states[parameters[name]][key] = _like(value, parameters[name])
            if plain["scaler"] and self.scaler.is_enabled():
                self.scaler.load_state_dict(dict(plain["scaler"]))
            self.step, self.due, self.best = plain["step"], plain["due"], plain["best"]
            self.since_best = plain.get("since_best", 0)
            self.stage, self.solved = plain.get("stage", 0), dict(plain.get("solved", {}))
            self.sums, self.count = dict(plain["sums"]), plain["count"]
            if len(plain["random"]) == world.size:
                prefix = f"random/{world.rank}/"
                mine = {
                    k.removeprefix(prefix): v for k, v in packed.items() if k.startswith(prefix)
                }
                set_random_states(mine, plain["random"][world.rank], world.device)


@contextmanager
def _fitting() -> Iterator[None]:
    """Whatever a state that was changed by hand stumbles over is told as such."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DetkitError(
            f"The saved state is not this run's ({type(error).__name__}: {error}).",
            remedy="restore the run's last/, or start a new run from it with weights=.",
        ) from error


def _like(value: Any, parameter: Tensor) -> Any:
    """Optimiser state where its parameter is, laid out in memory as the parameter is."""
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape:
        return torch.empty_like(parameter, requires_grad=False).copy_(value)
    return value.to(parameter.device)


def random_states(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The global random states of torch, NumPy and Python, which models and plugins draw from."""
    numpy: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    _, keys, position, has_gauss, gauss = numpy
    version, numbers, gauss_next = random.getstate()
    saved = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(keys.astype(np.int64))}
    if device.type == "cuda":
        saved["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        saved["mps"] = torch.mps.get_rng_state()
    plain = {
        "numpy": [int(position), int(has_gauss), float(gauss)],
        "python": [version, list(numbers), gauss_next],
    }
    return saved, plain


def set_random_states(
    saved: Mapping[str, Tensor], plain: Mapping[str, Any], device: torch.device
) -> None:
    """Puts back what `random_states` gave."""
    torch.set_rng_state(saved["torch"])
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"], device)
    if device.type == "mps" and "mps" in saved:
        torch.mps.set_rng_state(saved["mps"])
    keys = saved["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, *plain["numpy"]))  # noqa: NPY002
    version, numbers, gauss_next = plain["python"]
    random.setstate((version, tuple(numbers), gauss_next))


@contextmanager
def same_random_states(device: torch.device) -> Iterator[None]:
    """What is drawn inside does not count: the random states afterwards are those before."""
    before = random_states(device)
    try:
        yield
    finally:
        set_random_states(*before, device)


def undisturbed(items: Iterable[T], device: torch.device) -> Iterator[T]:
    """The same items, read without moving the random states.

    A DataLoader draws a number whenever it starts; a resumed run starts one more.
    """
    with same_random_states(device):
        iterator = iter(items)
    while True:
        with same_random_states(device):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
