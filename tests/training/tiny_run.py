"""A model and data small enough to train in a second, with every kind of state a run can have."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from detkit import checkpoint, distributed
from detkit.backbones.backbone import Backbone, normalize
from detkit.checkpoint import settled
from detkit.distributed import World
from detkit.models.model import Model
from detkit.predictions import Detections
from detkit.structures import Batch, Classes, Frame, Targets
from detkit.training.journal import Journal
from detkit.training.loop import Hooks, Plan, fit
from detkit.training.optimization import EMA, build_optimizer, build_schedule
from detkit.training.state import State


class TinyBackbone(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = {"1": 4}, {"1": 2}
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"1": self.norm(self.conv(images)).relu()}


class Tiny(Model):
    """One box an image: its class and its place; dropout draws from the global generator."""

    task, needs = "detect", frozenset({"boxes"})

    def __init__(self, backbone: Backbone, classes: Classes, *, dropout: float = 0.3) -> None:
        super().__init__(backbone, classes)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(4, len(classes))
        self.boxes = nn.Linear(4, 4)

    def forward(self, images, targets=None, sizes=None):
        features = self.backbone(normalize(images, self.mean_std, sizes))["1"].mean((2, 3))
        logits, boxes = self.classes(self.dropout(features)), self.boxes(features)
        if targets is None:
            scores, labels = logits.softmax(1).max(1)
            return [
                Detections(b[None].float(), s[None].float(), k[None])
                for b, s, k in zip(boxes, scores, labels, strict=True)
            ]
        labels = torch.stack([t.labels[0] for t in targets])
        wanted = torch.stack([t.boxes[0] for t in targets]) / 8
        return {
            "class": nn.functional.cross_entropy(logits.float(), labels),
            "box": nn.functional.l1_loss(boxes.float(), wanted),
        }


def tiny(num_classes: int = 3, seed: int = 0, dropout: float = 0.3) -> Tiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Tiny(TinyBackbone(), Classes.numbered(num_classes), dropout=dropout)


def sample(n: int) -> tuple[Tensor, Targets, Frame]:
    """Picture n, the same whenever it is asked for."""
    g = torch.Generator().manual_seed(n)
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=g)
    box = torch.rand(1, 4, generator=g) * 8
    label = torch.randint(0, 3, (1,), generator=g)
    return image, Targets(box, label), Frame(n, n, f"{n}.png", (8, 8), (8, 8))


def batch_of(samples: list[tuple[Tensor, Targets, Frame]]) -> Batch:
    images, targets, frames = zip(*samples, strict=True)
    sizes = torch.full((len(images), 2), 8)
    return Batch(torch.stack(images), sizes, list(targets), list(frames))


class Steps(Dataset):
    """Each process's part of the batches from `start` to `stop`, loaded slowly if asked to."""

    def __init__(
        self, start: int, stop: int, size: int, world: World | None = None, pause: float = 0.0
    ) -> None:
        self.start, self.stop, self.size, self.pause = start, stop, size, pause
        self.world = world or World()

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        time.sleep(self.pause)
        part = (self.start + index) * self.world.size + self.world.rank
        return batch_of([sample(part * self.size + i) for i in range(self.size)])


def run(
    folder: Path,
    *,
    steps: int = 12,
    workers: int = 0,
    ema: float | None = 0.9,
    optimizer: str = "sgd",
    dtype: torch.dtype = torch.float32,
    accumulate: int = 1,
    size: int = 2,
    dropout: float = 0.3,
    checkpoint_every: int = 4,
    pause: float = 0.0,
    at_step: Callable[[int], None] = lambda step: None,
    losses: Callable[[int, dict[str, Tensor]], dict[str, Tensor]] = lambda step, losses: losses,
    clip_norm: float | None = 1.0,
    norm: bool = True,
    figure: Callable[[int], float] | None = None,
    patience: int | None = None,
) -> State:
    """Trains in `folder`, going on with what is there; returns the last state."""
    folder.mkdir(exist_ok=True)
    world = distributed.start("cpu")
    last = folder / "last"
    saved = settled(last).exists()
    seed = (99 if saved else 0) + world.rank  # a resumed run must not depend on its own seed
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    model = tiny(seed=0 if not saved else 5, dropout=dropout)
    if not norm:
        model.backbone.norm = nn.Identity()
    state = State(
        model,
        build_optimizer({"name": optimizer, "lr": 0.05}, model),
        torch.amp.GradScaler("cpu", init_scale=2.0**20, enabled=dtype == torch.float16),
        EMA(model, ema) if ema is not None else None,
    )
    size_of_journal = 0
    if saved:
        tensors, plain = checkpoint.read_resume(last)
        shown = checkpoint.read_tensors(settled(last) / "model.safetensors")
        state.restore(shown, tensors, plain, world)
        size_of_journal = plain["journal"]
    journal = Journal(folder if world.main else None, state.step, steps, size_of_journal)
    model.register_forward_pre_hook(lambda module, _: at_step(state.step))
    model.register_forward_hook(lambda module, _, out: losses(state.step, out))

    def save(state: State) -> None:
        tensors, plain = state.pack(world)
        if world.main:
            meta = {"config": {}, "names": list("abc"), "category_ids": [1, 2, 3]}
            plain["journal"] = journal.size
            checkpoint.save(last, state.shown.state_dict(), meta, (tensors, plain))

    def validate(state: State) -> None:
        torch.rand(3)  # must not matter
        state.shown.eval()
        mean = float(sum(t.double().abs().sum() for t in state.shown.state_dict().values()))
        mean = mean if figure is None else figure(state.step)
        better = state.best is None or mean > state.best
        state.since_best = 0 if better else state.since_best + 1
        state.best = mean if better else state.best
        journal.write(state.step, {"val": mean})

    plan = Plan(
        steps=steps,
        update=size * accumulate * world.size,
        epoch=5 * size * accumulate * world.size,
        accumulate=accumulate,
        dtype=dtype,
        clip_norm=clip_norm,
        log_every=3,
        evaluate_every=1,
        checkpoint_every=checkpoint_every,
    )
    start, stop = state.step * accumulate, steps * accumulate
    images = Steps(start, stop, size, world, pause)
    feed = DataLoader(images, batch_size=None, num_workers=workers)
    schedule = build_schedule({"name": "cosine", "warmup_steps": 4})
    try:
        fit(state, feed, schedule, plan, Hooks(validate, save, patience), journal, folder, world)
    finally:
        journal.close()
    return state


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), **json.loads(sys.argv[2]))
