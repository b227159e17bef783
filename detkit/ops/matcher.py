"""Which ground truth a box answers for."""

from __future__ import annotations

import torch
from torch import Tensor

BACKGROUND = -1
IGNORED = -2


def match(iou: Tensor, pos_iou: float, neg_iou: float, keep_best: bool = False) -> Tensor:
    """Which ground truth each anchor answers for (Faster R-CNN, section 3.1.2).

    Args:
        iou: (A, N) float32, anchors by ground-truth boxes. N may be 0.
        pos_iou: from here on an anchor answers for the box it overlaps most.
        neg_iou: below it is background; between the two it is ignored.
        keep_best: the best anchors of each box are positive even below pos_iou,
            unless the box overlaps no anchor at all.
    Returns:
        (A,) int64: index of the box, −1 background, −2 ignored.
    """
    if iou.shape[1] == 0:
        return iou.new_full((iou.shape[0],), BACKGROUND, dtype=torch.int64)
    best, box = iou.max(dim=1)
    matched = torch.where(best >= pos_iou, box, IGNORED)
    matched = torch.where(best < neg_iou, BACKGROUND, matched)
    if keep_best:
        highest = iou.amax(dim=0)
        is_best = ((iou == highest) & (highest > 0)).any(dim=1)
        matched = torch.where(is_best, box, matched)
    return matched
