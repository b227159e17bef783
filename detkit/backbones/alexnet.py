"""AlexNet: `alexnet_2012` is that of Krizhevsky, Sutskever and Hinton 2012 (NIPS, figure 2), and
`alexnet` the one-column network of Krizhevsky 2014 (arXiv:1404.5997) that torchvision has.

    image ─▶ conv 11×11/4 ─▶ pool ─▶ conv 5×5 ─▶ pool ─▶ 3 × conv 3×3 ─▶ pool [─▶ fc6 ─▶ fc7]
                  "2"                   "3"                 "4"           "5"

That of 2012 was split over two GPUs: its second, fourth and fifth convolutions see one half of the
channels each (two groups), and a response normalisation follows the first two. No padding in the
pools: the maps are up to a cell smaller than the image over the stride.

Differs from the paper of 2012: pictures of 224 pixels, as its text has them, are padded by 2 to get
the 55×55 cells of its figure; weights start by He's rule.
"""

from __future__ import annotations

from torch import nn

from detkit.backbones.backbone import FullyConnectedTail, Tail, Trunk, backbones, scaled
from detkit.backbones.googlenet import ResponseNorm
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
    logits = "classifier.6"

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
        return fc6_fc7(self.channels[after], self.fc, self.dropout)


@backbones.register("alexnet_2012")
class AlexNet2012(Trunk):
    """Levels "2" … "5"; the tail is fc6 and fc7 on 6×6 cells of conv5 (level "4").

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
        dropout: before fc6 and fc7, in the tail.
    """

    tail_size = 6
    classifier = ("classifier.",)
    logits = "classifier.6"

    def __init__(self, *, width: float = 1.0, in_channels: Count = 3, dropout: float = 0.5) -> None:
        super().__init__(in_channels)
        c = [scaled(channels, width) for channels in (96, 256, 384, 384, 256)]
        self.fc = scaled(4096, width)
        self.dropout = dropout
        norm = ResponseNorm(k=2.0, alpha=1e-4)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, c[0], 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            norm,
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c[0], c[1], 5, padding=2, groups=2),
            nn.ReLU(inplace=True),
            norm,
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c[1], c[2], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c[2], c[3], 3, padding=1, groups=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(c[3], c[4], 3, padding=1, groups=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        names = [f"features.{i}" for i in range(15)]
        self.cut(
            {
                "2": (c[0], names[:3]),
                "3": (c[1], names[3:7]),
                "4": (c[4], names[7:14]),
                "5": (c[4], names[14:]),
            }
        )

    def make_tail(self, after: str) -> Tail:
        return fc6_fc7(self.channels[after], self.fc, self.dropout)


def fc6_fc7(channels: int, width: int, dropout: float) -> Tail:
    """On 6×6 cells of so many channels."""
    layers = [
        nn.Dropout(dropout),
        nn.Linear(channels * 36, width),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
    ]
    return FullyConnectedTail(layers, 6, width)
