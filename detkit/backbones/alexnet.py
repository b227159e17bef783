"""AlexNet (Krizhevsky 2014, arXiv:1404.5997: the one-column network that torchvision has).

    image ─▶ conv 11×11/4 ─▶ pool ─▶ conv 5×5 ─▶ pool ─▶ 3 × conv 3×3 ─▶ pool [─▶ fc6 ─▶ fc7]
                  "2"                   "3"                 "4"           "5"

No padding in the pools: the maps are up to a cell smaller than the image over the stride.
"""

from __future__ import annotations

from torch import nn

from detkit.backbones.backbone import FullyConnectedTail, Tail, Trunk, backbones, scaled
from detkit.ranges import Count


@backbones.register("alexnet")
class AlexNet(Trunk):
    """Levels "2" … "5"; the tail is fc6 and fc7 on 6×6 cells of conv5 (level "4").

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
        dropout: before fc6 and fc7, in the tail.
    """

    tail_size = 6
    classifier = ("classifier.",)

    def __init__(self, *, width: float = 1.0, in_channels: Count = 3, dropout: float = 0.5) -> None:
        super().__init__(in_channels)
        c = [scaled(channels, width) for channels in (64, 192, 384, 256, 256)]
        self.fc = scaled(4096, width)
        self.dropout = dropout
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, c[0], 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c[0], c[1], 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c[1], c[2], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c[2], c[3], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c[3], c[4], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        names = [f"features.{i}" for i in range(13)]
        self.cut(
            {
                "2": (c[0], names[:2]),
                "3": (c[1], names[2:5]),
                "4": (c[4], names[5:12]),
                "5": (c[4], names[12:]),
            }
        )

    def make_tail(self, after: str) -> Tail:
        layers = [
            nn.Dropout(self.dropout),
            nn.Linear(self.channels[after] * 36, self.fc),
            nn.ReLU(inplace=True),
            nn.Dropout(self.dropout),
            nn.Linear(self.fc, self.fc),
            nn.ReLU(inplace=True),
        ]
        return FullyConnectedTail(layers, 6, self.fc)
