"""U-Net's contracting path (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, figure 1).

    image ─▶ 2 convs ─▶ pool, 2 convs ─▶ pool, 2 convs ─▶ pool, 2 convs ─▶ pool, 2 convs
             64, "0"      128, "1"         256, "2"         512, "3"         1024, "4"

Convolutions are padded here, and a batch norm follows each unless `batch_norm` is false, as in the
paper.
"""

from __future__ import annotations

from torch import nn

from detkit.backbones.backbone import Chain, Trunk, backbones, scaled
from detkit.ranges import Count


@backbones.register("unet_encoder")
class UNetEncoder(Trunk):
    """Levels "0" … "4"; no tail, for it was never a classifier.

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
        batch_norm: behind every convolution.
    """

    tail_size = None
    classifier = ()

    def __init__(
        self, *, width: float = 1.0, in_channels: Count = 3, batch_norm: bool = True
    ) -> None:
        super().__init__(in_channels)
        path, before = {}, in_channels
        for level in range(5):
            after = scaled(64 * 2**level, width)
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if level else []
            for taken in (before, after):
                layers.append(nn.Conv2d(taken, after, 3, padding=1, bias=not batch_norm))
                layers += [nn.BatchNorm2d(after)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
            self.add_module(f"stage{level}", Chain(*layers))
            path[str(level)] = after, [f"stage{level}"]
            before = after
        self.cut(path)
