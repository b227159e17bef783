"""What R-CNN, SPPnet and Fast R-CNN share: proposals from outside the network."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import DetkitError
from detkit.models.heads.box_head import RoIRules
from detkit.models.heads.selection import Selection
from detkit.models.model import Model
from detkit.proposals.proposer import proposer_of
from detkit.ranges import Count, Natural, Share
from detkit.structures import Classes, full_sizes


class GivenProposals(Model):
    """A model that classifies proposals which come with the images.

    Args:
        proposer: where the proposals come from: selective_search, or file.
        proposals_file: of the proposer file, a .json, .npz or .mat with those of all splits.
        proposal_mode: of selective search: single, fast or quality.
        proposal_width: of selective search: to which images are resized for it; null keeps theirs.
        proposal_min_side: of selective search: pixels of a box's sides in the resized image.
        proposals: at most so many an image, the best; null is all.
        roi_samples, roi_positive_fraction: proposals trained a batch (of Fast R-CNN: an image); of
            them objects at most.
        roi_pos_iou, roi_least_iou: a proposal is an object in training from this overlap on; below
            it background, and left out below the second.
        score_thresh, nms_iou, detections: which boxes are detections, and how many at most.
    """

    task, needs = "detect", frozenset({"boxes", "proposals"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        proposer: str = "selective_search",
        proposals_file: str | None = None,
        proposal_mode: Literal["single", "fast", "quality"] = "fast",
        proposal_width: Count | None = 500,
        proposal_min_side: Natural = 20,
        proposals: Count | None = 2000,
        roi_samples: Count = 128,
        roi_positive_fraction: Share = 0.25,
        roi_pos_iou: Share = 0.5,
        roi_least_iou: Share = 0.1,
        score_thresh: Share = 0.05,
        nms_iou: Share = 0.3,
        detections: Count = 100,
    ) -> None:
        super().__init__(backbone, classes)
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

    def ready(
        self, images: Tensor, sizes: Tensor | None, proposals: list[Tensor] | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What `forward` is given, the images normalised.

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
        return normalize(images, self.mean_std, sizes), sizes, proposals
