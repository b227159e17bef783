"""Boxes: cut at a border, overlap also with crowds, as offsets from others, the best of many.

What torchvision.ops has no name for. All boxes are xyxy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_area

MAX_LOG_RATIO = math.log(1000 / 16)  # a width grows at most 62 times: keeps exp() finite early on


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


def paired_overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """(…,) IoU of each box with its own other one; both (…, 4) xyxy, broadcast together."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (boxes, others)]
    return common / (areas[0] + areas[1] - common).clamp(min=1e-9)


@dataclass(frozen=True)
class BoxCoder:
    """`deltas` = weights · ((x − xa)/wa, (y − ya)/ha, log(w/wa), log(h/ha)) of centres and sizes.

    R-CNN, appendix C; Fast R-CNN, section 2.3.

    Attributes:
        weights: a factor for the two of the centre and one for the two of the size, so that each
            has about unit variance. Numbers, for a tensor would have to be sent to the GPU.
    """

    weights: tuple[float, float] = (1.0, 1.0)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """(…, 4) deltas that turn `anchors` into `boxes`, both (…, 4) xyxy of positive size."""
        centre, size = _centre_size(boxes)
        anchor_centre, anchor_size = _centre_size(anchors)
        shift, growth = (centre - anchor_centre) / anchor_size, (size / anchor_size).log()
        return torch.cat([shift * self.weights[0], growth * self.weights[1]], -1)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """(…, 4) boxes, the inverse; sizes grow at most by `exp(MAX_LOG_RATIO)`."""
        shift, growth = deltas[..., :2] / self.weights[0], deltas[..., 2:] / self.weights[1]
        anchor_centre, anchor_size = _centre_size(anchors)
        centre = shift * anchor_size + anchor_centre
        half = growth.clamp(max=MAX_LOG_RATIO).exp() * anchor_size / 2
        return torch.cat([centre - half, centre + half], dim=-1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size


def keep_best_per_group(
    boxes: Tensor, scores: Tensor, groups: Tensor, nms_iou: float, at_most: int
) -> Tensor:
    """Non-maximum suppression: the boxes that no better one of their group overlaps by more.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        groups: (N,) int64, a class or a level.
        nms_iou: the overlap that is allowed.
    Returns:
        (≤ at_most,) int64 indices, best first.
    """
    return batched_nms(boxes, scores, groups, nms_iou)[:at_most]


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
