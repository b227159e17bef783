"""ResNet (He, Zhang, Ren, Sun 2015, arXiv:1512.03385, table 1).

    image ─▶ conv 7×7/2 ─▶ pool, layer1 ─▶ layer2 ─▶ layer3 ─▶ layer4
                "1"            "2"          "3"       "4"       "5"

Differs from the paper: a bottleneck's stride is in its 3×3 convolution (torchvision, "ResNet v1.5")
unless `stride_in_1x1` puts it where the paper and the authors' Caffe weights have it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from detkit.backbones.backbone import Chain, Trunk, backbones, conv_norm, scaled
from detkit.errors import DetkitError
from detkit.ranges import Count


@backbones.register("resnet18", depths=(2, 2, 2, 2), bottleneck=False, stride_in_1x1=False)
@backbones.register("resnet34", depths=(3, 4, 6, 3), bottleneck=False, stride_in_1x1=False)
@backbones.register("resnet50", depths=(3, 4, 6, 3), bottleneck=True)
@backbones.register("resnet101", depths=(3, 4, 23, 3), bottleneck=True)
@backbones.register("resnet152", depths=(3, 8, 36, 3), bottleneck=True)
class ResNet(Trunk):
    """Levels "1" … "5"; the tail is layer4 and a mean, on 14×14 cells of layer3 (level "4").

    Args:
        depths: blocks of each layer.
        bottleneck: blocks of 1×1, 3×3, 1×1 convolutions (figure 5), else of two 3×3.
        stride_in_1x1: a bottleneck's stride is in its first convolution, as in He's weights.
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, ...],
        bottleneck: bool,
        stride_in_1x1: bool = False,
        width: float = 1.0,
        in_channels: Count = 3,
    ) -> None:
        super().__init__(in_channels)
        self.stride_in_1x1 = stride_in_1x1
        self.bottleneck = bottleneck
        before = scaled(64, width)
        self.conv1 = nn.Conv2d(in_channels, before, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        path = {"1": (before, ["conv1", "bn1", "relu"])}
        for i, depth in enumerate(depths):
            planes = scaled(64 * 2**i, width)
            blocks: list[nn.Module] = []
            for j in range(depth):
                stride = 2 if i and not j else 1
                if bottleneck:
                    blocks.append(Bottleneck(before, planes, stride, stride_in_1x1))
                else:
                    blocks.append(BasicBlock(before, planes, stride))
                before = planes * 4 if bottleneck else planes
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            names = [f"layer{i + 1}"] if i else ["maxpool", "layer1"]
            path[str(i + 2)] = before, names
        self.cut(path)

    def check_metadata(self, metadata: Mapping[str, str], file: str) -> None:
        in_1x1 = metadata.get("stride_placement", "").startswith("1x1")
        told = "stride_placement" in metadata and self.bottleneck
        if told and in_1x1 != self.stride_in_1x1:
            right = "true" if in_1x1 else "false"
            raise DetkitError(
                f"These weights have a bottleneck's stride in its {'1×1' if in_1x1 else '3×3'} "
                f"convolution, this network in its {'3×3' if in_1x1 else '1×1'}.",
                file=file,
                remedy=f"set backbone.stride_in_1x1={right}.",
            )


class BasicBlock(nn.Module):
    """x + conv3×3(conv3×3(x)), the first one with the stride."""

    def __init__(self, before: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _downsample(before, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(conv_norm(x, self.conv1, self.bn1))
        y = conv_norm(y, self.conv2, self.bn2)
        y += x if self.downsample is None else self.downsample(x)
        return torch.relu_(y)


class Bottleneck(nn.Module):
    """x + conv1×1(conv3×3(conv1×1(x))), the last one four times as wide."""

    def __init__(self, before: int, planes: int, stride: int, stride_in_1x1: bool) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(before, planes, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = _downsample(before, planes * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(conv_norm(x, self.conv1, self.bn1))
        y = torch.relu_(conv_norm(y, self.conv2, self.bn2))
        y = conv_norm(y, self.conv3, self.bn3)
        y += x if self.downsample is None else self.downsample(x)
        return torch.relu_(y)


def _downsample(before: int, after: int, stride: int) -> Chain | None:
    """The projection where a block changes the shape (option B of section 3.3)."""
    if stride == 1 and before == after:
        return None
    return Chain(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
