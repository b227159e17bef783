"""One training step of each single-shot network at its paper's size, on real photos.

    python tests/models/full_size.py SHARED [NAME …]

prints of each: parameters, the loss of two photos of VOC 2007 before a step of SGD and after it,
seconds of the step, and the peak of the process's memory. It is no test, for the largest network
takes some 5 GB.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from pathlib import Path

import torch

from detkit.data.loading import Dataset, Key, collate
from detkit.data.open import open_dataset
from detkit.data.transforms import build as build_transform
from detkit.models.build import build
from detkit.models.model import models
from detkit.structures import Classes

SQUARES = {
    "yolo_v1": ("stretched", 448),
    "fast_yolo": ("stretched", 448),
    "yolo9000": ("square", 544),
    "ssd300": ("ssd", 300),
    "ssd512": ("ssd512", 512),
}
TRUNKS = {
    "yolo_v1": "yolo_v1",
    "fast_yolo": "fast_yolo",
    "yolo_v2": "darknet19",
    "tiny_yolo_v2": "darknet_tiny_v2",
    "yolo9000": "darknet19",
    "yolo_v3": "darknet53",
    "tiny_yolo_v3": "darknet_tiny",
    "yolo_v3_spp": "darknet53",
    "ssd300": "vgg16_ssd",
    "ssd512": "vgg16_ssd",
}
RATE = 1e-4


def step(name: str, shared: Path) -> None:
    """Prints a row of the table."""
    torch.manual_seed(0)
    records = open_dataset({"name": "voc", "root": str(shared / "voc2007")}, "train")
    preset, side = SQUARES.get(name, ("square", 416))
    made = build_transform({"name": preset, "long_side": side}, train=False)
    dataset = Dataset(records, made)
    batch = collate([dataset[Key(0, image)] for image in (0, 1)], made.multiple)
    model = build({"name": name}, {"name": TRUNKS[name]}, Classes.of(records.names)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    losses, start = [], time.perf_counter()
    for _ in range(2):
        loss = sum(model(**batch.inputs(), targets=batch.targets).values())
        losses.append(loss.item())
        if len(losses) == 1:
            loss.backward()
            optimizer.step()
            seconds = time.perf_counter() - start
    count = sum(p.numel() for p in model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name:14}{side:5}{count:14,}{losses[0]:12.3f} → {losses[1]:9.3f}{seconds:8.1f} s"
        f"{peak:7.1f} GiB",
        flush=True,
    )


if __name__ == "__main__":
    assert set(TRUNKS) <= set(models.names())
    context = multiprocessing.get_context("spawn")  # each with a memory of its own
    for chosen in sys.argv[2:] or TRUNKS:
        process = context.Process(target=step, args=(chosen, Path(sys.argv[1])))
        process.start()
        process.join()
