"""The convolutions of YOLO and of Fast YOLO (Redmon et al. 2015, arXiv:1506.02640, figure 3).

    yolo_v1:   image ─▶ 7×7/2 ─▶ pool, 1 conv ─▶ pool, 4 ─▶ pool, 10 ─▶ pool, 5, 3×3/2 ─▶ 3×3, 3×3
                         "1"          "2"           "3"        "4"                             "6"
    fast_yolo: image ─▶ conv ─▶ pool, conv ─▶ … ─▶ pool, conv ─▶ pool, 3 convs
                         "0"        "1"                "5"            "6"

The first 20 of the 24 are what the paper pretrains on ImageNet at 224 pixels; with Fast YOLO's it
says only that they are 9 and narrower: their widths are those of its code, Darknet's yolo-tiny.
Darknet's weights files fill them: its extraction.conv.weights, which has batch norms, as
`backbone.weights=extraction.conv.20` (that name says that it has the first layers alone).
"""

from __future__ import annotations

from torch import nn

from detkit.backbones import darknet_weights
from detkit.backbones.backbone import Chain, Trunk, backbones, scaled
from detkit.ranges import Count

# (kernel, channels, stride) of a convolution, or (2, 0, 2) for a 2×2 max pool of stride 2
POOL = (2, 0, 2)
PAPER = (
    ((7, 64, 2),),
    (POOL, (3, 192, 1)),
    (POOL, (1, 128, 1), (3, 256, 1), (1, 256, 1), (3, 512, 1)),
    (POOL, *((1, 256, 1), (3, 512, 1)) * 4, (1, 512, 1), (3, 1024, 1)),
    (POOL, *((1, 512, 1), (3, 1024, 1)) * 2, (3, 1024, 1)),
    ((3, 1024, 2), (3, 1024, 1), (3, 1024, 1)),
)
FAST = (
    ((3, 16, 1),),
    *((POOL, (3, channels, 1)) for channels in (32, 64, 128, 256, 512)),
    (POOL, *((3, 1024, 1),) * 3),
)


@backbones.register("yolo_v1", layers=PAPER, first=1, connected=(4096,))
@backbones.register("fast_yolo", layers=FAST, first=0, connected=(256, 4096))
class YOLOv1Trunk(Trunk):
    """Levels "1" … "6" (Fast YOLO's: "0" … "6"); the coarsest has 7×7 cells of 448 pixels.

    Args:
        layers: of each level.
        first: the first level.
        connected: units of the paper's fully connected layers behind it, but for the last one.
        batch_norm: a batch norm in each convolution, as in Darknet's later files. The paper has
            none, but pretrained weights; from random ones the networks hardly learn without.
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    tail_size = None

    def __init__(
        self,
        *,
        layers: tuple[tuple[tuple[int, int, int], ...], ...],
        first: int,
        connected: tuple[int, ...],
        batch_norm: bool = False,
        width: float = 1.0,
        in_channels: Count = 3,
    ) -> None:
        super().__init__(in_channels)
        self.connected = connected
        before, path = in_channels, {}
        for level, described in enumerate(layers, start=first):
            modules: list[nn.Module] = []
            for layer in described:
                if layer == POOL:
                    modules.append(nn.MaxPool2d(2, 2, ceil_mode=True))
                    continue
                kernel, channels, stride = layer
                after = scaled(channels, width)
                modules.append(unit(before, after, kernel, stride, batch_norm))
                before = after
            self.add_module(f"stage{level}", nn.Sequential(*modules))
            path[str(level)] = before, [f"stage{level}"]
        self.cut(path)
        self.darknet_layout = darknet_weights.layout(self)


def unit(before: int, after: int, kernel: int, stride: int, batch_norm: bool) -> Chain:
    """Convolution, batch norm if there is one, leaky ReLU (equation 2)."""
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=not batch_norm)
    norm = [nn.BatchNorm2d(after)] if batch_norm else []
    return Chain(conv, *norm, nn.LeakyReLU(0.1, inplace=True))
