"""What a head trains its boxes on, be they anchors (rpn.py) or proposals (box_head.py).

match each to an object ─▶ sample some of each image ─▶ gather their objects' boxes and labels

Shapes: B images, A boxes of an image, S of them sampled, N objects.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.ops.boxes import overlap
from detkit.structures import Targets

SMOOTH_L1_BETA = 1 / 9  # the published code's sigma = 3
BACKGROUND = -1
IGNORED = -2


def match_image(
    boxes: Tensor,
    targets: Targets,
    pos_iou: float,
    neg_iou: float,
    keep_best: bool = False,
    among: Tensor | None = None,
    least_iou: float = 0.0,
) -> Tensor:
    """`match` against the objects of an image; background inside a crowd counts as ignored.

    Args:
        among: (A,) bool, the boxes that may be positive; None is all.
        least_iou: what overlaps every object by less is no background but ignored.
    """
    if len(targets) == 0:
        far = IGNORED if least_iou > 0 else BACKGROUND
        return boxes.new_full((len(boxes),), far, dtype=torch.int64)
    iou = overlap(boxes, targets.boxes, targets.crowd)
    if among is not None:
        iou = iou * among[:, None]
    alone = iou if targets.crowd is None else iou * ~targets.crowd
    matched = match(alone, pos_iou, neg_iou, keep_best)
    if least_iou > 0:
        too_far = alone.amax(1) < least_iou
        matched = torch.where((matched == BACKGROUND) & too_far, IGNORED, matched)
    if targets.crowd is None:
        return matched
    covered = (iou * targets.crowd).amax(1) > 0.5
    return torch.where((matched == BACKGROUND) & covered, IGNORED, matched)


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


def sample(
    matched: Tensor,
    number: int,
    positive_fraction: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Up to `number` boxes of each image: positives up to their fraction, background for the rest.

    Faster R-CNN, section 3.1.3.

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
