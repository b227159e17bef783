"""SPPnet (He, Zhang, Ren, Sun 2014, arXiv:1406.4729, section 4).

    image ─┬─▶ convolutions, once ─▶ map ──────┐
           └─▶ proposals ─▶ windows of the map ┴▶ spatial pyramid ─▶ fc6, fc7 ─┬─▶ an SVM a class
                                                  6², 3², 2², 1² bins          └─▶ a box regression
                                                                               (figures 3 and 5)

Trained as R-CNN: fine-tuning with a softmax, then SVMs, then box regressions. The convolutions run
once an image instead of once a proposal, and fine-tuning leaves them as they are: they should come
trained (`backbone.weights`).

Shapes: B images, R RoIs of the batch, C channels of the map, K classes.

Differences from the paper:
- one scale, that of the transforms (688 pixels is the paper's best single one), not the best of
  five for each window.
- fc6 and fc7 begin at random, for no published file has layers of 50 bins.
- the regressions see fc7 instead of the pyramid; and what `rcnn` says of SVMs, boxes and scores.
- the frozen convolutions' maps are made anew in each epoch: images are flipped, and need no disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detkit.backbones.backbone import Backbone, Tail
from detkit.errors import DetkitError
from detkit.models.heads.box_head import RoIRules, Selection
from detkit.models.heads.svm_head import SVMRules
from detkit.models.model import Wants, models
from detkit.models.region_svm import RegionSVM, image_numbers
from detkit.ops.spatial_pyramid import BINS, spatial_pyramid, windows
from detkit.proposals.proposer import proposer_of
from detkit.ranges import Count, Natural, Positive, Share
from detkit.structures import Classes

CHUNK = 512  # windows that are pooled at once: of 512 channels they are 50 MB


class PyramidLayers(Tail):
    """fc6 and fc7 on the pyramid of a window.

    Args:
        in_channels: of the map.
        channels: width of both layers.
        dropout: behind each.
    """

    def __init__(self, in_channels: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.size, self.channels = sum(n * n for n in BINS), channels
        layers: list[nn.Module] = []
        for before in (in_channels * self.size, channels):
            layers += [nn.Linear(before, channels), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, rois: Tensor) -> Tensor:
        return self.layers(rois)


@models.register("sppnet")
class SPPnet(RegionSVM):
    """See the figure above.

    Args:
        proposer: where the proposals come from: selective_search, or file.
        proposals_file: of the proposer file, a .json, .npz or .mat with those of all splits.
        proposal_mode: of selective search: single, fast or quality.
        proposal_width: of selective search: to which images are resized for it; null keeps theirs.
        proposal_min_side: of selective search: pixels of a box's sides in the resized image.
        proposals: at most so many an image, the best; null is all.
        head_channels: width of fc6 and fc7.
        dropout: behind fc6 and fc7, in fine-tuning.
        train_backbone: fine-tune the convolutions too (the paper: false).
        roi_samples, roi_positive_fraction: proposals fine-tuned a batch; of them objects.
        roi_pos_iou, roi_least_iou: a proposal is an object from this overlap on in fine-tuning;
            below it background, and left out below the second.
        class_weights: weight of each class in fine-tuning; the background's is 1.
        svm_penalty: C of the SVMs; svm_positive_weight times so much for objects.
        svm_neg_iou: a proposal that overlaps no object of a class by so much is its background.
        svm_distinct_iou: of two such that overlap by more one is left out.
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
        proposer: str = "selective_search",
        proposals_file: str | None = None,
        proposal_mode: Literal["single", "fast", "quality"] = "fast",
        proposal_width: Count | None = 500,
        proposal_min_side: Natural = 20,
        proposals: Count | None = 2000,
        head_channels: Count = 4096,
        dropout: Share = 0.5,
        train_backbone: bool = False,
        roi_samples: Count = 128,
        roi_positive_fraction: Share = 0.25,
        roi_pos_iou: Share = 0.5,
        roi_least_iou: Share = 0.1,
        class_weights: Sequence[Positive] | None = None,
        svm_penalty: Positive = 0.001,
        svm_positive_weight: Positive = 2.0,
        svm_neg_iou: Share = 0.3,
        svm_distinct_iou: Share = 0.7,
        box_iou: Share = 0.6,
        box_penalty: Positive = 1000.0,
        score_thresh: Share = 0.05,
        nms_iou: Share = 0.3,
        detections: Count = 100,
    ) -> None:
        self.fine_tuned = ("",) if train_backbone else ("tail.", "head.")
        (channels,) = _the_one_level(backbone)
        super().__init__(
            backbone,
            classes,
            tail=PyramidLayers(channels, head_channels, dropout),
            proposer=proposer_of(
                proposer,
                proposals_file,
                mode=proposal_mode,
                width=proposal_width,
                min_side=proposal_min_side,
                at_most=proposals,
            ),
            rules=RoIRules(roi_pos_iou, roi_samples, roi_positive_fraction, roi_least_iou),
            svms=SVMRules(
                svm_penalty,
                svm_positive_weight,
                svm_neg_iou,
                svm_distinct_iou,
                box_iou,
                box_penalty,
            ),
            selection=Selection(score_thresh, nms_iou, detections),
            class_weights=class_weights,
        )

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(("4",))

    def features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        (features,) = self.backbone(images).values()
        (stride,) = self.backbone.strides.values()
        cells = windows(torch.cat(rois), stride, *features.shape[2:])
        found = [
            self.tail(spatial_pyramid(features, some, image))
            for some, image in zip(
                cells.split(CHUNK), image_numbers(rois).split(CHUNK), strict=True
            )
        ]
        return torch.cat(found)


def _the_one_level(backbone: Backbone) -> list[int]:
    """The width of the map that windows are taken from, as a list of one.

    Raises:
        DetkitError: the backbone gives several maps.
    """
    if len(backbone.channels) != 1:
        raise DetkitError(
            f"SPPnet pools from one map, not from the levels {', '.join(backbone.channels)}.",
            record="backbone.levels",
            remedy="leave backbone.levels out, or name one.",
        )
    return [*backbone.channels.values()]
