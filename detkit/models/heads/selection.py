"""Which boxes are detections: decode ─▶ cut at the border ─▶ NMS class by class ─▶ the best.

Shapes: R RoIs of the batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from detkit.ops.boxes import BoxCoder, clip, detections_of, sides_at_least
from detkit.predictions import Detections

MIN_SIDE = 1e-2  # pixels; a narrower box is no detection


@dataclass(frozen=True)
class Selection:
    """Which scored boxes are detections.

    Attributes:
        score_thresh: those that score more.
        nms_iou: of two of a class that overlap by more, the worse one goes.
        at_most: so many of an image.
    """

    score_thresh: float
    nms_iou: float
    at_most: int


def boxes_of(
    scores: Tensor,
    deltas: Tensor,
    proposals: list[Tensor],
    sizes: Tensor,
    coder: BoxCoder,
    rule: Selection,
) -> list[Detections]:
    """Decode, cut at the border, NMS class by class, the best of each image.

    Args:
        scores: (R, K), of the proposals of all images one after the other.
        deltas: (R, K or 1, 4).
    """
    counts = [len(p) for p in proposals]
    detections = []
    for image_scores, image_deltas, rois, size in zip(
        scores.split(counts), deltas.split(counts), proposals, sizes, strict=True
    ):
        boxes = clip(coder.decode(image_deltas, rois[:, None])[None], size[None])[0]
        image_scores = image_scores * sides_at_least(boxes, MIN_SIDE)
        kept = detections_of(boxes, image_scores, rule.score_thresh, rule.nms_iou, rule.at_most)
        detections.append(Detections(*kept))
    return detections
