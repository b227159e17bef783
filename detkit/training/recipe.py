"""A recipe of several stages: which steps of the run each has, and how one begins or is solved.

stage: train ─────────────────────▶          most models
stages: a ──────▶ b (solved) c ────▶ d (solved)
steps:  0         40         40      100      the one global step; solved stages take none
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from tqdm import tqdm

from detkit import checkpoint, distributed, foreign
from detkit.data.loading import Batches, Dataset
from detkit.data.order import evaluation_batches
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.models.model import Model
from detkit.models.stages import PROPOSALS, Stage
from detkit.proposals.files import ProposalsFile
from detkit.structures import Batch
from detkit.training.optimization import EMA
from detkit.training.state import State, same_random_states

FOLDER = "stages"  # in the run folder, with a folder for each solved stage that wrote something
START = "start.safetensors"  # in it: the weights that the run began with


@dataclass(frozen=True)
class Interval:
    """The steps of one stage.

    Attributes:
        number: of the stage, from 0.
        start, end: the run's steps before it and at its end; the same for a solved one.
        span: the steps that its learning-rate schedule and its average stretch over: its own,
            and those of the stages that it continues or that continue it. None: its own.
    """

    stage: Stage
    number: int
    start: int
    end: int
    span: tuple[int, int] | None = None

    @property
    def first(self) -> int:
        return self.span[0] if self.span else self.start

    @property
    def last(self) -> int:
        return self.span[1] if self.span else self.end


def intervals(
    stages: Sequence[Stage], steps: int, update: int, kept: Sequence[int] | None = None
) -> list[Interval]:
    """The stages with their steps.

    Args:
        steps: of the whole run.
        update: images in a step.
        kept: the ends that the run began with: only its last stage of descent has another length
            now.
    Raises:
        DetkitError: too few steps for the stages.
    """
    most = steps // 4  # as of a warm-up: a short run has to come to what follows too
    fixed = [min(-(-s.images // update), most) if s.images and not s.solve else 0 for s in stages]
    shares = [0.0 if s.solve or s.images else s.share for s in stages]
    for before, stage in itertools.pairwise(stages):
        if stage.continues and stage.trains != before.trains:
            raise ValueError(f"stage {stage.name} continues {before.name} but trains other parts")
    left, descents = steps - sum(fixed), sum(s.solve is None for s in stages)
    ends, done, share = [], 0, 0.0
    for own, part in zip(fixed, shares, strict=True):
        done, share = done + own, share + part
        ends.append(done + round(left * share / (sum(shares) or 1.0)))
    if kept is not None:
        last = max(i for i, stage in enumerate(stages) if stage.solve is None)
        ends = [*kept[:last], *[steps] * (len(stages) - last)]
    starts = [0, *ends[:-1]]
    spans = _spans(stages, starts, ends)
    numbers = range(len(stages))
    found = [Interval(*each) for each in zip(stages, numbers, starts, ends, spans, strict=True)]
    shares_none = [i for i in found if i.end <= i.start and not (i.stage.solve or i.stage.images)]
    if short := [i.stage.name for i in shares_none]:
        raise DetkitError(
            f"The run's {steps:,} steps leave none for its stage {short[0]}.",
            remedy=f"it has {descents} stages of descent: set training.epochs or"
            " training.max_steps higher.",
        )
    return found


def _spans(
    stages: Sequence[Stage], starts: Sequence[int], ends: Sequence[int]
) -> list[tuple[int, int]]:
    """First and last step of each stage, with those that it continues or that continue it."""
    chains: list[list[int]] = []
    for number, stage in enumerate(stages):
        if stage.continues and chains:
            chains[-1].append(number)
        else:
            chains.append([number])
    return [(starts[chain[0]], ends[chain[-1]]) for chain in chains for _ in chain]


def stage_names(stages: Sequence[Stage]) -> str:
    """The names of several stages, in their order; empty for one."""
    return " → ".join(stage.name for stage in stages) if len(stages) > 1 else ""


@dataclass(frozen=True)
class Beginning:
    """What a stage of descent begins with.

    Attributes:
        optimizer: makes one for the parameters that learn.
        scaler: for half precision.
        ema: decay of the moving average, or None.
        trainable: names of the parameters that the run trains at all.
        start: the file with the weights that the run began with.
    """

    optimizer: Callable[[Model], Optimizer]
    scaler: Callable[[], torch.amp.GradScaler]
    ema: float | None
    trainable: frozenset[str]
    start: Path

    def __call__(self, state: State, interval: Interval, resumed: bool) -> None:
        """Gives the state what the stage needs; a resumed one keeps its weights, one that continues
        another all of it.
        """
        model, stage = state.model, interval.stage
        if stage.continues and not resumed and state.optimizer is not None:
            state.stage = interval.number
            return
        if not resumed:
            settle(state)
            restart(model, stage.restarts, self.start)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.trainable and below(name, stage.trains))
        state.stage = interval.number
        state.optimizer, state.scaler = self.optimizer(model), self.scaler()
        state.ema = EMA(model, self.ema) if self.ema is not None else None


def below(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a parameter is, or belongs to, one of these; "" is all."""
    parts = [prefix.removesuffix(".") for prefix in prefixes]
    return any(not part or name == part or name.startswith(f"{part}.") for part in parts)


def settle(state: State) -> None:
    """Makes the averaged weights the model's own: what the next stage goes on with."""
    if state.ema:
        state.model.load_state_dict(state.ema.model.state_dict())
        state.ema = None


def restart(model: nn.Module, prefixes: Sequence[str], start: Path) -> None:
    """Puts the weights below some prefixes back to those of the run's start."""
    if prefixes:
        tensors = checkpoint.read_tensors(start)
        again = {key: value for key, value in tensors.items() if below(key, prefixes)}
        model.load_state_dict(again, strict=False)


def train_mode(net: nn.Module, stage: Stage) -> None:
    """`net.train()`, but the norms that do not learn in this stage keep their statistics."""
    net.train()
    if stage.trains == ("",):
        return
    for module in net.modules():
        if isinstance(module, _NormBase) and not any(p.requires_grad for p in module.parameters()):
            module.eval()


def solve(
    state: State,
    interval: Interval,
    dataset: Dataset,
    run: Path,
    seed: int,
    size: int,
    world: World,
) -> None:
    """A solved stage: in the main process, then everybody has its buffers.

    Args:
        dataset: the training images as at inference, with what the stage learns from.
        run: the run folder; `stages/NAME` in it holds what the stage writes.
        size: images of a batch.
    """
    stage = interval.stage
    assert stage.solve is not None
    settle(state)
    state.stage, state.optimizer = interval.number, None
    state.model.zero_grad()  # memory for what is solved
    if world.main:
        folder = run / FOLDER / stage.name
        new = folder.with_name(f".{stage.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        generator = torch.Generator().manual_seed(seed * 1000 + interval.number)
        with same_random_states(world.device):
            batches = Passes(evaluation_batches(dataset, batch_size=size), stage.name)
            stage.solve(state.model.eval(), batches, new, generator)
        if any(new.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
            state.solved = {**state.solved, stage.name: digest(folder)}
        else:
            new.rmdir()
    distributed.barrier(world)
    state.solved = distributed.share(state.solved, world)
    distributed.align(state.model, world)
    state.stage = interval.number + 1


@dataclass(frozen=True)
class Passes:
    """Batches under a bar of their own in each pass.

    Attributes:
        name: what the bar shows.
    """

    batches: Batches
    name: str

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        yield from tqdm(self.batches, desc=self.name, unit="batch", leave=False)


def digest(folder: Path) -> str:
    """sha256 of the names and contents of a folder's files."""
    total = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        total.update(f"{file.name} {digest_of_file(file)}\n".encode())
    return total.hexdigest()


def digest_of_file(file: Path) -> str:
    """sha256 of its contents."""
    return hashlib.sha256(foreign.read_bytes(file)).hexdigest()


def proposals_of(run: Path, stage: str) -> ProposalsFile:
    """The proposals that a solved stage wrote, as a proposer."""
    return ProposalsFile(run / FOLDER / stage / PROPOSALS)


def check_solved(solved: dict[str, str], run: Path, stages: Collection[str]) -> None:
    """
    Args:
        solved: see `State.solved`.
        stages: names of the recipe's.
    Raises:
        DetkitError: what a solved stage wrote, or what the run began with, is not there as it was.
    """
    for name, wanted in solved.items():
        place = run / FOLDER / name
        if name == START:
            what = "The weights that the run began with are gone or were"
            kept = foreign.is_file(place) and digest_of_file(place) == wanted
        else:
            what = f"What the stage {name} wrote is gone or was"
            kept = name in stages and place.is_dir() and digest(place) == wanted
        if not kept:
            raise DetkitError(
                f"{what} changed.",
                file=place,
                remedy="restore it, or start a new run from the weights with weights=.",
            )
