"""The small settings of every registered model, from `tests/models/small/NAME.py`.

A file holds `MODEL`, settings that keep it small, and where they differ from those below
`BACKBONES`, `BACKBONE` (settings of them all) and `SIDE` (pixels of its pictures). `LEARNER` is
what it needs more, in `model` and `backbone`, to learn two pictures within `STEPS` at `RATE`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from detkit.models.build import build
from detkit.models.model import Model, models
from detkit.structures import Classes, Targets

HERE = Path(__file__).parents[1] / "models/small"
# one of each kind: with an FPN, without, without a tail, with both
BACKBONES = ("resnet18_fpn", "googlenet", "mobilenet_v2", "squeezenet1_0_fpn", "darknet53")
CLASSES = 3


@dataclass(frozen=True)
class Small:
    model: dict[str, Any]
    backbones: tuple[str, ...]
    backbone: dict[str, Any]
    side: int
    more: dict[str, dict[str, Any]]
    steps: int
    rate: float

    def learner(self, classes: int) -> Model:
        """The model on its first backbone, large enough to learn."""
        model, backbone = self.more.get("model", {}), self.more.get("backbone", {})
        larger = replace(self, model=self.model | model, backbone=self.backbone | backbone)
        return larger.build(self.backbones[0], classes=classes)

    def build(self, backbone: str, seed: int = 0, classes: int = CLASSES) -> Model:
        torch.manual_seed(seed)
        pyramid = {"fpn_channels": 8} if backbone.endswith("_fpn") else {}
        settings = {"name": backbone, **pyramid, **self.backbone}
        return build(self.model, settings, Classes.numbered(classes))


def names() -> list[str]:
    return sorted(file.stem for file in HERE.glob("[a-z]*.py"))


def small(name: str) -> Small:
    spec = importlib.util.spec_from_file_location(f"small_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Small(
        module.MODEL,
        tuple(getattr(module, "BACKBONES", BACKBONES)),
        getattr(module, "BACKBONE", {"width": 0.125}),
        getattr(module, "SIDE", 64),
        getattr(module, "LEARNER", {}),
        getattr(module, "STEPS", 300),
        getattr(module, "RATE", 3e-3),
    )


def needs(name: str) -> frozenset[str]:
    return models.part(name).needs


def images(side: int, channels: int = 3, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def target(side: int, *boxes: tuple[int, int, int, int]) -> Targets:
    """What an image with these boxes shows, for every task at once."""
    pixels = torch.zeros(side, side, dtype=torch.uint8)
    masks = torch.zeros(len(boxes), side, side, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        pixels[top:bottom, left:right] = 1
        mask[top:bottom, left:right] = True
    return Targets(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.ones(len(boxes), dtype=torch.int64),
        masks=masks,
        crowd=torch.zeros(len(boxes), dtype=torch.bool),
        difficult=torch.zeros(len(boxes), dtype=torch.bool),
        pixels=pixels,
        image_label=torch.tensor(1 if boxes else -1),
    )


def inputs(model: Model, side: int) -> dict[str, Any]:
    """Two images as a model gets them, with proposals where it needs some."""
    given: dict[str, Any] = {"images": images(side, model.mean_std.shape[1])}
    if "proposals" in model.needs:
        offered = torch.tensor([[8.0, 12, 40, 44], [0, 0, 20, 20], [30, 30, 62, 60]]) * side / 64
        given["proposals"] = [offered, offered[:1]]
    return given
