"""What R-CNN and SPPnet share: proposals, features of each, and a head that is fine-tuned, then
solved for.

Shapes: B images, P proposals an image, S RoIs trained, R RoIs of the batch, C features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detkit.backbones.backbone import Backbone, Tail
from detkit.models.given_proposals import GivenProposals
from detkit.models.heads.box_head import offered
from detkit.models.heads.matching import gather_targets, sample
from detkit.models.heads.selection import boxes_of
from detkit.models.heads.solving import fit_boxes, fit_svms
from detkit.models.heads.svm_head import SVMHead, SVMRules
from detkit.models.stages import Stage
from detkit.predictions import Prediction
from detkit.ranges import Positive, Share
from detkit.structures import Classes, Targets


class RegionSVM(GivenProposals):
    """A model of proposals and SVMs; a subclass says what the features of a proposal are.

    Args:
        tail: what makes the vector of each proposal in the end.
        class_weights: weight of each class in fine-tuning; the background's is 1.
        svm_penalty: C of the SVMs; svm_positive_weight times so much for objects.
        svm_neg_iou: a proposal that overlaps no object of a class by so much is its background.
        svm_distinct_iou: of two such that overlap by more one is left out; null keeps all.
        box_iou: proposals that overlap an object by more learn its box.
        box_penalty: the ridge regressions' λ.
        score_thresh, nms_iou, detections: which boxes are detections, and how many at most; a score
            of 0.5 is an SVM's boundary, 0.27 its margin; SVMs of few objects stay below 0.5.
    """

    fine_tuned: tuple[str, ...] = ("",)  # prefixes of the parameters that fine-tuning trains

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail,
        class_weights: Sequence[Positive] | None = None,
        svm_penalty: Positive = 0.001,
        svm_positive_weight: Positive = 2.0,
        svm_neg_iou: Share = 0.3,
        svm_distinct_iou: Share | None = None,
        box_iou: Share = 0.6,
        box_penalty: Positive = 1000.0,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, classes, **settings)
        self.tail = tail
        svms = SVMRules(
            svm_penalty, svm_positive_weight, svm_neg_iou, svm_distinct_iou, box_iou, box_penalty
        )
        self.head = SVMHead(tail.channels, len(classes), svms, class_weights)

    @property
    def svms(self) -> SVMHead:
        return self.head

    def stages(self) -> Sequence[Stage]:
        return (
            Stage("fine_tune", trains=self.fine_tuned, measured=False),
            Stage("svms", solve=fit_svms, measured=False),
            Stage("box_regression", solve=fit_boxes),
        )

    def features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        """(R, C) of the RoIs of all images, one image's after the other's.

        Args:
            images: (B, C, H, W), normalised, zero in the padding.
            rois: (P, 4) float32 of each image, xyxy, pixels of `images`; P may be 0.
        """
        raise NotImplementedError

    def learnt_features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        """`features` of training images, which come again in each epoch and stage."""
        return self.features(images, rois)

    def forward(
        self,
        images: Tensor,
        targets: list[Targets] | None = None,
        sizes: Tensor | None = None,
        proposals: list[Tensor] | None = None,
    ) -> dict[str, Tensor] | list[Prediction]:
        """See `Model`; the loss is the mean over the RoIs that were drawn from the batch.

        Args:
            proposals: (P, 4) float32 of each image, xyxy, pixels of `images`; P may be 0.
        Raises:
            DetkitError: there are no proposals.
        """
        images, sizes, proposals = self.ready(images, sizes, proposals)
        if targets is not None:
            rois, wanted, valid = self.choose(proposals, targets)
            features = self.learnt_features(images, rois)
            return {"region_class": self.head.loss(features, wanted, valid)}
        scores, deltas = self.head(self.features(images, proposals))
        coder = self.head.box_coder
        return [*boxes_of(scores, deltas, proposals, sizes, coder, self.selection)]

    @torch.no_grad()
    def choose(
        self, proposals: list[Tensor], targets: list[Targets]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """The RoIs to fine-tune on, drawn from the proposals and objects of the whole batch.

        Returns:
            rois: those of each image, S in all. wanted: (S,) int64, their classes, K for
            background. valid: (S,) bool, which were really drawn.
        """
        padded, matched = offered(proposals, targets, self.rules)
        _, labels = gather_targets(targets, matched)
        number, fraction = self.rules.number, self.rules.positive_fraction
        index, valid = sample(matched.reshape(1, -1), number, fraction)
        index, order = index[0].sort()  # image by image
        valid = valid[0][order]
        is_object = (matched.flatten()[index] >= 0) & valid
        wanted = torch.where(is_object, labels.flatten()[index], self.num_classes)
        counts = (index // padded.shape[1]).bincount(minlength=len(padded)).tolist()
        return [*padded.flatten(0, 1)[index].split(counts)], wanted, valid
