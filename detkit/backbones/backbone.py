"""The contract of a backbone: images in, one map per level out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Normalization:
    """What the weights expect: `(images / 255 − mean) / std`, RGB."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A network that turns images into maps of falling resolution.

    A level's name is the logarithm of its stride: "2" is the last map of stride 4, "5" of stride 32.

    Attributes:
        channels: width of each level's map, finest level first.
        strides: pixels of the image per cell of each level, same order.
        normalization: what its weights expect of the images.
        tail: the stages behind the last level as a head for RoIs, or None: R-CNN's way of using a
            classifier's upper half (ResNet's layer4, VGG's fc6 and fc7).
    """

    channels: dict[str, int]
    strides: dict[str, int]
    normalization: Normalization = Normalization()
    tail: Tail | None = None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised float images → level: (B, channels, H/stride, W/stride)."""
        raise NotImplementedError

    def stages(self) -> list[list[nn.Module]]:
        """The modules of each stage, first to last, for freezing the first ones."""
        raise NotImplementedError


class Tail(nn.Module):
    """(R, C, size, size) features of RoIs → (R, channels) vectors.

    Attributes:
        size: cells a side that it takes of each RoI.
        channels: width of the vectors.
    """

    size: int
    channels: int
