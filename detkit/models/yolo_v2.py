"""YOLOv2 (Redmon, Farhadi 2016, arXiv:1612.08242).

    image ─▶ backbone ─┬─ stride 16 ─▶ 1×1, 64 ─▶ space to depth ─┐
                       └─ stride 32 ─▶ 3×3, 3×3, 1,024 ──────── concat ─▶ 3×3, 1,024 ─▶ 1×1:
                                                  5 anchors × (tx ty tw th, objectness, K)

`tiny_yolo_v2` has the last convolution alone, on a trunk of its own. Rows, matching and selection
are `heads.grid_head`, what differs from YOLOv3's rules `heads.region_head`.

Shapes: B images, A anchors, (H, W) cells, K classes.

Differences from the paper, all but the last two those of its own code, Darknet:
- a 1×1 convolution to 64 channels stands before the passthrough;
- the weights of the losses are Darknet's (1 for boxes and classes, 5 for objects), box losses are
  multiplied by 2 − (the object's share of the image), and a predictor is no mistake from an IoU of
  0.6 with any object on;
- centres and objectness have cross-entropies, whose gradients are those of Darknet's present code;
  the objectness that is wanted is the IoU with the object;
- for the first 12,800 images (or a quarter of a short run) every predictor without an object also
  learns its anchor in the middle of its cell, a hundredth as strongly: a stage of its own, with the
  optimiser and the schedule of the whole run;
- losses are averaged within images and crowds ignored as in `models.yolo_v3`;
- any backbone: its coarsest level of 2 … 5, and the passthrough from the level of half its stride
  if there is one.

The passthrough has the paper's order of channels, the four cells of a square one beside the other
for each channel (`pixel_unshuffle`). Darknet's own reorg mixes them otherwise: its files are read
by `backbone=darknet_cfg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import DetkitError
from detkit.models.anchor_stage import GridModel, anchor_stages
from detkit.models.heads.grid_head import Anchors, BoxLoss, LossWeights, anchors_of_levels
from detkit.models.heads.grid_layers import convolution, predictors
from detkit.models.heads.region_head import RegionHead
from detkit.models.heads.selection import Selection
from detkit.models.model import Wants, models
from detkit.models.stages import Stage
from detkit.predictions import Prediction
from detkit.ranges import Count, Natural, Positive, Share
from detkit.structures import Classes, Targets, full_sizes

# k-means over COCO's boxes and over VOC's, pixels at 416: Darknet's, 32 times its cells
COCO_ANCHORS = (
    *((18.327, 21.676), (59.983, 66.001), (106.83, 175.179)),
    *((252.25, 112.889), (312.657, 293.385)),
)
VOC_ANCHORS = (
    *((42.307, 55.406), (102.168, 128.302), (161.788, 259.165)),
    *((303.076, 154.897), (359.565, 320.227)),
)
PASSTHROUGH = 64  # channels before the passthrough
LEVELS = ("2", "3", "4", "5")


@models.register("tiny_yolo_v2", passthrough=False)
@models.register("yolo_v2", passthrough=True)
class YOLOv2(GridModel):
    """Five anchors in each cell of one map (section 2).

    Args:
        passthrough: whether the finer map and further convolutions come in.
        anchors: widths and heights, pixels of the network's image. The default is COCO's at 416.
            auto: k-means over the run's own boxes, before its first step.
        anchor_scale: multiplies the anchors: 1.5 for images of 624 pixels.
        neck_width: multiplies the 64 and 1,024 channels behind the backbone.
        ignore_iou: a predictor that no object chose is no mistake above this IoU with any object.
        anchor_images: so many first images also teach every predictor its anchor; 0: none.
        loss_weights: of boxes, of predictors without an object, of those with one, of classes.
        class_weights: weight of each class in the class loss.
        box_loss: of their four numbers (offsets), or of the boxes (ciou: Zheng et al. 2020).
        score_thresh, nms_iou, detections: what is kept of the predictions; NMS is per class.

    Raises:
        DetkitError: an anchor is no width and height, or there are other numbers of weights.
    """

    task, needs = "detect", frozenset({"boxes"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        passthrough: bool = True,
        anchors: Anchors = COCO_ANCHORS,
        anchor_scale: Positive = 1.0,
        neck_width: Positive = 1.0,
        ignore_iou: Share = 0.6,
        anchor_images: Natural = 12800,
        loss_weights: Sequence[Positive] = (1.0, 1.0, 5.0, 1.0),
        class_weights: Sequence[Positive] | None = None,
        box_loss: BoxLoss = "offsets",
        score_thresh: Share = 0.01,
        nms_iou: Share = 0.45,
        detections: Count = 100,
    ) -> None:
        super().__init__(backbone, classes)
        self.anchor_images = anchor_images
        level, finer = chosen_levels(backbone)
        self.levels = [level, finer] if passthrough and finer else [level]
        sizes = anchors_of_levels(anchors, 1) * anchor_scale
        self.grid = RegionHead(
            sizes,
            [backbone.strides[level]],
            len(classes),
            ignore_iou=ignore_iou,
            class_weights=class_weights,
            selection=Selection(score_thresh, nms_iou, detections),
            weights=weights_of_losses(loss_weights),
            box_loss=box_loss,
        )
        channels = [backbone.channels[level] for level in self.levels]
        self.neck: nn.Module | None = Neck(channels, neck_width) if passthrough else None
        taken = self.neck.channels if isinstance(self.neck, Neck) else channels[0]
        count = sizes.shape[1]
        self.head = predictors(taken, count * (5 + len(classes)), count)

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        last = LEVELS[-2:] if settings["passthrough"] else LEVELS[-1:]
        return Wants(last if fpn else LEVELS)

    def stages(self) -> Sequence[Stage]:
        return anchor_stages(self.anchor_images)

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        if sizes is None:
            sizes = full_sizes(images)
        return self.grid(self.maps(images, sizes), sizes, targets)

    def maps(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        return [self.outputs(images, sizes)]

    def outputs(self, images: Tensor, sizes: Tensor) -> Tensor:
        """(B, A·(5 + K), H, W) of the last convolution."""
        maps = self.backbone(normalize(images, self.mean_std, sizes))
        features = [maps[level] for level in self.levels]
        return self.head(features[0] if self.neck is None else self.neck(features))


class Neck(nn.Module):
    """Two convolutions of the coarse map, the finer one beside them, one convolution.

    Args:
        channels: of the coarse map, and of the finer one if there is one.
        width: multiplies the paper's 1,024 and Darknet's 64.
    """

    def __init__(self, channels: Sequence[int], width: float) -> None:
        super().__init__()
        self.channels, before = (max(4, round(width * n)) for n in (1024, PASSTHROUGH))
        self.coarse = nn.Sequential(
            convolution(channels[0], self.channels, 3), convolution(self.channels, self.channels, 3)
        )
        self.passthrough = convolution(channels[1], before, 1) if len(channels) > 1 else None
        joined = self.channels + (4 * before if len(channels) > 1 else 0)
        self.joined = convolution(joined, self.channels, 3)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C, H, W), and (B, C', 2H, 2W) or a cell less → (B, channels, H, W)."""
        coarse = self.coarse(maps[0])
        if self.passthrough is None:
            return self.joined(coarse)
        finer = self.passthrough(maps[1])
        height, width = (2 * side for side in coarse.shape[2:])
        finer = F.pad(finer, (0, width - finer.shape[3], 0, height - finer.shape[2]))
        return self.joined(torch.cat([F.pixel_unshuffle(finer, 2), coarse], 1))


def chosen_levels(backbone: Backbone) -> tuple[str, str | None]:
    """The coarsest level of 2 … 5, and the one of half its stride."""
    having = [level for level in backbone.channels if level in LEVELS]
    level = having[-1]
    finer = [n for n in having if 2 * backbone.strides[n] == backbone.strides[level]]
    return level, finer[0] if finer else None


def weights_of_losses(weights: Sequence[float]) -> LossWeights:
    """
    Raises:
        DetkitError: not four numbers.
    """
    if len(weights) != 4:
        raise DetkitError(
            f"{len(weights)} weights of losses, not 4.",
            record="model.loss_weights",
            remedy="give those of boxes, of predictors without an object, of those with one, and"
            " of classes: [1, 1, 5, 1].",
        )
    return LossWeights(*weights)
