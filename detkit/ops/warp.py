"""Regions cut out of images and warped to a square, whatever their shape (R-CNN, appendix A).

image, box ─▶ box and some context ─▶ side × side pixels, bilinear
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(images: Tensor, rois: Tensor, image: Tensor, side: int, context: int) -> Tensor:
    """Each RoI with its context, stretched to a square.

    The RoI itself fills the square but for `context` pixels at each edge, which show what lies
    around it; they are zero (the mean colour) beyond the image.

    Args:
        images: (B, C, H, W), normalised, so that zero is the mean colour.
        rois: (R, 4) xyxy, pixels of `images`.
        image: (R,) int64, which of the B images each is of, in ascending order.
        side: pixels of the square.
        context: pixels of the square, at each of its edges; under half its side.
    Returns:
        (R, C, side, side), of the images' type.
    """
    channels, height, width = images.shape[1:]
    size = (rois[:, 2:] - rois[:, :2]).clamp(min=1e-2)
    step = size / (side - 2 * context)  # pixels of the image in one of the square
    first = rois[:, :2] + step * (0.5 - context)
    place = first[:, None] + step[:, None] * torch.arange(side, device=rois.device)[None, :, None]
    x, y = (2 * place / place.new_tensor([width, height]) - 1).unbind(-1)  # (R, side) each
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
    counts = image.bincount(minlength=len(images)).tolist()
    warped = []
    for picture, points in zip(images, grid.split(counts), strict=True):
        if len(points):  # the picture as a batch, no copies, of which threads take their parts
            batch = picture.expand(len(points), -1, -1, -1)
            warped.append(F.grid_sample(batch, points.to(images.dtype), align_corners=False))
    return torch.cat(warped) if warped else images.new_zeros(0, channels, side, side)
