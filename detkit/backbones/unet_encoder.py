"""U-Net's contracting path (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, figure 1).

    image ─▶ 2 convs ─▶ pool, 2 convs ─▶ pool, 2 convs ─▶ pool, 2 convs ─▶ pool, 2 convs
             64, "0"      128, "1"         256, "2"         512, "3"         1024, "4"

Convolutions are padded here, and a batch norm follows each unless `batch_norm` is false, as in the
paper; `unet_encoder_2015` begins without, and with the paper's dropout. A model of unpadded
convolutions (`models/unet_2015.py`) asks for it without the padding.
"""

from __future__ import annotations

from torch import nn

from detkit.backbones.backbone import Chain, Trunk, backbones, scaled
from detkit.ranges import Count, Share

UNPADDED_SIDE = 140  # pixels, of which unpadded convolutions leave one cell of the last map


@backbones.register(
    "unet_encoder_2015", defaults={"batch_norm": False, "dropout": 0.5}, padded=True
)
@backbones.register("unet_encoder", padded=True)
class UNetEncoder(Trunk):
    """Levels "0" … "4"; no tail, for it was never a classifier.

    Args:
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
        batch_norm: behind every convolution.
        dropout: behind each of the last two levels (section 3.1: at the end of the contracting
            path).
        padded: convolutions keep the size of their map; whoever builds it decides.
    """

    tail_size = None
    classifier = ()

    def __init__(
        self,
        *,
        width: float = 1.0,
        in_channels: Count = 3,
        batch_norm: bool = True,
        dropout: Share = 0.0,
        padded: bool = True,
    ) -> None:
        super().__init__(in_channels)
        self.least_side = 1 if padded else UNPADDED_SIDE
        path, before = {}, in_channels
        for level in range(5):
            after = scaled(64 * 2**level, width)
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if level else []
            for taken in (before, after):
                layers.append(nn.Conv2d(taken, after, 3, padding=int(padded), bias=not batch_norm))
                layers += [nn.BatchNorm2d(after)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
            layers += [nn.Dropout(dropout)] if dropout and level >= 3 else []
            self.add_module(f"stage{level}", Chain(*layers))
            path[str(level)] = after, [f"stage{level}"]
            before = after
        self.cut(path)
