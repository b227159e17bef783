"""The network of a Darknet description (.cfg), and nothing above it but the rules of its outputs.

    image ─▶ backbone=darknet_cfg ─┬─▶ map that a [yolo] or [region] reads ─┐
                                   └─▶ map that another one reads ──────────┴─▶ losses, detections

[yolo] has YOLOv3's rules (`heads.grid_head`), [region] YOLOv2's (`heads.region_head`), or over a
tree of classes YOLO9000's (`heads.tree_head`); anchors, masks, ignore_thresh, scale_x_y and the
factors of the losses are the description's.

Shapes: B images, A anchors of an output, (H, W) cells, K classes.

Differences from Darknet:
- an object goes to the best anchor that an output has, and to the first output that has it; in
  Darknet an anchor in no mask learns nothing, one in two masks twice;
- boxes learn as `box_loss` says, whatever iou_loss does, and one ignore_thresh, the first
  output's, holds for all; truth_thresh, iou_thresh, bias_match and the options of augmentation are
  passed over;
- [region]: softmax=0 gives YOLOv3's rules, without the anchors' loss at first, and rescore is
  always 1; its tree is not opened but comes with the classes (`model.tree`, or the .tree beside
  published weights), and without one they are siblings;
- convolutions in front of an output start as in `models.yolo_v3` where no file has their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from detkit.backbones.backbone import Backbone, normalize
from detkit.backbones.darknet_cfg import DarknetCfg
from detkit.backbones.darknet_outputs import Output, check_plain
from detkit.errors import DetkitError
from detkit.models.anchor_stage import GridModel, anchor_stages
from detkit.models.heads.grid_head import BoxLoss, GridHead, LossWeights
from detkit.models.heads.grid_layers import start_predictors
from detkit.models.heads.region_head import RegionHead
from detkit.models.heads.selection import Selection
from detkit.models.heads.tree_head import TreeHead
from detkit.models.model import Wants, models
from detkit.models.stages import Stage
from detkit.predictions import Prediction
from detkit.ranges import Count, Natural, Positive, Share
from detkit.structures import Classes, Targets, full_sizes

IGNORE = {"yolo": ("ignore_thresh", 0.5), "region": ("thresh", 0.5)}  # option, Darknet's default
SCALES = {  # [region]'s option → what it weighs
    "coord_scale": "box",
    "noobject_scale": "no_object",
    "object_scale": "object",
    "class_scale": "classes",
}


@models.register("darknet_cfg")
class DarknetNetwork(GridModel):
    """What `backbone.cfg=FILE` draws; without a file a small YOLOv3 of detkit's own.

    Args:
        ignore_iou: a predictor that no object chose is no mistake above this IoU with any object;
            null is the description's.
        class_weights: weight of each class in the class loss.
        anchor_images: of a [region], so many first images also teach every predictor its anchor;
            0: none, as for weights that were trained already.
        box_loss: of their four numbers (offsets), or of the boxes (ciou: Zheng et al. 2020).
        tree, tree_map, tree_thresh: of a [region], as `model=yolo9000` has them.
        score_thresh, nms_iou, detections: what is kept of the predictions; NMS is per class.

    Raises:
        DetkitError: another backbone, outputs of unlike kinds or such as are not decoded here, a
            tree above [yolo], other numbers of classes or class weights.
    """

    task, needs = "detect", frozenset({"boxes"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        ignore_iou: Share | None = None,
        class_weights: Sequence[Positive] | None = None,
        box_loss: BoxLoss = "offsets",
        anchor_images: Natural = 12800,
        tree: str | dict[str, Any] | None = None,
        tree_map: str | None = None,
        tree_thresh: Share = 0.6,
        score_thresh: Share = 0.01,
        nms_iou: Share = 0.45,
        detections: Count = 100,
    ) -> None:
        if not isinstance(backbone, DarknetCfg):
            raise DetkitError(
                f"darknet_cfg stands on a network of a .cfg file alone, not on a "
                f"{type(backbone).__name__}.",
                remedy="set backbone=darknet_cfg, or choose another model for this backbone.",
            )
        super().__init__(backbone, classes)
        by_level = {output.level: output for output in backbone.outputs}
        self.outputs = [by_level[level] for level in backbone.channels]
        self.anchor_images = anchor_images
        first = backbone.outputs[0]
        check_outputs(self.outputs, len(classes))
        anchors = [torch.tensor(output.anchors) for output in self.outputs]
        strides = [output.stride for output in self.outputs]
        rules: dict[str, Any] = {
            "ignore_iou": ignored_from(first) if ignore_iou is None else ignore_iou,
            "class_weights": class_weights,
            "selection": Selection(score_thresh, nms_iou, detections),
            "weights": loss_weights(first),
            "scales": [output.scale_x_y for output in self.outputs],
            "box_loss": box_loss,
        }
        if classes.parents is not None:
            check_tree(first)
            self.grid = TreeHead(
                anchors, strides, classes.parents, tree_thresh=tree_thresh, **rules
            )
        else:
            head = RegionHead if first.softmax else GridHead
            self.grid = head(anchors, strides, len(classes), **rules)
        for output, last in backbone.unfilled():
            start_predictors(last, len(output.anchors))

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(None)

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        if sizes is None:
            sizes = full_sizes(images)
        return self.grid(self.maps(images, sizes), sizes, targets)

    def maps(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        maps = self.backbone(normalize(images, self.mean_std, sizes))
        return [maps[output.level] for output in self.outputs]

    def stages(self) -> Sequence[Stage]:
        anchors = isinstance(self.grid, RegionHead)  # softmax=0 has the rules of YOLOv3
        return anchor_stages(self.anchor_images if anchors else 0)


def check_outputs(outputs: Sequence[Output], classes: int) -> None:
    """
    Raises:
        DetkitError: outputs of unlike kinds, such as are not decoded here, or of other classes.
    """
    for output in outputs:
        check_plain(output, tree=True)
        if output.classes != classes:
            raise DetkitError(
                f"The network has {output.classes} classes, the data {classes}.",
                record="backbone.classes",
                remedy="set it to null: the convolutions in front of the outputs then fit.",
            )
    if len({(output.kind, output.softmax) for output in outputs}) > 1:
        raise DetkitError(
            "Some outputs are [yolo], some [region], or only some have softmax=1.",
            record="backbone.cfg",
            remedy="make them alike.",
        )


def check_tree(output: Output) -> None:
    """
    Raises:
        DetkitError: an output whose classes cannot form a tree.
    """
    if not output.softmax:
        raise DetkitError(
            f"Layer {output.layer} [{output.kind}] has no softmax, which a tree of classes needs.",
            record="model.tree",
            remedy="set it to null, or choose the .cfg of a [region] with softmax=1.",
        )


def ignored_from(output: Output) -> float:
    """The IoU with an object from which on a predictor is no mistake."""
    option, default = IGNORE[output.kind]
    value = output.settings.get(option, default)
    if isinstance(value, str) or not 0 <= value <= 1:
        raise odd_option(output, option, value, "an IoU of 0 … 1")
    return value


def loss_weights(output: Output) -> LossWeights:
    """What [region] says of its losses; [yolo] weighs none."""
    found: dict[str, float] = {}
    for option, part in SCALES.items():
        value = output.settings.get(option, 1.0) if output.kind == "region" else 1.0
        if isinstance(value, str) or not 0 <= value < float("inf"):
            raise odd_option(output, option, value, "a factor of 0 or more")
        found[part] = value
    return LossWeights(**found)


def odd_option(output: Output, option: str, value: float | str, wanted: str) -> DetkitError:
    return DetkitError(
        f"{option} is {value!r}, not {wanted}.",
        record=f"layer {output.layer} [{output.kind}]",
        remedy=f"correct {option}.",
    )
