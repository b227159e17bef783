"""R-CNN (Girshick, Donahue, Darrell, Malik 2014, arXiv:1311.2524).

    image ─▶ proposals ─▶ warp each to 227 × 227 ─▶ network ─▶ fc7 ─┬─▶ an SVM a class
                                                                   └─▶ a box regression a class
                                                                                     (figure 1)

Trained in three steps: the network is fine-tuned with a softmax over the classes and background,
then an SVM for each class and a ridge regression for each class's boxes are solved for, from the
features that the network makes of the training images. Prediction: SVM scores, regressed boxes,
non-maximum suppression class by class.

Shapes: B images, P proposals an image, S RoIs trained, R RoIs of the batch, C features, K classes.

Differences from the paper:
- the boxes are regressed before non-maximum suppression, not after it, and from the features that
  the SVMs see (fc7) instead of pool5's, whose sums would take gigabytes.
- the SVMs' features are scaled to a mean norm of 20, objects weigh twice, and the bias hardly
  counts, all as in the published code; there too C is 0.001 and λ 1000.
- regions are sampled bilinearly, without smoothing before they are shrunk.
- scores are the logistic function of the SVMs', so that they lie in 0 … 1; the order is the same.
- until there are SVMs, the scores are the softmax's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from detkit.backbones.backbone import Backbone, Tail
from detkit.backbones.build import COARSEST
from detkit.errors import DetkitError
from detkit.models.heads.box_head import RoIRules, Selection
from detkit.models.heads.svm_head import SVMRules
from detkit.models.model import Wants, models
from detkit.models.region_svm import RegionSVM, image_numbers
from detkit.ops.warp import warp as warped
from detkit.proposals.proposer import proposer_of
from detkit.ranges import Count, Natural, Positive, Share
from detkit.structures import Classes

CHUNK = 4_000_000  # pixels of warped regions that go through the network at once


@models.register("rcnn")
class RCNN(RegionSVM):
    """See the figure above.

    Args:
        tail: what the classifier has behind its last level: fc6 and fc7, or a mean.
        proposer: where the proposals come from: selective_search, or file.
        proposals_file: of the proposer file, a .json, .npz or .mat with those of all splits.
        proposal_mode: of selective search: single, fast or quality.
        proposal_width: of selective search: to which images are resized for it; null keeps theirs.
        proposal_min_side: of selective search: pixels of a box's sides in the resized image.
        proposals: at most so many an image, the best; null is all.
        warp: pixels of the square that each region is warped to.
        context: of them so many at each edge show what is around the region.
        roi_samples, roi_positive_fraction: proposals fine-tuned a batch; of them objects.
        roi_pos_iou: a proposal is an object from this overlap on in fine-tuning, else background.
        class_weights: weight of each class in fine-tuning; the background's is 1.
        svm_penalty: C of the SVMs; svm_positive_weight times so much for objects.
        svm_neg_iou: a proposal that overlaps no object of a class by so much is its background.
        box_iou: proposals that overlap an object by more learn its box.
        box_penalty: the ridge regressions' λ.
        score_thresh, nms_iou, detections: which boxes are detections, and how many at most; a score
            of 0.5 is an SVM's boundary, 0.27 its margin; SVMs of few objects stay below 0.5.
    """

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
        warp: Count = 227,
        context: Natural = 16,
        roi_samples: Count = 128,
        roi_positive_fraction: Share = 0.25,
        roi_pos_iou: Share = 0.5,
        class_weights: Sequence[Positive] | None = None,
        svm_penalty: Positive = 0.001,
        svm_positive_weight: Positive = 2.0,
        svm_neg_iou: Share = 0.3,
        box_iou: Share = 0.6,
        box_penalty: Positive = 1000.0,
        score_thresh: Share = 0.05,
        nms_iou: Share = 0.3,
        detections: Count = 100,
    ) -> None:
        if 2 * context >= warp:
            raise DetkitError(
                f"A context of {context} pixels at each edge leaves nothing of {warp}.",
                record="model.context",
                remedy="set model.context lower, or model.warp higher.",
            )
        self.side, self.context = warp, context
        super().__init__(
            backbone,
            classes,
            tail=tail,
            proposer=proposer_of(
                proposer,
                proposals_file,
                mode=proposal_mode,
                width=proposal_width,
                min_side=proposal_min_side,
                at_most=proposals,
            ),
            rules=RoIRules(roi_pos_iou, roi_samples, roi_positive_fraction),
            svms=SVMRules(
                svm_penalty, svm_positive_weight, svm_neg_iou, None, box_iou, box_penalty
            ),
            selection=Selection(score_thresh, nms_iou, detections),
            class_weights=class_weights,
        )

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants((COARSEST,), tail=True)

    def features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        boxes, image = torch.cat(rois), image_numbers(rois)
        # what is trained at once stays together, for the sake of batch norms
        at_once = max(CHUNK // self.side**2, self.rules.number)
        found = [images.new_zeros(0, self.tail.channels)]
        for some, numbers in zip(boxes.split(at_once), image.split(at_once), strict=True):
            regions = warped(images, some, numbers, self.side, self.context)
            if len(regions):
                (last,) = self.backbone(regions).values()
                found.append(self.tail(last))
        return torch.cat(found)
