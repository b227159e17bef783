"""U-Net as it was published (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597).

    572 ─▶ 64, 568 ──────────── crop 392 ──────────▶ 64, 388 ─▶ 1×1 ─▶ K logits a pixel
            └▶ 128, 280 ─────── crop 200 ─────▶ 128, 196 ─▲
                └▶ 256, 136 ─── crop 104 ─▶ 256, 100 ─▲         (figure 1)
                    └▶ 512, 64 ─ crop 56 ▶ 512, 52 ─▲
                        └▶ 1024, 28 ─────────▲
            two 3×3 a step, no padding   up-convolution 2×2, concatenate, two 3×3

Shapes: B images, K classes, (H, W) pixels of an image, (S, S') of what the network sees of it: 92
pixels more on each side (more at the right and bottom, up to 16 b + 124). What lies outside a
picture is its mirror image (figure 2).

Differences from the paper:
- a loss is divided by the sum of its weights, not summed (the learning rate would depend on the
  picture's size);
- border weights are computed of the classes' connected regions, on the background alone, in each
  step: so they fit pictures that were bent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import DetkitError, unknown
from detkit.models.heads.border_weights import border_weights
from detkit.models.heads.pixel_loss import PixelLoss
from detkit.models.model import Model, Wants, models, weights_of_classes
from detkit.models.unet import pixel_map
from detkit.predictions import Prediction, Segmentation
from detkit.ranges import Positive
from detkit.structures import IGNORE, Classes, Targets, full_sizes

LEVELS = ("0", "1", "2", "3", "4")
MARGIN = 92  # pixels that unpadded convolutions take from each side
STEP = 16  # pixels for one more cell of the last map


@models.register("unet_2015")
class UNet2015(Model):
    """Contracting path, expanding path, one linear layer; no padding (section 2).

    Args:
        loss: `cross_entropy`, `dice`, `focal`, or a sum such as `cross_entropy+0.5*dice`.
        class_weights: weight of each class in the loss (equation 2: w_c).
        focal_gamma: exponent of the focal loss.
        border_weight: w0 of equation 2, 0 for none; the paper's 10.
        border_sigma: its σ, pixels of the network's image.
        background: the class between the objects, by name; null is the first one.
        mirror: what surrounds a picture in training is its mirror image; false: its own edge of 92
            pixels, and only the rest is learnt (`transforms.crop=572` learns 388).
    Raises:
        DetkitError: class weights that are not K, an unknown loss or background, or a backbone that
            is not the contracting path.
    """

    task, needs = "segment_pixels", frozenset({"pixels"})
    margin = MARGIN
    reach = 96  # MARGIN, to a whole number of cells

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        loss: str = "cross_entropy",
        class_weights: Sequence[Positive] | None = None,
        focal_gamma: Positive = 2.0,
        border_weight: float = 10.0,
        border_sigma: Positive = 5.0,
        background: str | None = None,
        mirror: bool = True,
    ) -> None:
        super().__init__(backbone, classes)
        if tuple(backbone.channels) != LEVELS:
            raise _other_backbone()
        if border_weight < 0:
            raise DetkitError(
                f"model.border_weight is {border_weight}.", remedy="choose 0 or more; 0 is none."
            )
        if background is not None and background not in classes.names:
            raise unknown("class of model.background", background, classes.names)
        self.losses = PixelLoss(loss, weights_of_classes(class_weights, len(classes)), focal_gamma)
        self.border_weight, self.border_sigma, self.mirror = border_weight, border_sigma, mirror
        self.background = 0 if background is None else classes.names.index(background)
        widths = list(backbone.channels.values())
        steps = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.decoder = nn.ModuleList([Block(coarse, fine) for coarse, fine in steps])
        self.head = nn.Conv2d(widths[0], len(classes), 1)

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        if fpn:
            raise _other_backbone()
        return Wants(LEVELS, padded=False)

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        mirror = self.mirror or targets is None
        seen = surrounded(
            normalize(images, self.mean_std),
            full_sizes(images) if sizes is None else sizes,
            MARGIN if mirror else 0,
        )
        logits = self.head(self.expand(self.backbone(seen))).float()
        if targets is None:
            height, width = images.shape[2:]
            return [Segmentation(image[:, :height, :width]) for image in logits]
        labels = pixel_map(targets, images, sizes)
        if not mirror and min(labels.shape[1:]) <= 2 * MARGIN:
            raise DetkitError(
                f"Pictures of {labels.shape[2]}×{labels.shape[1]} pixels: unpadded convolutions"
                f" take {MARGIN} of each side, so nothing is left to learn from.",
                record="model.mirror",
                remedy="set transforms.crop=284 or more (the paper's 572), or model.mirror=true.",
            )
        labels = cut(labels, 0 if mirror else MARGIN, logits.shape[2:])
        return self.losses(logits, labels, self.borders(labels))

    def expand(self, maps: dict[str, Tensor]) -> Tensor:
        """The contracting path's maps → (B, width, S − 184, S' − 184)."""
        *skips, features = maps.values()
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            features = block(features, skip)
        return features

    def borders(self, labels: Tensor) -> Tensor | None:
        """(B, H, W) float32 weights that the narrow background has beside those of the classes."""
        if not self.border_weight:
            return None
        maps = labels.to("cpu", torch.uint8).numpy()
        how = self.background, self.border_weight, self.border_sigma
        weights = np.stack([border_weights(image, *how) for image in maps])
        return torch.from_numpy(weights).to(labels.device)


class Block(nn.Module):
    """One step up: up-convolution, the middle of the skip before it, two unpadded convolutions."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(coarse, fine, 2, stride=2)
        nn.init.normal_(self.up.weight, std=coarse**-0.5)
        first, second = nn.Conv2d(2 * fine, fine, 3), nn.Conv2d(fine, fine, 3)
        for layer in (first, second):  # section 3: the deviation is √(2 / N)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.convolutions = nn.Sequential(first, nn.ReLU(True), second, nn.ReLU(True))

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        features = self.up(features)
        top, left = ((a - b) // 2 for a, b in zip(skip.shape[2:], features.shape[2:], strict=True))
        height, width = features.shape[2:]
        middle = skip[:, :, top : top + height, left : left + width]
        return self.convolutions(torch.cat([middle, features], 1))


def _other_backbone() -> DetkitError:
    return DetkitError(
        "unet_2015 stands on its own contracting path alone, with all its levels.",
        remedy="set backbone=unet_encoder_2015 backbone.levels=null, or choose model=unet.",
    )


def side_for(pixels: int, margin: int) -> int:
    """The least side that the network takes, of so many pixels with a margin on both sides.

    388 and a margin of 92 give 572.
    """
    least = pixels + 2 * margin
    return max(-(-(least - 124) // STEP), 4) * STEP + 124


def surrounded(images: Tensor, sizes: Tensor, margin: int) -> Tensor:
    """Each image with its mirror image around it, on all sides that the network has to see.

    Args:
        images: (B, C, H, W) float. sizes: (B, 2) of the content; what is beyond is not looked at.
        margin: pixels before it; behind it at least as many.
    Returns:
        (B, C, S, S').
    """
    high, wide = (side_for(side, margin) for side in sizes.amax(0).tolist())
    whole = images.new_empty((*images.shape[:2], high, wide))
    for place, image, (height, width) in zip(whole, images, sizes.tolist(), strict=True):
        rows = mirrored(height, -margin, high - margin).to(images.device)
        columns = mirrored(width, -margin, wide - margin).to(images.device)
        place.copy_(image[:, rows[:, None], columns])
    return whole


def mirrored(count: int, start: int, stop: int) -> Tensor:
    """(stop − start,) int64: which of `count` pixels in a row stands there, if mirrors end it."""
    period = 2 * max(count - 1, 1)
    place = torch.arange(start, stop).remainder(period)
    return torch.minimum(place, period - place).clamp(max=count - 1)


def cut(labels: Tensor, margin: int, size: Sequence[int]) -> Tensor:
    """(B, *size) labels from `margin` on, `IGNORE` beyond the map."""
    height, width = size
    more = [0, margin + width - labels.shape[2], 0, margin + height - labels.shape[1]]
    padded = F.pad(labels, [max(side, 0) for side in more], value=IGNORE)
    return padded[:, margin : margin + height, margin : margin + width]
