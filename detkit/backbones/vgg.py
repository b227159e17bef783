"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556, table 1: configurations A, B, D, E).

image ─▶ conv1_x ─▶ pool conv2_x ─▶ pool conv3_x ─▶ pool conv4_x ─▶ pool conv5_x ─▶ pool5
           "0"           "1"             "2"             "3"             "4" ─▶ fc6, fc7  "5"

`vgg16_ssd` is the trunk of SSD, whose fc6 and fc7 are convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import FullyConnectedTail, Tail, Trunk, backbones, scaled
from detkit.ranges import Count


@backbones.register("vgg11", convs=(1, 1, 2, 2, 2), batch_norm=False)
@backbones.register("vgg13", convs=(2, 2, 2, 2, 2), batch_norm=False)
@backbones.register("vgg16", convs=(2, 2, 3, 3, 3), batch_norm=False)
@backbones.register("vgg19", convs=(2, 2, 4, 4, 4), batch_norm=False)
@backbones.register("vgg11_bn", convs=(1, 1, 2, 2, 2), batch_norm=True)
@backbones.register("vgg13_bn", convs=(2, 2, 2, 2, 2), batch_norm=True)
@backbones.register("vgg16_bn", convs=(2, 2, 3, 3, 3), batch_norm=True)
@backbones.register("vgg19_bn", convs=(2, 2, 4, 4, 4), batch_norm=True)
class VGG(Trunk):
    """Levels "0" … "5"; the tail is fc6 and fc7 on 7×7 cells of conv5 (level "4").

    Args:
        convs: convolutions of each of the five stages.
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
        dropout: behind fc6 and fc7, in the tail.
    """

    tail_size: ClassVar[int | None] = 7
    classifier = ("classifier.",)
    logits = "classifier.6"

    def __init__(
        self,
        *,
        convs: tuple[int, ...],
        batch_norm: bool,
        width: float = 1.0,
        in_channels: Count = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(in_channels)
        self.fc = scaled(4096, width)
        self.dropout = dropout
        layers: list[nn.Module] = []
        path, before, start = {}, in_channels, 0
        for level, (depth, channels) in enumerate(
            zip(convs, (64, 128, 256, 512, 512), strict=True)
        ):
            after = scaled(channels, width)
            for _ in range(depth):
                norm = [nn.BatchNorm2d(after)] if batch_norm else []
                layers += [nn.Conv2d(before, after, 3, padding=1), *norm, nn.ReLU(inplace=True)]
                before = after
            path[str(level)] = after, [f"features.{i}" for i in range(start, len(layers))]
            start = len(layers)
            layers.append(nn.MaxPool2d(2, 2))
        path["5"] = before, [f"features.{start}"]
        self.features = nn.Sequential(*layers)
        self.cut(path)

    def make_tail(self, after: str) -> Tail:
        layers = [
            nn.Linear(self.channels[after] * 49, self.fc),
            nn.ReLU(inplace=True),
            nn.Dropout(self.dropout),
            nn.Linear(self.fc, self.fc),
            nn.ReLU(inplace=True),
            nn.Dropout(self.dropout),
        ]
        return FullyConnectedTail(layers, 7, self.fc)


@backbones.register("vgg16_ssd")
class DilatedVGG(VGG):
    """Configuration D as SSD has it (Liu et al. 2016, arXiv:1512.02325, section 3).

        … conv4_3 ─┬─▶ pool4 ─▶ conv5_x ─▶ pool5 3×3/1 ─▶ fc6 3×3, dilated by 6 ─▶ fc7 1×1 ─▶ "4"
                   └─▶ L2 norm ─▶ "3"

    Levels "0" … "4". Pool3 rounds up, so that 300 pixels are 38 cells. The paper's fc6 and fc7 are
    every fourth row of VGG's, fc6 with every third of its 7×7 weights: a file of the classifier's
    weights (`backbone.weights=imagenet`) gives them too.

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    tail_size = None
    published = "vgg16"

    def __init__(self, *, width: float = 1.0, in_channels: Count = 3) -> None:
        super().__init__(
            convs=(2, 2, 3, 3, 3), batch_norm=False, width=width, in_channels=in_channels
        )
        path = {level: (self.channels[level], names) for level, names in self.path.items()}
        before, inner = path.pop("5")[0], path["4"][1]
        after = scaled(1024, width)
        self.features[16].ceil_mode = True  # type: ignore[assignment]
        self.features[30] = nn.MaxPool2d(3, 1, 1)
        self.fc6 = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=6, dilation=6), nn.ReLU(inplace=True)
        )
        self.fc7 = nn.Sequential(nn.Conv2d(after, after, 1), nn.ReLU(inplace=True))
        path["4"] = after, (*inner, "features.30", "fc6", "fc7")
        self.norm = ScaledNorm(self.channels["3"])
        self.cut(path)

    def forward(self, images: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        maps = super().forward(images, taps)
        if "3" in maps:  # beside the path: conv5 goes on from what is not normalised
            maps["3"] = self.norm(maps["3"])
        return maps

    def stages(self) -> list[list[nn.Module]]:
        stages = super().stages()
        if "3" in self.channels:
            stages[3].append(self.norm)
        return stages

    def keep(self, levels: Sequence[str]) -> None:
        super().keep(levels)
        if "3" not in levels:
            del self.norm

    def make_tail(self, after: str) -> Tail:
        return Trunk.make_tail(self, after)

    def adapted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A classifier's fc6 and fc7 as the convolutions that they are here."""
        found = dict(tensors)
        if "4" not in self.channels:
            return found
        for name, place, side, step in (
            ("fc6", "classifier.0", 7, 3),
            ("fc7", "classifier.3", 1, 1),
        ):
            weight, bias = found.get(f"{place}.weight"), found.get(f"{place}.bias")
            if weight is None or bias is None or weight[0].numel() % side**2:
                continue
            outputs, inputs = self.state_dict()[f"{name}.0.weight"].shape[:2]
            kernel = weight.reshape(len(weight), -1, side, side)
            rows = max(1, len(weight) // outputs)
            columns = max(1, kernel.shape[1] // inputs)
            found[f"{name}.0.weight"] = kernel[::rows, ::columns, ::step, ::step].contiguous()
            found[f"{name}.0.bias"] = bias[::rows].contiguous()
            del found[f"{place}.weight"], found[f"{place}.bias"]
        return found


class ScaledNorm(nn.Module):
    """Each cell's features at length 1, then scaled by channel (SSD, section 3.1: by 20 at first).

    conv4_3's features are of another scale than those of the later maps.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same; in float32, for a sum of squares overflows in fp16."""
        return (F.normalize(x.float()) * self.weight[:, None, None]).to(x.dtype)
