"""What torchvision.ops has no name for: clipping a padded batch, overlap also with crowds."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_area


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


def overlap(boxes: Tensor, others: Tensor, crowd: Tensor | None = None) -> Tensor:
    """How far boxes cover objects; of a crowd any part will do.

    Args:
        boxes: (N, 4) xyxy. others: (M, 4) xyxy. crowd: (M,) bool, which of them are crowds.
    Returns:
        (N, M): IoU, with a crowd the share of the box that lies in it (COCO's rule).
    """
    low = torch.maximum(boxes[:, None, :2], others[:, :2])
    high = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    width, height = (high - low).clamp(min=0).unbind(-1)
    common, own = width * height, box_area(boxes)[:, None]
    whole = own + box_area(others) - common
    if crowd is not None:
        whole = torch.where(crowd, own, whole)
    return common / whole.clamp(min=1e-9)
