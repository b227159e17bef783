"""What R-CNN and SPPnet share: proposals, features of each, and a head that is fine-tuned, then
solved for.

Shapes: B images, P proposals an image, S RoIs trained, R RoIs of the batch, C features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from detkit.structures import Classes, Targets, full_sizes


class RegionSVM(Model):
    """A model of proposals and SVMs; a subclass says what the features of a proposal are.

    Args:
        tail: what makes the vector of each proposal in the end.
        proposer: where the proposals come from.
        rules: which of them are fine-tuned, `number` of them a batch.
        svms: how the SVMs and the regressions are solved for.
        selection: which scored boxes are detections.
        class_weights: weight of each class in fine-tuning; the background's is 1.
    """

    task, needs = "detect", frozenset({"boxes", "proposals"})
    fine_tuned: tuple[str, ...] = ("",)  # prefixes of the parameters that fine-tuning trains

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail,
        proposer: Any,
        rules: RoIRules,
        svms: SVMRules,
        selection: Selection,
        class_weights: Sequence[float] | None,
    ) -> None:
        super().__init__(backbone, classes)
        self.tail, self.proposer = tail, proposer
        self.rules, self.selection = rules, selection
        self.head = SVMHead(tail.channels, len(classes), svms, class_weights)

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
            return {"region_class": self.head.loss(self.features(images, rois), wanted, valid)}
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


def image_numbers(rois: list[Tensor]) -> Tensor:
    """(R,) int64, which image each RoI of `torch.cat(rois)` is of."""
    return torch.cat([boxes.new_full((len(boxes),), i).long() for i, boxes in enumerate(rois)])
