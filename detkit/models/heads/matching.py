"""What a head trains its boxes on, be they anchors (rpn.py) or proposals (box_head.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.ops import boxes as box_ops
from detkit.ops.matcher import BACKGROUND, IGNORED, match
from detkit.structures import Targets

SMOOTH_L1_BETA = 1 / 9  # the published code's sigma = 3


def match_image(
    boxes: Tensor,
    targets: Targets,
    pos_iou: float,
    neg_iou: float,
    keep_best: bool = False,
    among: Tensor | None = None,
) -> Tensor:
    """`match` against the objects of an image; background inside a crowd counts as ignored.

    Args:
        among: (A,) bool, the boxes that may be positive; None is all.
    """
    if len(targets) == 0:
        return boxes.new_full((len(boxes),), BACKGROUND, dtype=torch.int64)
    overlap = box_ops.overlap(boxes, targets.boxes, targets.crowd)
    if among is not None:
        overlap = overlap * among[:, None]
    if targets.crowd is None:
        return match(overlap, pos_iou, neg_iou, keep_best)
    matched = match(overlap * ~targets.crowd, pos_iou, neg_iou, keep_best)
    covered = (overlap * targets.crowd).amax(1) > 0.5
    return torch.where((matched == BACKGROUND) & covered, IGNORED, matched)


def gather_targets(targets: list[Targets], matched: Tensor) -> tuple[Tensor, Tensor]:
    """Box and label of what each was matched to; anything where it was matched to nothing.

    Args:
        matched: (B, S) int64.
    Returns:
        boxes: (B, S, 4); labels: (B, S).
    """
    most = max(1, *(len(t) for t in targets))
    boxes = matched.new_zeros(len(targets), most, 4, dtype=torch.float32)
    labels = matched.new_zeros(len(targets), most)
    for i, t in enumerate(targets):
        boxes[i, : len(t)], labels[i, : len(t)] = t.boxes, t.labels
    index = matched.clamp(min=0)
    return boxes.gather(1, index[..., None].expand(-1, -1, 4)), labels.gather(1, index)
