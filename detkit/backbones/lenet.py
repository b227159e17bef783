"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document
recognition, figure 2), and what such a network is made of today.

    lenet5:         C1 5×5 ─▶ S2 ─▶ C3 5×5 ─▶ S4 ─▶ C5 (120) ─▶ F6 (84) ─▶ 10 logits
                    6, "0"    "1"              16, "2"     tail
    lenet5_modern:  3×3 ─▶ 3×3, pool ─▶ dense 128 ─▶ 10 logits
                    32     64, "1"      tail

`lenet5` has the paper's 60,000 parameters in front of its last layer: the connections of its table
I, a factor and a bias for each map of S2 and S4, and the scaled tanh of its appendix A. C1 pads
digits of 28 pixels to the paper's 32.

Differs from the paper: F6 is followed by a linear layer and a softmax instead of distances to drawn
letters, and weights start by the rule that LeCun gave in another paper of that year.

Pictures of another size are taken, too: the tail averages the last map to the cells that it knows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import (
    FullyConnectedTail,
    Normalization,
    Tail,
    Trunk,
    backbones,
    scaled,
)
from detkit.ranges import Count, Natural

# Table I: which of the six maps of S2 each of the sixteen of C3 looks at.
TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)


@backbones.register("lenet5")
class LeNet5(Trunk):
    """Levels "0" … "2"; the tail is C5 and F6 on 5×5 cells of S4 (level "2").

    Args:
        width: multiplies every channel count; with another one than 1 C3 sees all maps of S2.
        in_channels: of the images: 3 for RGB, 1 for grey.
        padding: of the image: 2 for digits of 28 pixels, 0 for 32.
    """

    tail_size = None
    logits = "logits"

    def __init__(self, *, width: float = 1.0, in_channels: Count = 3, padding: Natural = 2) -> None:
        super().__init__(in_channels)
        # section II.B: the background is −0.1 and the ink 1.175, so that the mean is about 0
        self.normalization = Normalization((0.1 / 1.275,) * in_channels, (1 / 1.275,) * in_channels)
        c1, c3 = scaled(6, width), scaled(16, width)
        self.hidden = scaled(120, width), scaled(84, width)
        self.c1 = nn.Conv2d(in_channels, c1, 5, padding=padding)
        self.s2 = Subsampling(c1)
        self.c3 = TableConv(c1, c3, 5) if (c1, c3) == (6, 16) else nn.Conv2d(c1, c3, 5)
        self.s4 = Subsampling(c3)
        self.tanh = ScaledTanh()
        self.cut(
            {
                "0": (c1, ["c1", "tanh"]),
                "1": (c1, ["s2", "tanh"]),
                "2": (c3, ["c3", "tanh", "s4", "tanh"]),
            }
        )
        start_small(self)

    def make_tail(self, after: str) -> Tail:
        c5, f6 = self.hidden
        layers = [nn.Linear(self.channels[after] * 25, c5), ScaledTanh()]
        tail = FullyConnectedTail([*layers, nn.Linear(c5, f6), ScaledTanh()], 5, f6)
        start_small(tail)
        return tail


@backbones.register("lenet5_modern")
class LeNet5Modern(Trunk):
    """Level "1"; the tail is a layer of 128 on its 12×12 cells.

    There is no level "0": without padding its map would be smaller than the picture.

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
        dropout: behind the pool and behind the layer of 128, in the tail.
    """

    tail_size = None
    logits = "logits"

    def __init__(
        self,
        *,
        width: float = 1.0,
        in_channels: Count = 3,
        dropout: tuple[float, float] = (0.25, 0.5),
    ) -> None:
        super().__init__(in_channels)
        self.normalization = Normalization((0.0,) * in_channels, (1.0,) * in_channels)
        first, second = scaled(32, width), scaled(64, width)
        self.hidden, self.dropout = scaled(128, width), dropout
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, first, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.cut({"1": (second, [f"features.{i}" for i in range(5)])})

    def make_tail(self, after: str) -> Tail:
        layers = [
            nn.Dropout(self.dropout[0]),
            nn.Linear(self.channels[after] * 144, self.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(self.dropout[1]),
        ]
        return FullyConnectedTail(layers, 12, self.hidden)


class ScaledTanh(nn.Module):
    """1.7159 · tanh(⅔ x), which is ±1 at ±1 (appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum of 2×2 cells, times a factor and plus a bias of each map (section II.B, S2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.25))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        total = 4 * F.avg_pool2d(x, 2)
        return total * self.weight[:, None, None] + self.bias[:, None, None]


class TableConv(nn.Conv2d):
    """A convolution of which each map sees those of `TABLE`; the other weights count nowhere."""

    seen: Tensor

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__(before, after, kernel)
        seen = torch.zeros(after, before, 1, 1)
        for row, maps in enumerate(TABLE):
            seen[row, list(maps)] = 1
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.seen, self.bias)


def start_small(module: nn.Module) -> None:
    """Weights of deviation 1/√inputs, for this tanh (LeCun et al. 1998, Efficient BackProp, 16)."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
