"""SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360, table 1).

    image ─▶ conv 7×7/2 ─▶ pool, fire2–4 ─▶ pool, fire5–8 ─▶ pool, fire9
                "1"             "2"              "3"            "4"

No padding in the first convolution and the pools: the maps are up to a cell smaller than the image
over the stride.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detkit.backbones.backbone import CellTail, Tail, Trunk, backbones, scaled
from detkit.ranges import Count


@backbones.register("squeezenet1_0")
class SqueezeNet(Trunk):
    """Levels "1" … "4"; its classifier is one 1×1 convolution, ReLU and a mean.

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    tail_size = None
    classifier = ("classifier.",)
    logits = "classifier.1"
    logits_dropout = 0.5

    def __init__(self, *, width: float = 1.0, in_channels: Count = 3) -> None:
        super().__init__(in_channels)
        first = scaled(96, width)
        conv = nn.Conv2d(in_channels, first, 7, stride=2)
        layers: list[nn.Module] = [conv, nn.ReLU(inplace=True)]
        path, before = {"1": (first, ["features.0", "features.1"])}, first
        stages = [(16, 16, 32), (32, 48, 48, 64), (64,)]  # squeeze; each expand is four times that
        for level, squeezes in enumerate(stages, start=2):
            start = len(layers)
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            for channels in squeezes:
                expand = scaled(channels * 4, width)
                layers.append(Fire(before, scaled(channels, width), expand))
                before = expand * 2
            path[str(level)] = before, [f"features.{i}" for i in range(start, len(layers))]
        self.features = nn.Sequential(*layers)
        self.cut(path)

    def make_tail(self, after: str) -> Tail:
        return CellTail(self.channels[after])


class Fire(nn.Module):
    """A 1×1 squeeze, then 1×1 and 3×3 convolutions side by side (figure 1)."""

    def __init__(self, before: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.squeeze(x))
        return torch.relu_(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))
