"""The modules of Darknet's networks that PyTorch lacks, by Darknet's own arithmetic.

Of maps that join, the larger is cropped at the right and bottom; Darknet demands images whose sides
are multiples of the stride, where none is larger.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(0.1, inplace=True),
    "linear": nn.Identity,
    "logistic": nn.Sigmoid,
    "mish": nn.Mish,
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "swish": nn.SiLU,
}


class MaxPool(nn.Module):
    """Largest value of size×size cells; `padding` cells are added in all, the larger half behind.

    With the default padding of size − 1 the output has ⌈H / stride⌉ cells.

    Args:
        size, stride: of the window, in cells.
        padding: on both sides together.
    """

    def __init__(self, size: int, stride: int, padding: int | None = None) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.padding = size - 1 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        front = self.padding // 2
        if self.padding % 2 == 0 and front <= self.size // 2:
            return F.max_pool2d(x, self.size, self.stride, front)
        behind = self.padding - front
        x = F.pad(x, (front, behind, front, behind), value=-torch.inf)
        return F.max_pool2d(x, self.size, self.stride)

    def extra_repr(self) -> str:
        return f"{self.size}, stride={self.stride}, padding={self.padding}"


class Route(nn.Module):
    """Maps side by side, of each one group of its channels."""

    def __init__(self, groups: int, group: int) -> None:
        super().__init__()
        self.groups, self.group = groups, group

    def forward(self, *maps: Tensor) -> Tensor:
        height, width = (min(x.shape[axis] for x in maps) for axis in (2, 3))
        parts = [x.chunk(self.groups, 1)[self.group][..., :height, :width] for x in maps]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class Shortcut(nn.Module):
    """x plus another map, in as many channels as both have; of the larger map every nth cell."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        if x.shape == added.shape:
            return self.activation(x + added)
        stride, sample = (
            max(1, round(a / b))
            for a, b in ((added.shape[3], x.shape[3]), (x.shape[3], added.shape[3]))
        )
        channels = min(x.shape[1], added.shape[1])
        x, added = x.clone(), added[:, :channels, ::stride, ::stride]
        place = x[:, :channels, ::sample, ::sample]
        height, width = (min(place.shape[axis], added.shape[axis]) for axis in (2, 3))
        place[..., :height, :width] += added[..., :height, :width]
        return self.activation(x)


class Reorg(nn.Module):
    """YOLOv2's passthrough, a quarter of the cells and four times the channels for a stride of 2.

    Darknet takes the map's memory for one of C/s² channels and sides s times as long, so that the
    channels are in another order than in the paper's words; its weights want that order.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        s = self.stride
        batch, channels, height, width = x.shape
        x = x[..., : height // s * s, : width // s * s]
        height, width = x.shape[2:]
        x = x.reshape(batch, channels // s**2, height, s, width, s)
        x = x.permute(0, 3, 5, 1, 2, 4)  # row and column inside the block come first
        return x.reshape(batch, channels * s**2, height // s, width // s)
