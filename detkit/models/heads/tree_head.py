"""YOLO9000's rules for a grid: a tree of classes, and images of which only the class is known.

Redmon, Farhadi 2016 (arXiv:1612.08242), section 4. The rest is `region_head`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detkit.models.heads.grid_head import CANDIDATES, BoxLoss, LossWeights
from detkit.models.heads.region_head import RegionHead
from detkit.models.heads.selection import Selection
from detkit.ops import grid
from detkit.ops import tree as trees
from detkit.ops.boxes import clip, keep_best_per_group, sides_at_least
from detkit.predictions import Detections, Prediction
from detkit.structures import Targets

ASSUMED_IOU = 0.3  # of the predictor of an image's class with the object that nobody boxed


class TreeHead(RegionHead):
    """`RegionHead` over a tree.

    Args:
        parents: (K) of each class, −1 at the top.
        tree_thresh: a class is gone down to while it is as likely as this.
        anchors, strides, ignore_iou, class_weights, selection, weights, scales, box_loss: as for
            `GridHead`.
    """

    group: Tensor
    below: Tensor
    path: Tensor

    def __init__(
        self,
        anchors: Sequence[Tensor] | Tensor,
        strides: Sequence[int],
        parents: Sequence[int],
        *,
        tree_thresh: float,
        ignore_iou: float,
        class_weights: Sequence[float] | None,
        selection: Selection,
        weights: LossWeights,
        scales: Sequence[float] | None = None,
        box_loss: BoxLoss = "offsets",
    ) -> None:
        super().__init__(
            anchors,
            strides,
            len(parents),
            ignore_iou=ignore_iou,
            class_weights=class_weights,
            selection=selection,
            weights=weights,
            scales=scales,
            box_loss=box_loss,
        )
        self.tree_thresh = tree_thresh
        group, below, path, self.groups = trees.tree_of(parents)
        for name, tensor in (("group", group), ("below", below), ("path", path)):
            self.register_buffer(name, tensor, persistent=False)

    @property
    def tree(self) -> trees.Tree:
        return trees.Tree(self.group, self.below, self.path, self.groups)

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropies of the label among its siblings, of its parent among its own, …"""
        return -trees.of_labels(trees.conditional(logits, self.tree), labels, self.tree)

    def ignored(
        self, logits: Tensor, places: grid.Grid, targets: list[Targets], sizes: Tensor
    ) -> Tensor:
        """As `GridHead`'s, and all predictors of images of which only the class is known."""
        found = super().ignored(logits, places, targets, sizes)
        for i, label in image_labels(targets):
            found[i] |= label >= 0
        return found

    def losses(
        self,
        logits: Tensor,
        places: grid.Grid,
        chosen: Tensor,
        targets: list[Targets],
        sizes: Tensor,
    ) -> dict[str, Tensor]:
        """As `GridHead`'s; an image of which only the class is known teaches one predictor.

        That which is surest of an object learns the class, and that it overlaps one by 0.3.
        """
        losses = super().losses(logits, places, chosen, targets, sizes)
        for i, label in image_labels(targets):
            for name, value in self.of_class_alone(logits[i], label).items():
                losses[name] = losses[name] + value / len(targets)
        return losses

    def of_class_alone(self, logits: Tensor, label: Tensor) -> dict[str, Tensor]:
        """The losses of one image, 0 where not even its class is known.

        Args:
            logits: (P, 5 + K). label: (1,) int64.
        """
        known, label = label >= 0, label.clamp(min=0)
        surest = logits[:, 4].argmax(keepdim=True)
        classes = self.class_weights[label] * self.class_loss(logits[surest, 5:], label)
        objectness = logits[surest, 4]
        unsure = objectness < math.log(ASSUMED_IOU / (1 - ASSUMED_IOU))
        assumed = torch.full_like(objectness, ASSUMED_IOU)
        seen = F.binary_cross_entropy_with_logits(objectness, assumed, reduction="none")
        return {
            "classes": self.weights.classes * (classes * known).sum(),
            "objectness": self.weights.object * (seen * unsure * known).sum(),
        }

    def detections(self, logits: Tensor, places: grid.Grid, sizes: Tensor) -> list[Prediction]:
        """Boxes inside the images, of the class that a walk ends at, with P(object) · P(class)."""
        boxes = clip(grid.decode(logits[..., :4], places), sizes)
        sure = logits[..., 4].sigmoid() * sides_at_least(boxes, 1e-3)
        best = sure.topk(min(CANDIDATES, sure.shape[1])).indices
        return [self.of_image(*parts) for parts in zip(boxes, sure, logits, best, strict=True)]

    def of_image(self, boxes: Tensor, sure: Tensor, logits: Tensor, best: Tensor) -> Detections:
        """(P, 4), (P,), (P, 5 + K), (≤ P,) the predictors that are looked at."""
        best = best[sure[best] > self.selection.score_thresh]  # a product is no larger
        conditionals = trees.conditional(logits[best, 5:], self.tree)
        labels, log_p = trees.walk(conditionals, self.tree, self.tree_thresh)
        scores = sure[best] * log_p.exp()
        kept = scores > self.selection.score_thresh
        boxes, scores, labels = boxes[best][kept], scores[kept], labels[kept]
        rule = (self.selection.nms_iou, self.selection.at_most)
        kept = keep_best_per_group(boxes, scores, labels, *rule)
        return Detections(boxes[kept], scores[kept], labels[kept])


def image_labels(targets: Sequence[Targets]) -> list[tuple[int, Tensor]]:
    """Of each image without objects its number, and its class as (1,) int64, −1 if unknown."""
    return [
        (i, target.image_label.reshape(1))
        for i, target in enumerate(targets)
        if not len(target) and target.image_label is not None
    ]
