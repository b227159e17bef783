"""A random mini-batch of anchors or proposals per image (Faster R-CNN, section 3.1.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.ops.matcher import BACKGROUND


def sample(
    matched: Tensor,
    number: int,
    positive_fraction: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Up to `number` boxes of each image: positives up to their fraction, background for the rest.

    Every image gives the same count of indices, so that nothing has to wait for the GPU to count;
    those beyond what an image has to offer are marked invalid.

    Args:
        matched: (B, A) int64 of `match`: ≥ 0 positive, −1 background, else left out.
        number: boxes an image.
        positive_fraction: 0 … 1, of `number` even where an image has fewer boxes to offer.
    Returns:
        index: (B, min(number, A)) int64 into A, positives first.
        valid: the same shape, bool: was really drawn.
    """
    most = min(int(number * positive_fraction), matched.shape[1])
    number = min(number, matched.shape[1])
    lot = torch.rand(matched.shape, device=matched.device, generator=generator) * 0.9 + 0.05
    positive = torch.where(matched >= 0, lot, 0)
    best, drawn = positive.topk(most, dim=1)
    priority = torch.where(matched == BACKGROUND, lot, 0)
    priority = priority.scatter_add(1, drawn, torch.where(best > 0, best + 1, 0))
    highest, index = priority.topk(number, dim=1)
    return index, highest > 0
