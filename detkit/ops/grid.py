"""Cells with anchors: which predictor answers for a box, and what its four numbers mean.

Shapes: L levels, A anchors a level, (H, W) cells, N boxes. The predictors of all levels stand in
one row of P = Σ H·W·A: level by level, row by row, column by column, anchor by anchor.
Source: YOLOv3 (arXiv:1804.02767), section 2.1 and figure 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = math.log(1000.0)  # of the size logits, so that exp stays finite


class Grid(NamedTuple):
    """Where the predictors stand.

    Attributes:
        corners: (P, 2) float32, left and top of the square that its centre stays in, pixels: its
            cell, or with Darknet's scale_x_y more around it.
        anchors: (P, 2) float32, width and height of each one's anchor, pixels.
        strides: (P, 1) float32, the side of that square, pixels.
    """

    corners: Tensor
    anchors: Tensor
    strides: Tensor

    def at(self, index: Tensor) -> Grid:
        """Some of the predictors, by their places in the row."""
        return Grid(*(part[index] for part in self))


def grid(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    anchors: Sequence[Tensor] | Tensor,
    scales: Sequence[float] | None = None,
) -> Grid:
    """All predictors of some maps.

    Args:
        shapes: (H, W) cells of each level.
        strides: pixels a cell of each level.
        anchors: (A, 2) float32 of each level, widths and heights in pixels.
        scales: of each level, how far a centre may move, in cells, about that of its cell
            (Darknet's scale_x_y); None: 1, inside its cell.
    """
    parts = []
    scales = [1.0] * len(strides) if scales is None else scales
    levels = zip(shapes, strides, anchors, scales, strict=True)
    for (height, width), stride, sizes, scale in levels:
        rows = torch.arange(height, device=sizes.device, dtype=sizes.dtype)
        columns = torch.arange(width, device=sizes.device, dtype=sizes.dtype)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        corners = torch.stack([x, y], -1) * stride - (scale - 1) * stride / 2
        corners = corners.reshape(-1, 1, 2).expand(-1, len(sizes), 2).reshape(-1, 2)
        parts.append(
            Grid(
                corners,
                sizes.repeat(height * width, 1),
                torch.full_like(corners[:, :1], stride * scale),
            )
        )
    return Grid(*(torch.cat(part) for part in zip(*parts, strict=True)))


def decode(logits: Tensor, places: Grid) -> Tensor:
    """Boxes of predictors: `b = corner + σ(t)·stride` for the centre, `anchor·exp(t)` for the size.

    Args:
        logits: (…, P, 4), tx ty tw th.
    Returns:
        (…, P, 4) xyxy, pixels.
    """
    centres = places.corners + logits[..., :2].sigmoid() * places.strides
    halves = places.anchors * logits[..., 2:].clamp(max=LARGEST).exp() / 2
    return torch.cat([centres - halves, centres + halves], -1)


def encode(boxes: Tensor, places: Grid) -> Tensor:
    """What predictors should say of boxes: the inverse of `decode` without its sigmoid.

    Args:
        boxes: (N, 4) xyxy, pixels; a side below 0.001 pixels counts as that.
        places: the N predictors that answer for them.
    Returns:
        (N, 4): the centre inside the cell, 0 … 1 along x and y; the logarithms of the size over
        the anchor's.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    inside = ((centres - places.corners) / places.strides).clamp(0, 1)
    return torch.cat([inside, (sizes / places.anchors).log()], -1)


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of (N, 2) widths and heights with (A, 2) anchors, all put at one corner: (N, A)."""
    common = torch.minimum(sizes[:, None], anchors).prod(-1)
    return common / (sizes.prod(-1)[:, None] + anchors.prod(-1) - common).clamp(min=1e-12)


def responsible(
    boxes: Tensor,
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    anchors: Sequence[Tensor] | Tensor,
) -> Tensor:
    """The one predictor of each box: the anchor of the best shape among those of all levels, in the
    cell of its level that holds the box's centre (the nearest cell for a centre outside).

    Args:
        boxes: (N, 4) xyxy, pixels.
        shapes, strides, anchors: as for `grid`.
    Returns:
        (N,) int64 places in the row of predictors.
    """
    sizes, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
    best = shape_iou(sizes, torch.cat(list(anchors))).argmax(1)
    table, start = [], 0  # of each anchor
    for (height, width), side, level in zip(shapes, strides, anchors, strict=True):
        table += [(start + i, len(level), width, height, side) for i in range(len(level))]
        start += height * width * len(level)
    places = torch.tensor(table).to(boxes.device, non_blocking=True)
    first, per_cell, columns, rows, stride = places[best].unbind(1)
    column, row = (centres / stride[:, None]).long().unbind(1)
    column = torch.minimum(column.clamp(min=0), columns - 1)
    row = torch.minimum(row.clamp(min=0), rows - 1)
    return first + (row * columns + column) * per_cell
