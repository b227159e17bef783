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
        corners: (P, 2) float32, left and top of each one's cell, pixels.
        anchors: (P, 2) float32, width and height of each one's anchor, pixels.
        strides: (P, 1) float32, the side of its cell, pixels.
    """

    corners: Tensor
    anchors: Tensor
    strides: Tensor

    def at(self, index: Tensor) -> Grid:
        """Some of the predictors, by their places in the row."""
        return Grid(*(part[index] for part in self))


def grid(shapes: Sequence[tuple[int, int]], strides: Sequence[int], anchors: Tensor) -> Grid:
    """All predictors of some maps.

    Args:
        shapes: (H, W) cells of each level.
        strides: pixels a cell of each level.
        anchors: (L, A, 2) float32, widths and heights in pixels.
    """
    parts = []
    for (height, width), stride, sizes in zip(shapes, strides, anchors, strict=True):
        rows = torch.arange(height, device=anchors.device, dtype=anchors.dtype)
        columns = torch.arange(width, device=anchors.device, dtype=anchors.dtype)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        corners = (torch.stack([x, y], -1) * stride).reshape(-1, 1, 2).expand(-1, len(sizes), 2)
        parts.append(
            Grid(
                corners.reshape(-1, 2),
                sizes.repeat(height * width, 1),
                torch.full_like(corners.reshape(-1, 2)[:, :1], stride),
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
    boxes: Tensor, shapes: Sequence[tuple[int, int]], strides: Sequence[int], anchors: Tensor
) -> Tensor:
    """The one predictor of each box: the anchor of the best shape among all L·A, in the cell of its
    level that holds the box's centre (the nearest cell for a centre outside).

    Args:
        boxes: (N, 4) xyxy, pixels.
        shapes, strides, anchors: as for `grid`.
    Returns:
        (N,) int64 places in the row of predictors.
    """
    per_level = anchors.shape[1]
    sizes, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
    best = shape_iou(sizes, anchors.flatten(0, 1)).argmax(1)
    level, anchor = best // per_level, best % per_level
    starts, start = [], 0
    for height, width in shapes:
        starts.append(start)
        start += height * width * per_level
    table = [(s, w, h, stride) for s, (h, w), stride in zip(starts, shapes, strides, strict=True)]
    places = torch.tensor(table).to(boxes.device, non_blocking=True)
    first, columns, rows, stride = places[level].unbind(1)
    column, row = (centres / stride[:, None]).long().unbind(1)
    column = torch.minimum(column.clamp(min=0), columns - 1)
    row = torch.minimum(row.clamp(min=0), rows - 1)
    return first + (row * columns + column) * per_level + anchor
