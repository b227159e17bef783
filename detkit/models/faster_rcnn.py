"""Faster R-CNN (Ren, He, Girshick, Sun 2015, arXiv:1506.01497).

    image ─▶ backbone ─▶ maps ─┬─▶ RPN ─▶ proposals ─┐
                               └─────────────────── box head ─▶ classes, boxes        (figure 2)

One map and the classifier's own upper layers as the head (VGG-16's fc6 and fc7, ResNet's layer4),
or with an FPN on the backbone (Lin et al. 2017, arXiv:1612.03144) a pyramid and two new layers.

Shapes: B images, P proposals an image, K classes.

Differences from the paper:
- both networks' losses are added ("approximate joint training" there); the paper's four steps are
  `faster_rcnn_alternating`.
- anchors sit on the corner of their cell and have whole-pixel sides, as in published weights.
- a ground-truth box that overlaps no anchor makes none positive; in the published systems its
  best overlap, 0, makes all those positive that have it too.
- anchors that cross the border are trained unless `rpn_across_border` is off (the paper leaves them
  out); those around the padding of a batch are not, and are proposed after all others.
- RoIAlign, 512 RoIs an image and smooth L1 with the RPN's beta (1/9) in the head too, as later
  systems have them; the paper: RoIPool, 128 and a beta of 1.
- every proposal that overlaps no object by half is background, also without any overlap (Fast
  R-CNN: from 0.1 on), and proposals may be small (the published code: 16 pixels of the image).
- a loss is averaged within each image first, then over the images.
- background inside a crowd is not trained on (the paper's data have no crowds); VOC's difficult
  objects are.
- the head's last two layers start as PyTorch's Linear does; from the 0.01 and 0.001 of Fast R-CNN
  (section 3.1) short runs of AdamW find looser boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from detkit.backbones.backbone import Backbone, Tail, normalize
from detkit.errors import DetkitError
from detkit.models.heads.box_head import RoIRules, box_head
from detkit.models.heads.rpn import RPN, AnchorRules, ProposalRules
from detkit.models.heads.selection import Selection
from detkit.models.model import Model, Wants, models
from detkit.predictions import Prediction
from detkit.ranges import Count, Positive, Share
from detkit.structures import Classes, Targets, full_sizes

AnchorSizes = Sequence[Positive] | Sequence[Sequence[Positive]] | Literal["auto"] | None


@models.register("faster_rcnn")
class FasterRCNN(Model):
    """See the figure above.

    Args:
        tail: the upper stages as the head, where no pyramid stands on the backbone.
        anchor_sizes: pixels; with a pyramid one a level (or a list of them), else all at one map.
            auto: spread over the sizes of the run's own boxes, before its first step.
            None: 8 strides a level, or the paper's 128, 256 and 512.
        anchor_ratios: height / width.
        rpn_pos_iou, rpn_neg_iou: overlap from which an anchor is an object, below which background.
        rpn_samples, rpn_positive_fraction: anchors trained an image, and how many of them objects.
        rpn_across_border: train anchors that cross the image's border (the paper does not).
        proposals_before_nms: best boxes a level kept before NMS, in training and at inference.
        proposals: kept after NMS, in training and at inference.
        proposal_nms_iou: of two proposals that overlap by more the worse one goes.
        roi_pooling: "align" (Mask R-CNN) or "pool" (Fast R-CNN).
        roi_samples, roi_positive_fraction, roi_pos_iou: proposals trained an image.
        class_agnostic: one box for all classes instead of one a class.
        head_channels: width of the two layers behind a pyramid.
        class_weights: weight of each class in the head's class loss; the background's is 1.
        score_thresh, nms_iou, detections: which boxes are detections, and how many at most.
    """

    task, needs = "detect", frozenset({"boxes"})
    renamed: ClassVar[Mapping[str, str]] = {
        "head.tail.": "head.extractor.tail.",
        "head.logits.": "head.predictor.logits.",
        "head.deltas.": "head.predictor.deltas.",
    }

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail | None = None,
        anchor_sizes: AnchorSizes = None,
        anchor_ratios: Sequence[Positive] = (0.5, 1.0, 2.0),
        rpn_pos_iou: Share = 0.7,
        rpn_neg_iou: Share = 0.3,
        rpn_samples: Count = 256,
        rpn_positive_fraction: Share = 0.5,
        rpn_across_border: bool = True,
        proposals_before_nms: tuple[Count, Count] = (2000, 1000),
        proposals: tuple[Count, Count] = (2000, 1000),
        proposal_nms_iou: Share = 0.7,
        roi_pooling: str = "align",
        roi_samples: Count = 512,
        roi_positive_fraction: Share = 0.25,
        roi_pos_iou: Share = 0.5,
        class_agnostic: bool = False,
        head_channels: Count = 1024,
        class_weights: Sequence[Positive] | None = None,
        score_thresh: Share = 0.05,
        nms_iou: Share = 0.5,
        detections: Count = 100,
    ) -> None:
        super().__init__(backbone, classes)
        if rpn_pos_iou < rpn_neg_iou:
            raise DetkitError(
                f"model.rpn_pos_iou ({rpn_pos_iou}) is below model.rpn_neg_iou ({rpn_neg_iou}).",
                remedy="an anchor is an object from the higher overlap on, as 0.7 and 0.3.",
            )
        if not anchor_ratios:
            raise DetkitError(
                "model.anchor_ratios is empty.", remedy="give height / width of at least one shape."
            )
        channels = next(iter(backbone.channels.values()))
        self.rpn = RPN(
            channels,
            list(backbone.strides.values()),
            sizes_per_level(anchor_sizes, list(backbone.strides.values())),
            anchor_ratios,
            AnchorRules(
                rpn_pos_iou, rpn_neg_iou, rpn_samples, rpn_positive_fraction, rpn_across_border
            ),
            ProposalRules(proposals_before_nms, proposals, proposal_nms_iou),
        )
        self.head = box_head(
            backbone,
            tail,
            len(classes),
            RoIRules(roi_pos_iou, roi_samples, roi_positive_fraction),
            Selection(score_thresh, nms_iou, detections),
            pooling=roi_pooling,
            class_agnostic=class_agnostic,
            head_channels=head_channels,
            class_weights=class_weights,
        )

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(levels=("2", "3", "4", "5", "6")) if fpn else Wants(levels=("4",), tail=True)

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        images, maps, sizes = self.maps(images, sizes)
        proposals, rpn_losses = self.rpn(maps, sizes, targets)
        found, head_losses = self.head(images, maps, proposals, sizes, targets)
        return found if targets is None else {**rpn_losses, **head_losses}

    def maps(self, images: Tensor, sizes: Tensor | None) -> tuple[Tensor, list[Tensor], Tensor]:
        """The normalised images, their maps, finest first, and the images' (B, 2) sizes."""
        if sizes is None:
            sizes = full_sizes(images)
        images = normalize(images, self.mean_std, sizes)
        return images, list(self.backbone(images).values()), sizes


def sizes_per_level(sizes: AnchorSizes, strides: Sequence[int]) -> list[list[float]]:
    """The anchor sizes of each level, from however they were written.

    Raises:
        DetkitError: there are not as many entries as levels, or no numbers yet.
    """
    if isinstance(sizes, str):
        raise DetkitError(
            f"Sizes of anchors are numbers here, not {sizes}.",
            record="model.anchor_sizes",
            remedy="a training run finds them by itself; write numbers elsewhere.",
        )
    if sizes is None:
        sizes = [8 * stride for stride in strides] if len(strides) > 1 else [128, 256, 512]
    if len(strides) == 1:
        return [[float(size) for size in sizes]]  # type: ignore[arg-type]
    if len(sizes) != len(strides):
        raise DetkitError(
            f"model.anchor_sizes has {len(sizes)} entries for {len(strides)} levels"
            f" (strides {', '.join(map(str, strides))}).",
            remedy="give one entry a level, finest first.",
        )
    return [
        [float(s) for s in entry] if isinstance(entry, Sequence) else [float(entry)]
        for entry in sizes
    ]
