"""The losses of data that are not trained on."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from detkit import distributed
from detkit.data.loading import Dataset
from detkit.data.order import evaluation_batches
from detkit.distributed import World
from detkit.models.model import Model
from detkit.ops.precision import autocast
from detkit.structures import IGNORE, Targets


@torch.no_grad()
def validation_losses(
    model: Model,
    dataset: Dataset,
    label_of: Tensor,
    *,
    dtype: torch.dtype,
    batch_size: int,
    workers: int,
    world: World,
) -> dict[str, float]:
    """Mean losses over the images, as `val_loss` (their sum) and `val_loss/NAME`.

    Args:
        model: on `world.device`; it is measured as in inference, with its norms' own statistics.
        dataset: with what the model learns from, transformed as in inference.
        label_of: (C,) int64, the model's label of each of the data's classes; objects of those that
            it does not know (−1) are left out.
    """
    seen: dict[str, list[Tensor]] = {}
    training = model.training
    model.eval()
    for loaded in evaluation_batches(
        dataset,
        batch_size=batch_size,
        workers=workers,
        rank=world.rank,
        world=world.size,
        pin_memory=world.device.type == "cuda",
    ):
        batch = loaded.to(world.device, non_blocking=True)
        targets = [in_labels_of_the_model(t, label_of) for t in batch.targets]
        with autocast(world.device, dtype):
            losses = model(**batch.inputs(), targets=targets)
        for name, loss in losses.items():
            seen.setdefault(name, []).append(loss.float() * len(batch))
    model.train(training)
    sums = {name: math.fsum(torch.stack(values).tolist()) for name, values in seen.items()}
    parts = distributed.gather(sums, world)
    names = dict.fromkeys(name for part in parts for name in part)
    means = {name: sum(p.get(name, 0.0) for p in parts) / len(dataset) for name in names}
    return {"val_loss": sum(means.values()), **{f"val_loss/{n}": v for n, v in means.items()}}


def in_labels_of_the_model(targets: Targets, label_of: Tensor) -> Targets:
    """The same objects, pixels or image, with the model's labels."""
    label_of = label_of.to(targets.labels.device)
    labels, pixels, image = label_of[targets.labels], targets.pixels, targets.image_label
    if image is not None and image >= 0:
        image = label_of[image]
    if pixels is not None:
        table = pixels.new_full((IGNORE + 1,), IGNORE)
        table[: len(label_of)] = label_of.to(table.dtype)
        pixels = table[pixels.long()]
    changed = replace(targets, labels=labels, pixels=pixels, image_label=image)
    return changed.select(labels >= 0)
