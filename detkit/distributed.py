"""Several processes, one run: what `torchrun` says of this one, and what they tell each other.

With one process each function here is the identity, so the loop has no second form. Gradients are
averaged over the processes; a model's loss is a mean over its images, so that is the gradient of
one process with the whole batch. `find_unused_parameters` stays off: an image without objects has
to reach each trained parameter, which the models' contract tests check. Batch norms that are
trained see their process's images only on a CPU; on GPUs they are synchronised.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detkit.ops.device import pick_device

# for the main process, which may be making proposals, or solving a stage; torchrun ends the others
# when one has failed
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: its number; 0 writes the files and speaks.
        size: how many there are.
        device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        return self.rank == 0


def start(device: str = "auto") -> World:
    """Joins the processes that `torchrun` started; without it a world of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    picked = pick_device(device, local_rank)
    if picked.type == "cuda":
        torch.cuda.set_device(picked)
    if size == 1:
        return World(device=picked)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if picked.type == "cuda" else "gloo", timeout=PATIENCE)
    return World(dist.get_rank(), dist.get_world_size(), picked)


def stop() -> None:
    """Leaves the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wrap(model: nn.Module, world: World) -> nn.Module:
    """The module to call in training: averages gradients over the processes."""
    if world.size == 1:
        return model
    if world.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    devices = [world.device.index] if world.device.type == "cuda" else None
    # buffers are fixed, or a norm's statistics, which `align` makes the same where they are used
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)


def local(net: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Keeps gradients in this process until the last part of an accumulated batch."""
    if last or not isinstance(net, DistributedDataParallel):
        return nullcontext()
    return net.no_sync()


def gather(value: Any, world: World) -> list[Any]:
    """Everyone's value, in the order of ranks, in every process. Values are pickled."""
    if world.size == 1:
        return [value]
    values: list[Any] = [None] * world.size
    dist.all_gather_object(values, value)
    return values


def share(value: Any, world: World) -> Any:
    """The main process's value, in every process."""
    if world.size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def align(model: nn.Module, world: World) -> None:
    """Gives every process the main one's weights and buffers, before each evaluates its part."""
    if world.size > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)


def barrier(world: World) -> None:
    """Waits for the others."""
    if world.size > 1:
        dist.barrier()
