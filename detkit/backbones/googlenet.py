"""GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842, table 1).

    image ─▶ conv1 7×7/2 ─▶ pool, conv2 ─▶ pool, 3a 3b ─▶ pool, 4a … 4e ─▶ pool, 5a 5b
                "1"            "2"            "3"             "4"             "5"

`googlenet_2014` is the paper's network with the module names of its Caffe weights; level "2" is
what the second response normalisation gives, the last map of stride 4. `googlenet` is
torchvision's: batch norm, no response normalisation, 3×3 kernels where the paper has 5×5.

In training a classifier has two more heads, on 4a and 4d (section 5): `AuxiliaryHead`. They start
anew also where a file has weights of such.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Trunk, backbones, conv_norm, initialize, last_layer, scaled
from detkit.ranges import Count

INCEPTIONS = {  # 1×1 | 3×3 reduce, 3×3 | 5×5 reduce, 5×5 | pool projection
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


AUXILIARY = ("4a", "4d")  # the blocks on whose maps the heads stand that training alone has


@backbones.register("googlenet_2014")
class GoogLeNet2014(Trunk):
    """Levels "1" … "5"; the tail is 5a, 5b and a mean, on 14×14 cells of 4e (level "4").

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    classifier = ("loss1_", "loss2_", "loss3_")
    logits, logits_dropout = "loss3_classifier", 0.4

    def __init__(self, *, width: float = 1.0, in_channels: Count = 3) -> None:
        super().__init__(in_channels)
        c = [scaled(channels, width) for channels in (64, 64, 192)]
        self.conv1_7x7_s2 = nn.Conv2d(in_channels, c[0], 7, stride=2, padding=3)
        self.conv2_3x3_reduce = nn.Conv2d(c[0], c[1], 1)
        self.conv2_3x3 = nn.Conv2d(c[1], c[2], 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.norm = ResponseNorm()
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        path = {
            "1": (c[0], ["conv1_7x7_s2", "relu"]),
            "2": (c[2], ["pool", "norm", "conv2_3x3_reduce", "relu", "conv2_3x3", "relu", "norm"]),
        }
        self.cut(path | add_inceptions(self, Inception2014, "inception_", "pool", c[2], width))
        self.auxiliary, self.width = auxiliary_of("inception_", width), width

    def make_auxiliary(self, tap: str, classes: int) -> nn.Module:
        channels = scaled(128, self.width)
        conv = nn.Sequential(nn.Conv2d(self.auxiliary[tap], channels, 1), nn.ReLU(inplace=True))
        return AuxiliaryHead(conv, channels, scaled(1024, self.width), classes)


@backbones.register("googlenet")
class GoogLeNet(Trunk):
    """Levels "1" … "5"; the tail is 5a, 5b and a mean, on 14×14 cells of 4e (level "4").

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    classifier = ("fc.", "aux1.", "aux2.")
    logits_dropout = 0.2

    def __init__(self, *, width: float = 1.0, in_channels: Count = 3) -> None:
        super().__init__(in_channels)
        c = [scaled(channels, width) for channels in (64, 64, 192)]
        self.conv1 = ConvNorm(in_channels, c[0], 7, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = ConvNorm(c[0], c[1], 1)
        self.conv3 = ConvNorm(c[1], c[2], 3)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)  # the paper's is 3×3
        path = {"1": (c[0], ["conv1"]), "2": (c[2], ["maxpool1", "conv2", "conv3"])}
        self.cut(path | add_inceptions(self, Inception, "inception", "maxpool", c[2], width))
        self.auxiliary, self.width = auxiliary_of("inception", width), width

    def make_auxiliary(self, tap: str, classes: int) -> nn.Module:
        channels = scaled(128, self.width)
        conv = ConvNorm(self.auxiliary[tap], channels, 1)
        return AuxiliaryHead(conv, channels, scaled(1024, self.width), classes)


class Inception2014(nn.ModuleDict):
    """Four branches side by side (figure 2b), under Caffe's names."""

    def __init__(self, before: int, c: tuple[int, ...]) -> None:
        super().__init__(
            {
                "1x1": nn.Conv2d(before, c[0], 1),
                "3x3_reduce": nn.Conv2d(before, c[1], 1),
                "3x3": nn.Conv2d(c[1], c[2], 3, padding=1),
                "5x5_reduce": nn.Conv2d(before, c[3], 1),
                "5x5": nn.Conv2d(c[3], c[4], 5, padding=2),
                "pool_proj": nn.Conv2d(before, c[5], 1),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = [
            self["1x1"](x),
            self["3x3"](torch.relu_(self["3x3_reduce"](x))),
            self["5x5"](torch.relu_(self["5x5_reduce"](x))),
            self["pool_proj"](F.max_pool2d(x, 3, stride=1, padding=1)),
        ]
        return torch.relu_(torch.cat(branches, 1))


class Inception(nn.Module):
    """The same with batch norm, under torchvision's names."""

    def __init__(self, before: int, c: tuple[int, ...]) -> None:
        super().__init__()
        self.branch1 = ConvNorm(before, c[0], 1)
        self.branch2 = nn.Sequential(ConvNorm(before, c[1], 1), ConvNorm(c[1], c[2], 3))
        self.branch3 = nn.Sequential(ConvNorm(before, c[3], 1), ConvNorm(c[3], c[4], 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), ConvNorm(before, c[5], 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(conv_norm(x, self.conv, self.bn))


class AuxiliaryHead(nn.Module):
    """A mean over 5×5 cells, a 1×1 convolution and two layers (section 5).

    Args:
        conv: with its activation, to so many `channels`.
        hidden: width of the first layer.
    """

    def __init__(self, conv: nn.Module, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.conv, self.fc1 = conv, nn.Linear(channels * 16, hidden)
        initialize(self)
        self.fc2 = last_layer(nn.Linear(hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, K); the paper's 14×14 cells become 4×4, others are averaged to it."""
        x = F.avg_pool2d(x, 5, 3) if min(x.shape[2:]) >= 5 else x
        x = self.conv(F.adaptive_avg_pool2d(x, 4))
        x = F.dropout(torch.relu(self.fc1(x.flatten(1))), 0.7, self.training)
        return self.fc2(x)


class ResponseNorm(nn.Module):
    """x / (k + α · Σ x²)^¾ over five neighbouring channels.

    Section 3.3 of Krizhevsky et al. 2012. The sum is of shifted slices: ten times as fast on a CPU
    as the pooling in F.local_response_norm.

    Args:
        k, alpha: Caffe's 1 and 1e-4/5; the paper's are 2 and 1e-4.
    """

    def __init__(self, k: float = 1.0, alpha: float = 1e-4 / 5) -> None:
        super().__init__()
        self.k, self.alpha = k, alpha

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()  # the squares of a trained net's activations leave float16's range
        squares = F.pad(wide * wide, (0, 0, 0, 0, 2, 2))
        channels = x.shape[1]
        total = squares[:, :channels].clone()
        for shift in range(1, 5):
            total = total + squares[:, shift : shift + channels]
        root = (total * self.alpha + self.k).rsqrt()
        return (wide * (root * root.sqrt())).to(x.dtype)  # root^1.5 is the power −¾


def auxiliary_of(prefix: str, width: float) -> dict[str, int]:
    """The blocks below the auxiliary heads, and the channels of their maps."""
    columns = (0, 2, 4, 5)  # of what a block's branches give
    return {
        prefix + name: sum(scaled(INCEPTIONS[name][i], width) for i in columns)
        for name in AUXILIARY
    }


def add_inceptions(
    net: Trunk, block: type, prefix: str, pool: str, before: int, width: float
) -> dict[str, tuple[int, list[str]]]:
    """Give `net` its nine blocks; their part of the path, with `pool` in front of each level."""
    path: dict[str, tuple[int, list[str]]] = {}
    for name, channels in INCEPTIONS.items():
        c = tuple(scaled(n, width) for n in channels)
        net.add_module(prefix + name, block(before, c))
        before = c[0] + c[2] + c[4] + c[5]
        level = name[0]
        numbered = pool if hasattr(net, pool) else f"{pool}{int(level) - 1}"
        names = path[level][1] if level in path else [numbered]
        path[level] = before, [*names, prefix + name]
    return path
