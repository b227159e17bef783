"""An image at several scales, each RoI at the one that fits it (SPPnet, section 4.1; Fast R-CNN,
section 2.4).

    image ─┬─▶ × 1   ─▶ features of the smallest RoIs
           ├─▶ × 0.7 ─▶ …
           └─▶ × 0.4 ─▶ features of the largest

The scale is that at which the RoI is closest to 224 × 224 pixels, as those that the network was
trained on as a classifier.

Shapes: B images, R RoIs of the batch, C features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detkit.data.transforms import STRIDE
from detkit.errors import DetkitError

SIDE = 224  # pixels
Features = Callable[[Tensor, list[Tensor]], Tensor]  # (images, rois of each) → (R, C)


def checked(scales: Sequence[float]) -> tuple[float, ...]:
    """The scales of a setting.

    Raises:
        DetkitError: there is none.
    """
    if not scales:
        raise DetkitError(
            "model.scales is empty.", remedy="leave it out, or give such as [0.5, 1]."
        )
    return tuple(map(float, scales))


def resized(images: Tensor, scale: float, multiple: int = STRIDE) -> Tensor:
    """(B, C, H, W) normalised images at a scale, padded with zeros to a multiple."""
    if scale == 1:
        return images
    small = F.interpolate(
        images, scale_factor=scale, mode="bilinear", antialias=scale < 1, align_corners=False
    )
    height, width = small.shape[2:]
    return F.pad(small, (0, -width % multiple, 0, -height % multiple))


def fitting(rois: Tensor, scales: Sequence[float]) -> Tensor:
    """(R,) int64: the scale at which each RoI's area is closest to 224 × 224 pixels; of two as
    close the first.
    """
    area = (rois[:, 2:] - rois[:, :2]).clamp(min=0).prod(1)
    squares = rois.new_tensor(scales) ** 2
    return (area[:, None] * squares - SIDE**2).abs().argmin(1)


def at_fitting_scale(
    scales: Sequence[float], images: Tensor, rois: list[Tensor], features: Features
) -> Tensor:
    """The features of each RoI from the image at its scale.

    Args:
        images: (B, C, H, W), normalised, zero in the padding.
        rois: (P, 4) float32 of each image, xyxy, pixels of `images`; P may be 0.
    Returns:
        (R, C), one image's RoIs after the other's.
    """
    if len(scales) == 1:
        return features(resized(images, scales[0]), [boxes * scales[0] for boxes in rois])
    which = fitting(torch.cat(rois), scales)
    of_images = which.split([len(boxes) for boxes in rois])
    parts, places = [], []
    for number, scale in enumerate(scales):
        place = (which == number).nonzero()[:, 0]
        if len(place) or number == 0:  # the first even without any, for the width of the features
            some = [b[w == number] * scale for b, w in zip(rois, of_images, strict=True)]
            parts.append(features(resized(images, scale), some))
            places.append(place)
    order = torch.cat(places).argsort()
    return torch.cat(parts)[order]
