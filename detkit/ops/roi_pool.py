"""RoIPool (Fast R-CNN, section 2.1) and RoIAlign (Mask R-CNN, section 3) over one map or a pyramid.

RoIAlign is linear in the map: each output cell is a weighted sum of a few map cells. On the CPU
those weights are laid out as a sparse matrix that multiplies the maps as (cells, channels), which
is several times faster than the library's kernel, above all backwards; on a GPU the kernel is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torchvision.ops import box_area, roi_align, roi_pool

CANONICAL_SIDE = 224  # a RoI of this side …
CANONICAL_LEVEL = 4  # … belongs to the level of stride 2⁴ (FPN, equation 1)
SPARSE_FROM = 32  # RoIs; below, building the matrix costs more than the kernel


def pyramid_level(rois: Tensor, levels: Sequence[int]) -> Tensor:
    """Index into `levels` (logarithms of strides, ascending) for each of the (R, 4) RoIs.

    Feature Pyramid Networks (Lin et al. 2017), equation 1; the nearest level where that is absent.
    """
    side = box_area(rois).clamp(min=0).sqrt()
    level = torch.floor(CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIDE + 1e-6))
    index = torch.zeros_like(level, dtype=torch.int64)
    for finer, coarser in pairwise(levels):
        index += level > (finer + coarser) / 2
    return index


def pool_rois(
    maps: Sequence[Tensor],
    levels: Sequence[int],
    rois: Tensor,
    image: Tensor,
    size: int,
    sampling: int = 2,
    mode: str = "align",
) -> Tensor:
    """The features of each RoI, from the level that fits its size.

    Args:
        maps: one (B, C, H, W) per level, finest first.
        levels: the logarithm of each map's stride, ascending.
        rois: (R, 4) xyxy in pixels of the network's image.
        image: (R,) int64, which of the B images each is of.
        size: output cells a side.
        sampling: points a cell and axis that `align` averages over.
        mode: "align" or "pool".
    Returns:
        (R, C, size, size), of the maps' type.
    """
    if mode == "align" and maps[0].device.type == "cpu" and len(rois) >= SPARSE_FROM:
        which = pyramid_level(rois, levels) if len(maps) > 1 else torch.zeros_like(image)
        return _align_sparse(maps, levels, rois, image, which, size, sampling)
    numbered = torch.cat([image[:, None].to(rois.dtype), rois], dim=1)
    if len(maps) == 1:
        return _pool_level(maps[0], levels[0], numbered, size, sampling, mode)
    which = pyramid_level(rois, levels)
    order = which.argsort()  # level by level: a GPU is waited for once, not at every level
    numbers = torch.arange(len(levels), device=which.device)
    counts = (which == numbers[:, None]).sum(1).tolist()
    pooled = [
        _pool_level(features, level, part, size, sampling, mode)
        for features, level, part in zip(maps, levels, numbered[order].split(counts), strict=True)
    ]
    return torch.cat(pooled).index_select(0, order.argsort())


def _pool_level(
    features: Tensor, level: int, rois: Tensor, size: int, sampling: int, mode: str
) -> Tensor:
    dtype, features = features.dtype, features.float()  # bf16 would move RoIs by pixels
    if mode == "pool":
        return roi_pool(features, rois, size, spatial_scale=0.5**level).to(dtype)
    pooled = roi_align(features, rois, size, spatial_scale=0.5**level, sampling_ratio=sampling)
    return pooled.to(dtype)


def _align_sparse(
    maps: Sequence[Tensor],
    levels: Sequence[int],
    rois: Tensor,
    image: Tensor,
    which: Tensor,
    size: int,
    sampling: int,
) -> Tensor:
    cells = torch.cat([m.permute(0, 2, 3, 1).reshape(-1, m.shape[1]) for m in maps])
    shape = torch.tensor([m.shape[2:] for m in maps])
    area = shape.prod(1) * maps[0].shape[0]
    start = (area.cumsum(0) - area)[which] + image * shape.prod(1)[which]
    scale = 0.5 ** torch.tensor(levels)[which].to(rois.dtype)
    columns, weights = _taps(rois * scale[:, None], shape[which], start, size, sampling)
    pooled = _SparseProduct.apply(columns, weights, cells.float())
    pooled = pooled.reshape(len(rois), size, size, -1).permute(0, 3, 1, 2)
    return pooled.to(maps[0].dtype)


def _taps(
    rois: Tensor, shape: Tensor, start: Tensor, size: int, sampling: int
) -> tuple[Tensor, Tensor]:
    """Which map cells each output cell sums, and with what weights.

    Bilinear interpolation is separable: the taps are the products of those of rows and of columns.

    Args:
        rois: (R, 4) in cells of their level.
        shape: (R, 2) height and width of that level.
        start: (R,) row of `cells` where the RoI's image and level begin.
    Returns:
        columns, weights: (R · size², (2 · sampling)²), int64 and float32.
    """
    y, wy = _axis_taps(rois[:, 1], rois[:, 3], shape[:, 0], size, sampling)
    x, wx = _axis_taps(rois[:, 0], rois[:, 2], shape[:, 1], size, sampling)
    row = start[:, None, None] + y * shape[:, 1, None, None]
    columns = row[:, :, None, :, None] + x[:, None, :, None, :]
    weights = wy[:, :, None, :, None] * wx[:, None, :, None, :]
    taps = (2 * sampling) ** 2
    return columns.reshape(-1, taps), weights.reshape(-1, taps)


def _axis_taps(
    low: Tensor, high: Tensor, length: Tensor, size: int, sampling: int
) -> tuple[Tensor, Tensor]:
    """(R, size, 2 · sampling) cells and weights of one axis; points over a cell outside weigh 0."""
    extent = (high - low).clamp(min=1.0)  # the kernel's rule for RoIs under one cell
    steps = (torch.arange(size * sampling, dtype=low.dtype) + 0.5) / (size * sampling)
    point = (low[:, None] + steps * extent[:, None]).reshape(-1, size, sampling)
    last = (length - 1)[:, None, None]
    inside = (point >= -1.0) & (point <= length[:, None, None])
    point = torch.minimum(point.clamp(min=0), last.to(point.dtype))
    cell = point.floor().long()
    upper = point - cell
    share = inside.to(point.dtype) / sampling
    cells = torch.stack([cell, torch.minimum(cell + 1, last)], dim=-1)
    weights = torch.stack([(1 - upper) * share, upper * share], dim=-1)
    return cells.flatten(2), weights.flatten(2)


class _SparseProduct(torch.autograd.Function):
    """(rows, taps) columns and weights times (cells, C): a CSR product, backwards its transpose."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # no sparse product in bf16
    def forward(ctx, columns: Tensor, weights: Tensor, cells: Tensor) -> Tensor:
        ctx.save_for_backward(columns, weights)
        ctx.cells = cells.shape[0]
        return _csr(columns, weights, cells.shape[0]) @ cells

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, *grads: Tensor) -> tuple[None, None, Tensor]:
        columns, weights = ctx.saved_tensors
        flat = columns.flatten()
        order = flat.argsort()
        count = torch.bincount(flat, minlength=ctx.cells)
        crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
        row = order // columns.shape[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            transposed = torch.sparse_csr_tensor(
                crow,
                row,
                weights.flatten()[order],
                (ctx.cells, len(columns)),
                check_invariants=False,
            )
        return None, None, transposed @ grads[0].contiguous()


def _csr(columns: Tensor, weights: Tensor, width: int) -> Tensor:
    crow = torch.arange(len(columns) + 1) * columns.shape[1]
    with warnings.catch_warnings():  # "beta state"
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            crow,
            columns.flatten(),
            weights.flatten(),
            (len(columns), width),
            check_invariants=False,
        )
