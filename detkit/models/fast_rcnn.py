"""Fast R-CNN (Girshick 2015, arXiv:1504.08083).

    image ─┬─▶ backbone ─▶ maps ──┐
           └─▶ proposals ─────────┴─▶ RoI pooling ─▶ fc6, fc7 ─▶ classes, boxes        (figure 1)

With `scorer: svm` the softmax's scores give way, once all is trained, to those of SVMs that are
solved for as R-CNN's (section 5.4). With several `scales` each step trains one of them, and a
proposal is classified at that at which it is closest to 224 × 224 pixels (sections 2.4, 5.2).

The proposals come from outside the network: by selective search, made once for each picture and
kept (`proposals.store`), or from a file. One map and the classifier's own upper layers behind it
(VGG-16's fc6 and fc7, ResNet's layer4), or with an FPN on the backbone a pyramid and two new
layers, as in `faster_rcnn`.

Shapes: B images, P proposals an image, K classes.

Differences from the paper:
- smooth L1 with a beta of 1/9 instead of 1, as in the RPN.
- a loss is averaged within each image first, then over the images; background inside a crowd is not
  trained on (the paper's data have no crowds).
- the ground truth's own boxes are RoIs too, as in the published code.
- the last two layers start as PyTorch's Linear does, not from 0.01 and 0.001 (section 3.1), and
  biases learn as fast as weights.
- scales are factors on the transforms' picture (the paper's five: short_side 1200 and scales of
  0.4, 0.48, 0.5733, 0.72 and 1).
- an image without objects has no background that overlaps one by 0.1, so nothing is learnt from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from detkit.backbones.backbone import Backbone, Tail
from detkit.models.given_proposals import GivenProposals
from detkit.models.heads.box_head import SoftmaxBoxes, box_head
from detkit.models.heads.scales import at_fitting_scale, checked, resized
from detkit.models.heads.solving import fit_svms
from detkit.models.heads.svm_head import SVMBoxes, SVMs
from detkit.models.model import Wants, models
from detkit.models.stages import Stage
from detkit.predictions import Prediction
from detkit.ranges import Count, Positive
from detkit.structures import Classes, Targets


@models.register("fast_rcnn", defaults={"roi_samples": 64})
class FastRCNN(GivenProposals):
    """See the figure above.

    Args:
        tail: the upper stages as the head, where no pyramid stands on the backbone.
        scorer: "softmax", or "svm": an SVM a class, solved for after training, on fc7.
        scales: factors on the picture, one or several.
        roi_pooling: "pool" (Fast R-CNN) or "align" (Mask R-CNN).
        class_agnostic: one box for all classes instead of one a class.
        head_channels: width of the two layers behind a pyramid.
        class_weights: weight of each class in the head's class loss; the background's is 1.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail | None = None,
        scorer: Literal["softmax", "svm"] = "softmax",
        scales: Sequence[Positive] = (1.0,),
        roi_pooling: str = "pool",
        class_agnostic: bool = False,
        head_channels: Count = 1024,
        class_weights: Sequence[Positive] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, classes, **settings)
        self.head = box_head(
            backbone,
            tail,
            len(classes),
            self.rules,
            self.selection,
            pooling=roi_pooling,
            class_agnostic=class_agnostic,
            head_channels=head_channels,
            class_weights=class_weights,
            predictor=SVMBoxes if scorer == "svm" else SoftmaxBoxes,
        )
        self.scales = checked(scales)

    def stages(self) -> Sequence[Stage]:
        if not isinstance(self.head.predictor, SVMBoxes):
            return super().stages()
        return Stage("train", measured=False), Stage("svms", solve=fit_svms)

    @property
    def svms(self) -> SVMs:
        assert isinstance(self.head.predictor, SVMBoxes)
        return self.head.predictor.svms

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(levels=("2", "3", "4", "5")) if fpn else Wants(levels=("4",), tail=True)

    def forward(
        self,
        images: Tensor,
        targets: list[Targets] | None = None,
        sizes: Tensor | None = None,
        proposals: list[Tensor] | None = None,
    ) -> dict[str, Tensor] | list[Prediction]:
        """See `Model`.

        Args:
            proposals: (P, 4) float32 of each image, xyxy, pixels of `images`; P may be 0.
        Raises:
            DetkitError: there are no proposals.
        """
        images, sizes, proposals = self.ready(images, sizes, proposals)
        if targets is not None:
            return self.losses(images, proposals, sizes, targets)
        scored = self.head.predictor.scored(self.learnt_features(images, proposals))
        return [*self.head.detect(*scored, proposals, sizes)]

    def losses(
        self, images: Tensor, proposals: list[Tensor], sizes: Tensor, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """At one of the scales, drawn anew for each batch."""
        number = int(torch.randint(len(self.scales), ())) if len(self.scales) > 1 else 0
        if (scale := self.scales[number]) != 1:
            images = resized(images, scale)
            proposals = [boxes * scale for boxes in proposals]
            targets = [replace(t, boxes=t.boxes * scale) for t in targets]
        maps = list(self.backbone(images).values())
        return self.head(images, maps, proposals, sizes, targets)[1]

    def learnt_features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        """(R, C) of the RoIs of all images, each at its scale: what is scored.

        Args:
            images: (B, C, H, W), normalised, zero in the padding.
            rois: (P, 4) float32 of each image, xyxy, pixels of `images`; P may be 0.
        """

        def features(images: Tensor, rois: list[Tensor]) -> Tensor:
            return self.head.features(images, list(self.backbone(images).values()), rois)

        return at_fitting_scale(self.scales, images, rois, features)
