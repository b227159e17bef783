"""A model of a few numbers and a folder of clips, for everything that happens around a model."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from detkit.backbones.backbone import Backbone, normalize
from detkit.data.transforms import build
from detkit.inference.predictor import Predictor
from detkit.models.model import Model
from detkit.predictions import Detections, Segmentation
from detkit.structures import Classes


class TinyBackbone(Backbone):
    """Convolution and batch norm, twice; the statistics are those of a trained net: not 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = {"1": 4}, {"1": 2}
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, images):
        return {"1": self.block(self.bn1(self.conv1(images)).relu())}


def scramble(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every batch norm statistics and weights of its own, around 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bias")) or tensor.ndim == 1:
            if name.endswith(("running_var", "weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, 0.2, generator=generator)
    return module.eval()


class BrightBox(Model):
    """One box a class around the upper left quarter of the content; its score is the mean grey."""

    task, needs = "detect", frozenset({"boxes"})

    def forward(self, images, targets=None, sizes=None):
        # its result is not used: only its work counts
        self.backbone(normalize(images, self.mean_std, sizes))
        found = []
        for image, (height, width) in zip(images, sizes.tolist(), strict=True):
            score = image[:, :height, :width].float().mean() / 255
            box = image.new_tensor([0, 0, width / 2, height / 2], dtype=torch.float32)
            scores = score / torch.arange(1, self.num_classes + 1)
            labels = torch.arange(self.num_classes)
            found.append(Detections(box.repeat(self.num_classes, 1), scores, labels))
        return found


class RedGreen(Model):
    """Class 0 where red is the stronger, class 1 where green is."""

    task, needs = "segment_pixels", frozenset({"pixels"})

    def forward(self, images, targets=None, sizes=None):
        return [Segmentation(image[:2].float()) for image in images]


@pytest.fixture
def detector() -> Model:
    torch.manual_seed(0)
    return scramble(BrightBox(TinyBackbone(), Classes.numbered(2)))  # type: ignore[return-value]


@pytest.fixture
def segmenter() -> Model:
    torch.manual_seed(0)
    return scramble(RedGreen(TinyBackbone(), Classes.numbered(2)))  # type: ignore[return-value]


@pytest.fixture(scope="session")
def scrambled() -> Callable[..., nn.Module]:
    return scramble


@pytest.fixture(scope="session")
def turned() -> Callable[[Path, Path, int], Path]:
    """Writes a copy of an MP4 whose header says that it is to be shown turned clockwise."""
    matrices = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}

    def turn(source: Path, target: Path, degrees: int) -> Path:
        data = bytearray(source.read_bytes())
        start = data.find(b"tkhd") + 4
        # version and flags, times and ids, then 16 bytes to the matrix
        start += 4 + (20 if data[start] == 0 else 32) + 16
        a, b, c, d = (value << 16 for value in matrices[degrees])
        data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        target.write_bytes(data)
        return target

    return turn


@pytest.fixture
def predictor_of() -> Callable[..., Predictor]:
    """A predictor around a model, without a checkpoint."""

    def make(model: Model, score_thresh: float = 0.0, **settings) -> Predictor:
        meta = {
            "names": ["cat", "dög, big"],
            "category_ids": [3, 7],
            "config": {"model": {"name": "tiny"}, "backbone": {"name": "tiny"}},
        }
        transform = build({"name": "detection", "short_side": 64, "long_side": 128}, train=False)
        return Predictor(
            model, meta, transform, device="cpu", score_thresh=score_thresh, **settings
        )

    return make


@pytest.fixture(scope="session")
def put_picture() -> Callable[..., Path]:
    """Writes an 8 × 6 picture of one colour."""

    def put(path: Path, colour: tuple[int, int, int] = (128, 128, 128)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((6, 8, 3), colour[::-1], np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
        return path

    return put
