"""Anchors: boxes of a few shapes around every cell of a map (Faster R-CNN, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Boxes around the origin, ratio by ratio, each of area size².

    Args:
        sizes: side of the square with the same area, pixels.
        ratios: height / width.
    Returns:
        (len(ratios) · len(sizes), 4) float32, xyxy, whole pixels as in the published models.
    """
    root = torch.tensor(list(ratios), dtype=torch.float32).sqrt()
    side = torch.tensor(list(sizes), dtype=torch.float32)
    height = (root[:, None] * side).flatten()
    width = (side / root[:, None]).flatten()
    return (torch.stack([-width, -height, width, height], dim=1) / 2).round()


def grid_anchors(shapes: Tensor, grid: tuple[int, int], stride: Sequence[float]) -> Tensor:
    """The shapes around the upper left corner of each cell.

    Args:
        shapes: (A, 4) boxes around the origin.
        grid: (H, W) cells.
        stride: pixels per cell, (vertical, horizontal).
    Returns:
        (H · W · A, 4), row by row, the shapes of a cell side by side.
    """
    y = torch.arange(grid[0], device=shapes.device, dtype=shapes.dtype) * stride[0]
    x = torch.arange(grid[1], device=shapes.device, dtype=shapes.dtype) * stride[1]
    y, x = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (corners + shapes).reshape(-1, 4)
