"""YOLOv2's rules for a grid of anchors (Redmon, Farhadi 2016, arXiv:1612.08242, section 2).

As in `grid_head`, but one softmax over the classes, an objectness that is to be the IoU of what is
predicted (Darknet's `rescore`), and a loss of a run's beginning that draws boxes to the anchors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from detkit.models.heads.grid_head import GridHead, box_loss, objects_of, winners
from detkit.ops import grid
from detkit.ops.boxes import paired_overlap
from detkit.structures import Targets

ANCHOR_WEIGHT = 0.01  # of the anchor loss, Darknet's


class RegionHead(GridHead):
    """`GridHead` by the rules of Darknet's [region] layer."""

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    def class_scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def wanted_objectness(self, predicted: Tensor, places: grid.Grid, boxes: Tensor) -> Tensor:
        return paired_overlap(grid.decode(predicted[:, :4], places), boxes)

    def anchor_loss(self, outputs: list[Tensor], targets: list[Targets]) -> Tensor:
        """What draws every predictor without an object to its anchor in the middle of its cell.

        Less the entropy of that middle, so that it is 0 where all are there; weighted as the others
        within an image, and averaged over the images.

        Args:
            outputs: as for `forward`.
        """
        shapes = [(output.shape[2], output.shape[3]) for output in outputs]
        logits = torch.cat([self.rows(output)[..., :4] for output in outputs], 1)
        count, predictors = logits.shape[:2]
        of, boxes, _, crowd = objects_of(targets)
        chosen = grid.responsible(boxes, shapes, self.strides, self.anchors)
        learnt, owned = winners(of * predictors + chosen, crowd, count * predictors)
        objects = logits.new_zeros(count).index_add(0, of, learnt.float()).clamp(min=1)
        middle = logits.new_tensor([0.5, 0.5, 0, 0]).expand(count * predictors, 4)
        each = box_loss(logits.flatten(0, 1), middle) - 2 * math.log(2)
        of_images = (each * ~owned).reshape(count, predictors).sum(1)
        return ANCHOR_WEIGHT * (of_images / objects).mean()
