"""The losses of data that are not trained on."""

from __future__ import annotations

import math

import torch

from detkit.data.loading import Dataset, evaluation_batches
from detkit.models.model import Model
from detkit.ops.precision import autocast
from detkit.training import distributed
from detkit.training.distributed import World


@torch.no_grad()
def validation_losses(
    model: Model,
    dataset: Dataset,
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
    """
    seen: dict[str, list[torch.Tensor]] = {}
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
        with autocast(world.device, dtype):
            losses = model(batch.images, batch.targets, batch.sizes)
        for name, loss in losses.items():
            seen.setdefault(name, []).append(loss.float() * len(batch))
    model.train(training)
    sums = {name: math.fsum(torch.stack(values).tolist()) for name, values in seen.items()}
    parts = distributed.gather(sums, world)
    names = dict.fromkeys(name for part in parts for name in part)
    means = {name: sum(p.get(name, 0.0) for p in parts) / len(dataset) for name in names}
    return {"val_loss": sum(means.values()), **{f"val_loss/{n}": v for n, v in means.items()}}
