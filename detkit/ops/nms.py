"""Non-maximum suppression as detectors use it: by class, best first, at most so many."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


def keep_best_per_group(
    boxes: Tensor, scores: Tensor, groups: Tensor, nms_iou: float, at_most: int
) -> Tensor:
    """Indices of the boxes that no better box of the same group overlaps by more than `nms_iou`.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        groups: (N,) int64, a class or a level.
    Returns:
        (≤ at_most,) int64, best first.
    """
    return batched_nms(boxes.float(), scores.float(), groups, nms_iou)[:at_most]


def detections_of(
    boxes: Tensor, scores: Tensor, score_thresh: float, nms_iou: float, at_most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels of one image, from a score for every pair of box and class.

    Args:
        boxes: (R, K, 4) or (R, 1, 4) if all classes share a box.
        scores: (R, K).
    Returns:
        boxes (N, 4), scores (N,), labels (N,), best first, N ≤ at_most.
    """
    row, label = torch.nonzero(scores > score_thresh, as_tuple=True)
    boxes = boxes[row, label if boxes.shape[1] > 1 else 0]
    scores = scores[row, label]
    keep = keep_best_per_group(boxes, scores, label, nms_iou, at_most)
    return boxes[keep], scores[keep], label[keep]
