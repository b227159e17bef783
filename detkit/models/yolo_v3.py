"""YOLOv3 (Redmon, Farhadi 2018, arXiv:1804.02767).

    image ─▶ backbone ─┬─ stride 32 ─▶ 5 convs ─┬─▶ head: 3 anchors × (tx ty tw th, objectness, K)
                       │                        └─▶ 1×1, upsample ─┐
                       ├─ stride 16 ───────────────────── concat ◀─┘─▶ 5 convs ─┬─▶ head
                       └─ stride  8 ─────────────────────────── concat ◀────────┘ … ─▶ head

`tiny_yolo_v3` has seven convolutions below, two levels and no five convolutions before its heads;
`yolo_v3_spp` pools with three window sizes amid the coarsest five (spatial pyramid). The rows of
predictors, their losses and detections are in `heads.grid_head`.

Shapes: B images, L levels, A anchors a level, (H, W) cells, K classes.

Differences from the paper, most of them those of its own code, Darknet:
- the centre's loss is the binary cross-entropy of σ(tx), σ(ty), whose gradient is Darknet's; the
  paper's squared error of tx itself has no finite target for a centre on a cell's border. Box
  losses are weighted by 2 − (the object's share of the image), as in Darknet;
- predictions are ignored by the IoU of what they predict (Darknet), not of their anchor;
- each image's losses are divided by its number of objects (at least 1) and averaged over the batch,
  so that crowded images do not rule the gradient and processes can share a batch;
- objectness starts at a thousandth, about one object in a thousand predictors, so that the first
  steps are not spent on silencing the rest;
- a predictor that two objects ask for goes to the first one. Crowds are not learnt, and predictions
  mostly inside one are no mistakes; difficult objects are learnt like all others;
- any backbone: of its levels 2 … 5 the coarsest three serve (an FPN's maps like any other's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import unknown
from detkit.models.heads.grid_head import Anchors, BoxLoss, GridHead, anchors_of_levels
from detkit.models.heads.grid_layers import convolution, predictors
from detkit.models.heads.selection import Selection
from detkit.models.model import Model, Wants, models
from detkit.predictions import Prediction
from detkit.ranges import Count, Positive, Share
from detkit.structures import Classes, Targets, full_sizes

COCO_ANCHORS = (
    *((10, 13), (16, 30), (33, 23)),  # stride 8
    *((30, 61), (62, 45), (59, 119)),  # stride 16
    *((116, 90), (156, 198), (373, 326)),  # stride 32
)
TINY_ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
LEVELS = ("2", "3", "4", "5")


@models.register("tiny_yolo_v3", neck="tiny", max_levels=2, defaults={"anchors": TINY_ANCHORS})
@models.register("yolo_v3_spp", neck="spp", max_levels=3)
@models.register("yolo_v3", neck="five", max_levels=3)
class YOLOv3(Model):
    """One predictor for each anchor of each cell, on up to three levels (section 2).

    Args:
        neck: what precedes each head: "five" convolutions, "spp" among them, or "tiny", none but
            one before the coarsest.
        max_levels: how many of the coarsest levels serve.
        anchors: widths and heights, pixels of the network's image; shared out evenly over the
            levels, the smallest to the finest. The default is the paper's: COCO at 416 pixels.
            auto: k-means over the run's own boxes, before its first step.
        anchor_scale: multiplies the anchors: 1.5 for images of 624 pixels.
        neck_width: multiplies the neck's 512, 256 and 128 channels.
        ignore_iou: a predictor that no object chose is no mistake above this IoU with any object.
        class_weights: weight of each class in the class loss.
        box_loss: of their four numbers (offsets), or of the boxes (ciou: Zheng et al. 2020).
        score_thresh, nms_iou, detections: what is kept of the predictions; NMS is per class.

    Raises:
        DetkitError: the anchors cannot be shared out evenly, or the class weights are not K.
    """

    task, needs = "detect", frozenset({"boxes"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        neck: str = "five",
        max_levels: int = 3,
        anchors: Anchors = COCO_ANCHORS,
        anchor_scale: Positive = 1.0,
        neck_width: Positive = 1.0,
        ignore_iou: Share = 0.5,
        class_weights: Sequence[Positive] | None = None,
        box_loss: BoxLoss = "offsets",
        score_thresh: Share = 0.01,
        nms_iou: Share = 0.45,
        detections: Count = 100,
    ) -> None:
        super().__init__(backbone, classes)
        self.levels = [level for level in backbone.channels if level in LEVELS][-max_levels:]
        self.strides = [backbone.strides[level] for level in self.levels]
        shared = anchors_of_levels(anchors, len(self.levels)) * anchor_scale
        self.grid = GridHead(
            shared,
            self.strides,
            len(classes),
            ignore_iou=ignore_iou,
            class_weights=class_weights,
            selection=Selection(score_thresh, nms_iou, detections),
            box_loss=box_loss,
        )
        self.neck = Neck([backbone.channels[level] for level in self.levels], neck_width, neck)
        outputs = shared.shape[1] * (5 + len(classes))
        self.heads = nn.ModuleList(
            head(taken, given, outputs, shared.shape[1]) for taken, given in self.neck.heads
        )

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(LEVELS[-settings["max_levels"] :] if fpn else LEVELS)

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        if sizes is None:
            sizes = full_sizes(images)
        levels = self.backbone(normalize(images, self.mean_std, sizes))
        maps = self.neck([levels[level] for level in self.levels])
        outputs = [head(features) for head, features in zip(self.heads, maps, strict=True)]
        return self.grid(outputs, sizes, targets)


class Neck(nn.Module):
    """Convolutions a level; each level sees the coarser ones, upsampled and concatenated.

    Args:
        channels: of the maps that come in, finest level first.
        width: multiplies the paper's 512, 256, 128 (coarsest first).
        kind: of SETS.

    Attributes:
        heads: for each level the channels of its map, and those of the head's 3×3 convolution.
    """

    def __init__(self, channels: Sequence[int], width: float, kind: str = "five") -> None:
        super().__init__()
        if kind not in SETS:
            raise unknown("neck", kind, SETS)
        last, first = len(channels) - 1, 256 if kind == "tiny" else 512
        self.widths = [max(4, round(width * first / 2 ** (last - i))) for i in range(len(channels))]
        self.sets, self.laterals, self.heads = nn.ModuleList(), nn.ModuleList(), []
        for i, (taken, given) in enumerate(zip(channels, self.widths, strict=True)):
            if i < last:
                self.laterals.append(convolution(self.widths[i + 1], given, 1))
                taken += given
            layers = SETS[kind](taken, given, i == last)
            self.sets.append(nn.Sequential(*layers))
            self.heads.append((given if layers else taken, 2 * given))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps, finest level first → as many, of the channels in `heads`."""
        outputs = [self.sets[-1](maps[-1])]
        for i in reversed(range(len(maps) - 1)):
            coarser = F.interpolate(self.laterals[i](outputs[0]), size=maps[i].shape[2:])
            outputs.insert(0, self.sets[i](torch.cat([coarser, maps[i]], 1)))
        return outputs


def five(taken: int, given: int, coarsest: bool) -> list[nn.Module]:
    """1×1 and 3×3 in turn (section 2.3)."""
    return [
        convolution(taken, given, 1),
        convolution(given, 2 * given, 3),
        convolution(2 * given, given, 1),
        convolution(given, 2 * given, 3),
        convolution(2 * given, given, 1),
    ]


def five_with_pyramid(taken: int, given: int, coarsest: bool) -> list[nn.Module]:
    """The same, and on the coarsest level a spatial pyramid behind the first three."""
    layers = five(taken, given, coarsest)
    pyramid = [SpatialPyramid(), convolution(4 * given, given, 1)]
    return [*layers[:3], *pyramid, *layers[3:]] if coarsest else layers


def one(taken: int, given: int, coarsest: bool) -> list[nn.Module]:
    """A 1×1 convolution on the coarsest level alone."""
    return [convolution(taken, given, 1)] if coarsest else []


SETS = {"five": five, "spp": five_with_pyramid, "tiny": one}


class SpatialPyramid(nn.Module):
    """The map beside itself pooled over windows of 5, 9 and 13 cells (Darknet's yolov3-spp)."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = [F.max_pool2d(x, side, stride=1, padding=side // 2) for side in (13, 9, 5)]
        return torch.cat([*pooled, x], 1)


def head(taken: int, given: int, outputs: int, anchors: int) -> nn.Sequential:
    """A 3×3 convolution and the linear 1×1 one."""
    last = predictors(given, outputs, anchors)
    return nn.Sequential(convolution(taken, given, 3), last)
