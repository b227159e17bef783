"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2).

    image ─▶ conv 3×3/2, 1 block ─▶ 2 blocks ─▶ 3 blocks ─▶ 7 blocks ─▶ 4 blocks, conv 1×1
                   "1"                "2"         "3"         "4"             "5"

Differs from the paper: `width` scales the last convolution too.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Chain, Trunk, backbones, scaled
from detkit.errors import DetkitError
from detkit.ranges import Count

BLOCKS = (  # expansion, channels, blocks, stride of the first (the paper's t, c, n, s)
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@backbones.register("mobilenet_v2")
class MobileNetV2(Trunk):
    """Levels "1" … "5"; the tail is features 14 … 18 and a mean, on 14×14 cells of level "4".

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
        tensorflow_padding: pads convolutions of stride 2 as TensorFlow's "SAME" does, for weights
            from there (a cell of level "5" is then centred 31 pixels further right and down).
    """

    classifier = ("classifier.",)
    logits = "classifier.1"
    logits_dropout = 0.2

    def __init__(
        self, *, width: float = 1.0, in_channels: Count = 3, tensorflow_padding: bool = False
    ) -> None:
        super().__init__(in_channels)
        tf = self.tensorflow_padding = tensorflow_padding
        before = scaled(32, width)
        layers: list[nn.Module] = [ConvNorm(in_channels, before, 3, 2, tensorflow_padding=tf)]
        path: dict[str, tuple[int, list[str]]] = {"1": (before, ["features.0"])}
        for expansion, channels, blocks, first in BLOCKS:
            after = scaled(channels, width)
            for stride in (first, *[1] * (blocks - 1)):
                level = str(len(path) + (stride == 2))
                names = path[level][1] if level in path else []
                path[level] = after, [*names, f"features.{len(layers)}"]
                layers.append(InvertedResidual(before, after, stride, expansion, tf))
                before = after
        last = scaled(1280, width)
        path["5"] = last, [*path["5"][1], f"features.{len(layers)}"]
        layers.append(ConvNorm(before, last, 1))
        self.features = nn.Sequential(*layers)
        self.cut(path)

    def check_metadata(self, metadata: Mapping[str, str], file: str) -> None:
        if "TF SAME" in metadata.get("padding_note", "") and not self.tensorflow_padding:
            raise DetkitError(
                "These weights come from TensorFlow, whose convolutions of stride 2 pad otherwise.",
                file=file,
                remedy="set backbone.tensorflow_padding=true.",
            )


class ConvNorm(Chain):
    """Convolution, batch norm, ReLU6."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        tensorflow_padding: bool = False,
    ) -> None:
        same = tensorflow_padding and stride == 2
        padding = 0 if same else kernel // 2
        super().__init__(
            nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU6(inplace=True),
        )
        self.same = same

    def forward(self, x: Tensor) -> Tensor:
        if self.same:  # one cell in all for an even size, one on each side for an odd one
            height, width = x.shape[2] % 2, x.shape[3] % 2
            x = F.pad(x, (width, 1, height, 1))
        return super().forward(x)


class InvertedResidual(nn.Module):
    """1×1 to `expansion` times the width, 3×3 per channel, 1×1 back, linear (figure 3)."""

    def __init__(
        self, before: int, after: int, stride: int, expansion: int, tensorflow_padding: bool
    ) -> None:
        super().__init__()
        inner = before * expansion
        self.residual = stride == 1 and before == after
        self.conv = Chain(
            *([ConvNorm(before, inner, 1)] if expansion > 1 else []),
            ConvNorm(inner, inner, 3, stride, inner, tensorflow_padding),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)
