"""Spatial pyramid pooling: a vector of one length for a window of any size (He et al. 2014).

map, window ─▶ 1 × 1, 2 × 2, 3 × 3, 6 × 6 bins ─▶ the maximum of each bin, one after the other

A bin's maximum is that of four blocks in its corners, whose sides are powers of two. The blocks'
own are made once for all windows of a map: these are thousands and overlap, and the library's
RoIPool looks at each of their cells anew, in one thread.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = (1, 2, 3, 6)  # section 4.1: 50 bins; each number divides the last one


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


def block_maxima(features: Tensor, cells: Tensor) -> Tensor:
    """The maxima of the blocks of 2ⁱ × 2ʲ cells that begin at each cell, as large as bins need.

    Args:
        features: (B, C, H, W).
        cells: (R, 4) int64 of `windows`, those whose bins will be asked for.
    Returns:
        (I, J, B, H, W, C), of the map's type. No bin looks at a block that would cross the end.
    """
    longest = (cells[:, 2:] - cells[:, :2]) // BINS[-1] + 2
    across, down = longest.amax(0).tolist() if len(cells) else (1, 1)
    rows = _doubled(features.permute(0, 2, 3, 1), 1, down)
    return torch.stack(_doubled(torch.stack(rows), 3, across), 1)


def _doubled(maxima: Tensor, axis: int, longest: int) -> list[Tensor]:
    """The maxima of 1, 2, 4 … cells along an axis, up to `longest`."""
    found, length, size = [maxima], 1, maxima.shape[axis]
    while 2 * length <= min(longest, size):
        half, rest = found[-1], size - length
        whole = torch.maximum(half.narrow(axis, 0, rest), half.narrow(axis, length, rest))
        found.append(torch.cat([whole, half.narrow(axis, rest, length)], axis))
        length *= 2
    return found


def spatial_pyramid(blocks: Tensor, cells: Tensor, image: Tensor) -> Tensor:
    """The maximum of each bin of each window.

    Bin i of n along an axis of w cells holds those from ⌊i · w / n⌋ to ⌈(i + 1) · w / n⌉: bins
    overlap where n does not divide w, and none is empty.

    Args:
        blocks: `block_maxima` of the maps, for these windows among others.
        cells: (R, 4) int64 of `windows`.
        image: (R,) int64, which of the B maps each is of.
    Returns:
        (R, C · Σ n²), coarsest bins first, of the map's type.
    """
    _, sides, images, height, width, _ = blocks.shape
    power, *tops = _corners(cells[:, 1], cells[:, 3])
    rows = [(power * (sides * images * height) + top) * width for top in tops]
    power, *lefts = _corners(cells[:, 0], cells[:, 2])
    columns = [(power * images + image[:, None]) * (height * width) + left for left in lefts]
    table = blocks.flatten(0, 4)
    places = (row[:, :, None] + column[:, None] for row in rows for column in columns)
    finest = reduce(torch.maximum, (table[place] for place in places)).permute(0, 3, 1, 2)
    # each coarser bin is made of some of the finest
    pooled = [F.max_pool2d(finest, BINS[-1] // n) for n in BINS]
    return torch.cat([maxima.flatten(1) for maxima in pooled], 1)


def _corners(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two blocks that make up each finest bin along an axis.

    Args:
        first, last: (R,) cells of the windows.
    Returns:
        (R, 6) each: logarithm of the blocks' length, where the one begins, where the other does.
    """
    number, finest = torch.arange(BINS[-1], device=first.device), BINS[-1]
    length = (last - first + 1)[:, None]
    begin = first[:, None] + number * length // finest
    end = first[:, None] - -(number + 1) * length // finest
    power = ((end - begin)[..., None] >= 2 ** torch.arange(1, 32, device=first.device)).sum(-1)
    return power, begin, end - 2**power
