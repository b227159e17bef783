"""U-Net (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597).

    image ─▶ 1 ─────────────── skip ───────────────▶ 1 ─▶ 1×1 ─▶ K logits a pixel
             └▶ 1/2 ────────── skip ─────────▶ 1/2 ─▲
                └▶ 1/4 ─────── skip ───▶ 1/4 ─▲         (figure 1)
                   └▶ 1/8 … ───────────────▲
             encoder ▼                        ▲ decoder: upsample, concatenate, two 3×3 convolutions

Shapes: B images, K classes (the data's background is one of them, if it has one), (H, W) pixels.

Differences from the paper:
- convolutions are padded, so the logits have the image's size and no tile has to be mirrored;
- any backbone is the encoder (the paper's own is `backbone=unet_encoder`); where it has no map of a
  stride (mostly 1, often 2) the decoder goes on without a skip;
- upsampling is bilinear unless `upsample: transposed` asks for the paper's up-convolution, or
  `nearest` for repeated pixels, which costs least;
- batch norm behind each convolution, no dropout;
- no weight map for borders between touching cells; `class_weights` balance classes instead. Each
  image's loss is its mean over the pixels that count, and the batch's the mean over its images.

`models/unet_2015.py` is the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import DetkitError, unknown
from detkit.models.heads.pixel_loss import PixelLoss
from detkit.models.model import Model, Wants, models, weights_of_classes
from detkit.predictions import Prediction, Segmentation
from detkit.ranges import Count, Positive
from detkit.structures import IGNORE, Classes, Targets, content_mask

LEVELS = ("0", "1", "2", "3", "4", "5")
UPSAMPLING = ("bilinear", "nearest", "transposed")
# A 3-tap convolution of repeated pixels as a transposed one of 4 taps: what each tap adds up.
REPEATED = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


@models.register("unet")
class UNet(Model):
    """Encoder, decoder with skips, one linear layer (section 2).

    Args:
        decoder_width: channels at full resolution, doubled with each halving of it; the paper's
            network has 64.
        upsample: `bilinear`, `nearest`, or `transposed` (the paper's 2×2 up-convolution).
        loss: `cross_entropy`, `dice`, `focal`, or a sum such as `cross_entropy+0.5*dice`.
        class_weights: weight of each class in the loss.
        focal_gamma: exponent of the focal loss.

    Raises:
        DetkitError: an unknown way of upsampling or loss, or class weights that are not K.
    """

    task, needs = "segment_pixels", frozenset({"pixels"})
    reach = 192  # six cells of stride 32: beyond them little is seen, though more could be

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        decoder_width: Count = 16,
        upsample: str = "bilinear",
        loss: str = "cross_entropy",
        class_weights: Sequence[Positive] | None = None,
        focal_gamma: Positive = 2.0,
    ) -> None:
        super().__init__(backbone, classes)
        if upsample not in UPSAMPLING:
            raise unknown("way of upsampling", upsample, UPSAMPLING)
        self.losses = PixelLoss(loss, weights_of_classes(class_weights, len(classes)), focal_gamma)

        # halvings: how often the resolution was halved; a level's name is just that number
        self.coarsest = max(level for level in backbone.channels if level in LEVELS)
        channels, blocks = backbone.channels[self.coarsest], []
        for halvings in reversed(range(int(self.coarsest))):
            skip, width = backbone.channels.get(str(halvings), 0), decoder_width * 2**halvings
            blocks.append(Block(channels, skip, width, upsample))
            channels = width
        self.decoder = nn.ModuleList(blocks)
        self.head = nn.Conv2d(channels, len(classes), 1)
        nn.init.xavier_uniform_(self.head.weight)  # torch's own start is half as wide: slower
        nn.init.zeros_(self.head.get_parameter("bias"))

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(LEVELS[2:] if fpn else LEVELS)

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        maps = self.backbone(normalize(images, self.mean_std, sizes))
        logits = self.head(self.decode(maps, images.shape[2:])).float()
        if targets is None:
            return [Segmentation(image) for image in logits]
        return self.losses(logits, pixel_map(targets, images, sizes))

    def decode(self, maps: dict[str, Tensor], full: Sequence[int]) -> Tensor:
        """The encoder's maps → (B, decoder_width, H, W)."""
        features = maps[self.coarsest]
        for block, halvings in zip(self.decoder, reversed(range(len(self.decoder))), strict=True):
            skip = maps.get(str(halvings))
            size = [-(-side // 2**halvings) for side in full] if skip is None else skip.shape[2:]
            features = block(features, skip, size)
        return features


class Block(nn.Module):
    """One step up: twice the resolution, the skip beside it, two 3×3 convolutions.

    Args:
        channels: of the coarser map. skip: of the encoder's map, 0 for none. width: what comes out.
        upsample: one of `UPSAMPLING`.
    """

    taps: Tensor

    def __init__(self, channels: int, skip: int, width: int, upsample: str) -> None:
        super().__init__()
        transposed, self.nearest = upsample == "transposed", upsample == "nearest"
        self.up = nn.ConvTranspose2d(channels, width, 2, stride=2) if transposed else nn.Identity()
        self.skip = skip
        taken = (width if transposed else channels) + skip
        self.convolutions = nn.Sequential(*convolution(taken, width), *convolution(width, width))
        self.register_buffer("taps", torch.tensor(REPEATED), persistent=False)

    def forward(self, features: Tensor, skip: Tensor | None, size: Sequence[int]) -> Tensor:
        features = self.up(features)
        if self.nearest and tuple(size) == tuple(2 * side for side in features.shape[2:]):
            return self.convolutions[1:](self.repeated(features, skip, self.convolutions[0]))
        if features.shape[2:] != tuple(size):  # also where a backbone rounds its sizes another way
            how = "nearest" if self.nearest else "bilinear"
            features = F.interpolate(features, size=size, mode=how)
        return self.convolutions(features if skip is None else torch.cat([skip, features], 1))

    def repeated(self, features: Tensor, skip: Tensor | None, first: nn.Module) -> Tensor:
        """The first convolution, of the skip and of each pixel repeated 2×2, without repeating.

        A 3×3 window on repeated pixels sees but 2×2 different ones, so that 4 of 9 products are
        left: a transposed convolution with 4×4 weights that are sums of the 3×3 ones.
        """
        assert isinstance(first, nn.Conv2d)
        beside, own = first.weight.split([self.skip, features.shape[1]], 1)
        taps = self.taps.to(own.dtype)
        weight = (taps @ own @ taps.T).transpose(0, 1)
        found = F.conv_transpose2d(features, weight, first.bias, stride=2, padding=1)
        return found if skip is None else found + F.conv2d(skip, beside, padding=1)


def convolution(taken: int, given: int) -> tuple[nn.Module, ...]:
    """3×3 convolution (He's initialisation, the paper's section 3), batch norm, ReLU."""
    layer = nn.Conv2d(taken, given, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer, nn.BatchNorm2d(given), nn.ReLU(inplace=True)


def pixel_map(targets: list[Targets], images: Tensor, sizes: Tensor | None) -> Tensor:
    """(B, H, W) int64 labels of the images' pixels, `IGNORE` in the padding.

    Raises:
        DetkitError: an image came without a map.
    """
    shape = (len(images), *images.shape[2:])
    labels = torch.full(shape, IGNORE, dtype=torch.int64, device=images.device)
    for i, target in enumerate(targets):
        if target.pixels is None:
            raise DetkitError(
                f"Image {i} of the batch has no map of pixel labels.",
                remedy="train this model on data with masks (dataset=mask_folder, shapes, or voc"
                " with SegmentationClass).",
            )
        height, width = target.pixels.shape
        labels[i, :height, :width] = target.pixels
    if sizes is None:
        return labels
    return labels.where(content_mask(images, sizes), IGNORE)
