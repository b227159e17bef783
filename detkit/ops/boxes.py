"""What torchvision.ops has no name for: clipping a padded batch, and overlap with a crowd."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou, clip_boxes_to_image


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes cut at the borders of their own image.

    Args:
        boxes: (B, …, 4) xyxy.
        sizes: (B, 2) height and width.
    """
    limit = sizes.flip(1).to(boxes.dtype).repeat(1, 2)
    limit = limit.reshape(len(sizes), *[1] * (boxes.ndim - 2), 4)
    return torch.minimum(boxes.clamp(min=0), limit)


def sides_at_least(boxes: Tensor, side: float) -> Tensor:
    """(…,) bool: neither width nor height is under `side` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= side).all(-1)


def intersection_over_first(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, M): the share of each of `boxes` (N, 4) that each of `others` (M, 4) covers."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    return overlap / box_area(boxes)[:, None].clamp(min=1e-6)


__all__ = [
    "box_area",
    "box_iou",
    "clip",
    "clip_boxes_to_image",
    "intersection_over_first",
    "sides_at_least",
]
