"""What loading costs in memory: the workers' own pages over an epoch.

A forked worker shares the parent's pages until one of them writes there. Python objects are written
to when they are merely looked at (their reference counts), so a data set made of a million of them
is copied into every worker, page by page. Flat arrays are not.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from detkit.data.loading import Dataset
from detkit.data.order import training_batches
from detkit.data.records import Records, Strings, offsets_of
from detkit.data.transforms import build


def synthetic(images: int, objects: int) -> Records:
    """Records of blank 32-pixel images with so many random boxes each."""
    rng = np.random.default_rng(0)
    corners = rng.random((images * objects, 2, 2), np.float32) * 16
    n = len(corners)
    return Records(
        names=tuple(f"class {k}" for k in range(80)),
        category_ids=np.arange(80),
        source="synthetic",
        root=Path("synthetic"),
        files=Strings.of(f"{i:012d}.jpg" for i in range(images)),
        image_ids=Strings.of(map(str, range(images))),
        integer_ids=True,
        sizes=np.full((images, 2), 32, np.int32),
        offsets=offsets_of(np.full(images, objects)),
        boxes=np.concatenate([corners[:, 0], corners[:, 0] + corners[:, 1]], 1),
        labels=rng.integers(0, 80, n),
        crowd=np.zeros(n, bool),
        difficult=np.zeros(n, bool),
        areas=np.ones(n),
        render=_blank,
    )


def _blank(number: int) -> np.ndarray:
    return np.zeros((32, 32, 3), np.uint8)


def private_pages(processes: Sequence[int]) -> float:
    """MiB that those processes share with nobody, each on average (Linux)."""
    total = 0
    for process in processes:
        rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))
    return total / 1024 / max(1, len(processes))


def over_an_epoch(batches: Iterable[object], length: int, samples: int = 10) -> list[float]:
    """MiB of a worker's private pages, at `samples` moments while `length` batches are loaded."""
    strangers = {child.pid for child in multiprocessing.active_children()}
    measured = []
    for step, _ in enumerate(batches, 1):
        if step % max(1, length // samples) == 0:
            children = {child.pid for child in multiprocessing.active_children()} - strangers
            if children:
                measured.append(private_pages([pid for pid in children if pid]))
    return measured


def loading_memory(images: int = 125_000, objects: int = 8, workers: int = 4) -> list[float]:
    """MiB of a worker's private pages over an epoch of `images` × `objects` boxes."""
    transform = build({"name": "detection", "short_side": None, "long_side": None}, train=False)
    dataset = Dataset(synthetic(images, objects), transform)
    steps = images // 64
    batches = training_batches(dataset, batch_size=64, steps=steps, workers=workers)
    return over_an_epoch(batches, steps)
