"""Darknet's own networks: 53 (Redmon and Farhadi 2018, arXiv:1804.02767, table 1), 19 (Redmon and
Farhadi 2016, arXiv:1612.08242, table 6) and the trunks of YOLOv3-tiny and YOLOv2-tiny.

    53: image ─▶ conv ─▶ 1 block ─▶ 2 blocks ─▶ 8 blocks ─▶ 8 blocks ─▶ 4 blocks
                  "0"      "1"        "2"         "3"         "4"         "5"

    19: image ─▶ conv ─▶ pool, conv ─▶ pool, 3 convs ─▶ pool, 3 ─▶ pool, 5 ─▶ pool, 5
                  "0"       "1"            "2"            "3"        "4"        "5"

Each stage of 53 opens with a 3×3 convolution of stride 2 that doubles the channels, each of the
others with a max pool. The modules stand in the order of Darknet's own weights files.
"""

from __future__ import annotations

from torch import Tensor, nn

from detkit.backbones import darknet_weights
from detkit.backbones.backbone import Chain, Trunk, backbones, scaled
from detkit.backbones.darknet_modules import MaxPool
from detkit.ranges import Count

SAME_POOL = 0  # among the widths of a stage: a 2×2 max pool of stride 1
TINY = ((16,), (32,), (64,), (128,), (256,))


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
        self.darknet_layout = darknet_weights.layout(self)


@backbones.register("darknet_tiny", widths=(*TINY, (512, SAME_POOL, 1024)))
@backbones.register("darknet_tiny_v2", widths=(*TINY, (512, SAME_POOL, 1024, 1024)))
@backbones.register(
    "darknet19",
    widths=(
        *((32,), (64,), (128, 64, 128), (256, 128, 256)),
        *((512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024)),
    ),
)
class PlainDarknet(Trunk):
    """Levels "0" … "5"; the tail is stage 5 and a mean, on 14×14 cells of level "4".

    `darknet_tiny` is YOLOv3-tiny's trunk, `darknet_tiny_v2` that of YOLOv2-tiny for VOC.

    Args:
        widths: channels of each convolution, stage by stage; one that is narrower than the widest
            before it in its stage is 1×1, the others are 3×3. 0 is a 2×2 max pool of stride 1.
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    classifier = ("fc.",)

    def __init__(
        self, *, widths: tuple[tuple[int, ...], ...], width: float = 1.0, in_channels: Count = 3
    ) -> None:
        super().__init__(in_channels)
        before, path = in_channels, {}
        for i, stage in enumerate(widths):
            modules: list[nn.Module] = [MaxPool(2, 2)] if i else []
            widest = 0
            for channels in stage:
                if channels == SAME_POOL:
                    modules.append(MaxPool(2, 1))
                    continue
                after = scaled(channels, width)
                modules.append(ConvNorm(before, after, 1 if channels < widest else 3))
                before, widest = after, max(widest, channels)
            self.add_module(f"stage{i}", nn.Sequential(*modules))
            path[str(i)] = before, [f"stage{i}"]
        self.cut(path)
        self.darknet_layout = darknet_weights.layout(self)


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
