"""Darknet-53 (Redmon and Farhadi 2018, arXiv:1804.02767, table 1).

    image ─▶ conv ─▶ 1 block ─▶ 2 blocks ─▶ 8 blocks ─▶ 8 blocks ─▶ 4 blocks
              "0"      "1"        "2"         "3"         "4"         "5"

Each stage opens with a 3×3 convolution of stride 2 that doubles the channels. The modules stand in
the order of Darknet's own weights file.
"""

from __future__ import annotations

from torch import Tensor, nn

from detkit.backbones.backbone import Chain, Trunk, backbones, scaled
from detkit.ranges import Count


@backbones.register("darknet53", depths=(1, 2, 8, 8, 4))
class Darknet(Trunk):
    """Levels "0" … "5"; the tail is stage 5 and a mean, on 14×14 cells of level "4".

    Args:
        depths: residual blocks of each stage.
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    classifier = ("fc.",)

    def __init__(
        self, *, depths: tuple[int, ...], width: float = 1.0, in_channels: Count = 3
    ) -> None:
        super().__init__(in_channels)
        before = scaled(32, width)
        self.stem = ConvNorm(in_channels, before, 3)
        path = {"0": (before, ["stem"])}
        for i, depth in enumerate(depths, start=1):
            after = scaled(32 * 2**i, width)
            blocks = [Residual(after, scaled(16 * 2**i, width)) for _ in range(depth)]
            stage = nn.Sequential(ConvNorm(before, after, 3, stride=2), *blocks)
            self.add_module(f"stage{i}", stage)
            path[str(i)] = after, [f"stage{i}"]
            before = after
        self.cut(path)


class ConvNorm(Chain):
    """Convolution, batch norm, leaky ReLU."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.1, inplace=True),
        )


class Residual(nn.Module):
    """x + conv3×3(conv1×1(x)), the first one half as wide."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, inner, 1)
        self.conv2 = ConvNorm(inner, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))
