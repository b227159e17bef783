"""Spatial pyramid pooling: a vector of one length for a window of any size (He et al. 2014).

map, window ─▶ 1 × 1, 2 × 2, 3 × 3, 6 × 6 bins ─▶ the maximum of each bin, one after the other
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_pool

BINS = (1, 2, 3, 6)  # section 4.1: 50 bins


def windows(rois: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The cells of a map whose centres lie inside each RoI (appendix A).

    Cell i is centred on the pixel that begins at i · stride. A RoI that holds no centre has the
    cell nearest to its own.

    Args:
        rois: (R, 4) xyxy, pixels.
        stride: pixels a cell.
        height, width: of the map.
    Returns:
        (R, 4) int64: the first and the last cell, x and y; the last is never before the first.
    """
    limit = torch.tensor([width - 1, height - 1], device=rois.device)
    place = (rois - 0.5) / stride
    first, last = place[:, :2].floor().long() + 1, place[:, 2:].ceil().long() - 1
    nearest = ((place[:, :2] + place[:, 2:]) / 2).round().long()
    empty = last < first
    cells = (torch.where(empty, nearest, end) for end in (first, last))
    return torch.cat([torch.minimum(cell.clamp(min=0), limit) for cell in cells], 1)


def spatial_pyramid(
    features: Tensor, cells: Tensor, image: Tensor, bins: Sequence[int] = BINS
) -> Tensor:
    """The maximum of each bin of each window.

    Bin i of n along an axis of w cells holds those from ⌊i · w / n⌋ to ⌈(i + 1) · w / n⌉: bins
    overlap where n does not divide w, and none is empty.

    Args:
        features: (B, C, H, W).
        cells: (R, 4) int64 of `windows`.
        image: (R,) int64, which of the B maps each is of.
    Returns:
        (R, C · Σ n²), coarsest bins first, of the map's type.
    """
    # the library's RoIPool has these very bins where a window's corners are whole cells
    numbered = torch.cat([image[:, None], cells], 1).float()
    whole, most = features.float(), max(bins)
    finest = roi_pool(whole, numbered, most)
    pooled = [  # bins of which some make a coarser one need no second look at the map
        roi_pool(whole, numbered, n) if most % n else F.max_pool2d(finest, most // n) for n in bins
    ]
    return torch.cat([maxima.flatten(1) for maxima in pooled], 1).to(features.dtype)
