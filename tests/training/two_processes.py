"""What `test_distributed.py` starts twice with torchrun."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from detkit import distributed
from detkit.commands.train import train
from detkit.config import compose
from detkit.models.build import build
from detkit.structures import Classes, Targets
from detkit.training.signals import Interrupted

SIDE = 64
MODELS = {  # enough samples that none is left out at random
    "faster_rcnn": {
        "head_channels": 16,
        "rpn_samples": 4096,
        "rpn_positive_fraction": 1.0,
        "roi_samples": 4096,
        "roi_positive_fraction": 1.0,
    },
    "yolo_v3": {"neck_width": 1 / 16},
    "unet": {"decoder_width": 2},
}


def pictures() -> tuple[torch.Tensor, list[Targets]]:
    """Four, with three, no, one and two objects."""
    g = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8, generator=g)
    targets = []
    for count in (3, 0, 1, 2):
        corner = torch.rand(count, 2, generator=g) * 30
        side = 10 + torch.rand(count, 2, generator=g) * 20
        pixels = torch.randint(0, 3, (SIDE, SIDE), generator=g).to(torch.uint8)
        pixels[: 10 * count] = 255  # not as many pixels count in each
        boxes = torch.cat([corner, corner + side], 1)
        labels = torch.randint(0, 3, (count,), generator=g)
        targets.append(Targets(boxes, labels, pixels=pixels))
    return images, targets


def gradients(folder: Path) -> None:
    world = distributed.start("cpu")
    images, targets = pictures()
    for name, settings in MODELS.items():
        torch.manual_seed(0)
        backbone = {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8}
        if name != "faster_rcnn":
            backbone = {"name": "resnet18", "width": 0.125}
        model = build({"name": name, **settings}, backbone, Classes.numbered(3)).train()
        for module in model.modules():  # their statistics are each process's own
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        net = distributed.wrap(model, world)
        mine = slice(world.rank, None, world.size)
        sum(net(images[mine], targets[mine]).values()).backward()
        if world.main:
            save(model, folder / f"{name}-2.safetensors")
            model.zero_grad()
            sum(model(images, targets).values()).backward()
            save(model, folder / f"{name}-1.safetensors")
        distributed.barrier(world)


def save(model: torch.nn.Module, file: Path) -> None:
    untouched = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not untouched, untouched
    save_file({name: p.grad.clone() for name, p in model.named_parameters()}, file)


def resume(folder: Path) -> None:
    from tiny_run import run

    def interrupt(step: int) -> None:
        if step == 5 and os.environ["RANK"] == "1":  # the other learns of it
            os.kill(os.getpid(), signal.SIGINT)

    run(folder / "whole", workers=1)
    try:
        run(folder / "parts", workers=1, at_step=interrupt)
    except Interrupted:
        state = run(folder / "parts", workers=1)
    weights = torch.cat([p.detach().flatten() for p in state.model.parameters()])
    saved = {"weights": weights, "random": torch.get_rng_state()}
    save_file(saved, folder / f"weights-{os.environ['RANK']}.safetensors")


def command(folder: Path) -> None:
    """The whole command, measured on a number of images that two do not share evenly."""
    given = [
        *("backbone=resnet18_fpn", "backbone.width=0.125", "training.val_losses=true"),
        *("backbone.fpn_channels=8", "model.head_channels=16", "model.proposals=[50,20]"),
        *("dataset=shapes", "dataset.train_images=8", "dataset.val_images=5", "dataset.size=64"),
        *("transforms.short_side=64", "transforms.long_side=64", "device=cpu"),
        *("training.batch_size=1", "training.workers=0", "training.epochs=1", "training.ema=0.9"),
    ]
    stop, distributed.stop = distributed.stop, lambda: None  # no group can be joined twice
    train(compose("train", ["model=faster_rcnn", *given, f"run_dir={folder / 'run'}"]))
    distributed.stop = stop
    alternating = ["model=faster_rcnn_alternating", *given, "training.log_every=1"]
    train(compose("train", [*alternating, f"run_dir={folder / 'alternating'}"]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    gradients(Path(sys.argv[1]))
    resume(Path(sys.argv[1]))
    command(Path(sys.argv[1]))
