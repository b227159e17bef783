"""What R-CNN and SPPnet share: proposals, features of each, and a head that is fine-tuned, then
solved for.

Shapes: B images, P proposals an image, S RoIs trained, R RoIs of the batch, C features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from detkit.backbones.backbone import Backbone, Tail, normalize
from detkit.errors import DetkitError
from detkit.models.heads.box_head import RoIRules, Selection, boxes_of, offered
from detkit.models.heads.matching import gather_targets, sample
from detkit.models.heads.solving import fit_boxes, fit_svms
from detkit.models.heads.svm_head import SVMHead, SVMRules
from detkit.models.model import Model
from detkit.models.stages import Stage
from detkit.predictions import Prediction
from detkit.proposals.proposer import proposer_of
from detkit.ranges import Count, Natural, Positive, Share
from detkit.structures import Classes, Targets, full_sizes


class RegionSVM(Model):
    """A model of proposals and SVMs; a subclass says what the features of a proposal are.

    Args:
        tail: what makes the vector of each proposal in the end.
        proposer: where the proposals come from: selective_search, or file.
        proposals_file: of the proposer file, a .json, .npz or .mat with those of all splits.
        proposal_mode: of selective search: single, fast or quality.
        proposal_width: of selective search: to which images are resized for it; null keeps theirs.
        proposal_min_side: of selective search: pixels of a box's sides in the resized image.
        proposals: at most so many an image, the best; null is all.
        roi_samples, roi_positive_fraction: proposals fine-tuned a batch; of them objects.
        roi_pos_iou, roi_least_iou: a proposal is an object from this overlap on in fine-tuning;
            below it background, and left out below the second.
        class_weights: weight of each class in fine-tuning; the background's is 1.
        svm_penalty: C of the SVMs; svm_positive_weight times so much for objects.
        svm_neg_iou: a proposal that overlaps no object of a class by so much is its background.
        svm_distinct_iou: of two such that overlap by more one is left out; null keeps all.
        box_iou: proposals that overlap an object by more learn its box.
        box_penalty: the ridge regressions' λ.
        score_thresh, nms_iou, detections: which boxes are detections, and how many at most; a score
            of 0.5 is an SVM's boundary, 0.27 its margin; SVMs of few objects stay below 0.5.
    """

    task, needs = "detect", frozenset({"boxes", "proposals"})
    fine_tuned: tuple[str, ...] = ("",)  # prefixes of the parameters that fine-tuning trains

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail,
        proposer: str = "selective_search",
        proposals_file: str | None = None,
        proposal_mode: Literal["single", "fast", "quality"] = "fast",
        proposal_width: Count | None = 500,
        proposal_min_side: Natural = 20,
        proposals: Count | None = 2000,
        roi_samples: Count = 128,
        roi_positive_fraction: Share = 0.25,
        roi_pos_iou: Share = 0.5,
        roi_least_iou: Share = 0.0,
        class_weights: Sequence[Positive] | None = None,
        svm_penalty: Positive = 0.001,
        svm_positive_weight: Positive = 2.0,
        svm_neg_iou: Share = 0.3,
        svm_distinct_iou: Share | None = None,
        box_iou: Share = 0.6,
        box_penalty: Positive = 1000.0,
        score_thresh: Share = 0.05,
        nms_iou: Share = 0.3,
        detections: Count = 100,
    ) -> None:
        super().__init__(backbone, classes)
        self.tail = tail
        self.proposer = proposer_of(
            proposer,
            proposals_file,
            mode=proposal_mode,
            width=proposal_width,
            min_side=proposal_min_side,
            at_most=proposals,
        )
        self.rules = RoIRules(roi_pos_iou, roi_samples, roi_positive_fraction, roi_least_iou)
        self.selection = Selection(score_thresh, nms_iou, detections)
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
        if proposals is None:
            raise DetkitError(
                f"{type(self).__name__} classifies proposals, and none came with the images.",
                remedy="hand them in as proposals=, made by model.proposer.",
            )
        if sizes is None:
            sizes = full_sizes(images)
        images = normalize(images, self.mean_std, sizes)
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
