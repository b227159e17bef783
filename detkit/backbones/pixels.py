"""No network at all: the picture as it is, for a model that brings every layer itself."""

from __future__ import annotations

from detkit.backbones.backbone import Normalization, Trunk, backbones
from detkit.ranges import Count


@backbones.register("pixels")
class Pixels(Trunk):
    """Level "0", the picture's own values in 0 … 1.

    Args:
        width: means nothing here.
        in_channels: of the images: 3 for RGB, 1 for grey.
    """

    tail_size = None

    def __init__(self, *, width: float = 1.0, in_channels: Count = 3) -> None:
        super().__init__(in_channels)
        self.normalization = Normalization.plain(in_channels)
        self.cut({"0": (in_channels, [])})
