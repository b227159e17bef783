"""YOLO9000 (Redmon, Farhadi 2016, arXiv:1612.08242, section 4).

    image ─▶ backbone ─ stride 32 ─▶ 1×1: 3 anchors × (tx ty tw th, objectness, K)
                                            of each group of siblings a softmax ─┘

YOLOv2 without its neck, over a tree of classes: a detector of the leaves that some boxes are known
of, and of whatever else images of one class have taught. `Classes.parents` is the tree; without
one all classes are siblings. Data name their classes as the tree does.

    image with boxes ──▶ all losses; of a class, those of it and of what it belongs to
    image with a class ▶ the predictor of largest objectness learns it and an objectness of 0.3

Shapes: B images, A anchors, (H, W) cells, K classes, inner ones of the tree included.

Differences from the paper, beside those of `models.yolo_v2`:
- an image of a class teaches the predictor of largest objectness, the one that would detect it. The
  paper and Darknet take the one that is surest of the class: from random weights each class without
  boxes then settled on one anchor, whatever its size, and detected next to nothing. A predictor
  whose objectness is 0.3 already learns none;
- a detection's score is its objectness times the probability of the class that the walk along the
  tree ends at (Darknet: the objectness alone), so that the surest come first;
- images with boxes and images of a class are drawn as often as there are some; the paper repeats
  COCO's four times (copies in a list file do).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detkit.backbones.backbone import Backbone
from detkit.models.heads.grid_head import Anchors, BoxLoss
from detkit.models.heads.tree_head import TreeHead
from detkit.models.model import Wants, models
from detkit.models.yolo_v2 import LEVELS, YOLOv2
from detkit.ranges import Count, Natural, Positive, Share
from detkit.structures import Classes

# Darknet's yolo9000.cfg, pixels at 416: 32 times its cells
ANCHORS = ((24.919, 36.504), (96.168, 138.009), (295.272, 307.832))


@models.register("yolo9000")
class YOLO9000(YOLOv2):
    """Three anchors in each cell, and a tree of classes (section 4).

    Args:
        tree: the file of the classes' tree, read when a run begins; its checkpoints have it. YAML
            (an experiment may hold such lines itself): {animal: [cat, dog]}; or Darknet's .tree,
            with its .names beside it.
        tree_map: a file with the place in the tree, from 0, of each of the data's classes, such as
            Darknet's .map; those places then have the data's names. null: by their names.
        tree_thresh: a class is gone down to while it is as likely as this.
    """

    also = frozenset({"image_labels"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tree: str | dict[str, Any] | None = None,
        tree_map: str | None = None,
        tree_thresh: Share = 0.6,
        anchors: Anchors = ANCHORS,
        anchor_scale: Positive = 1.0,
        ignore_iou: Share = 0.6,
        anchor_images: Natural = 12800,
        loss_weights: Sequence[Positive] = (1.0, 1.0, 5.0, 1.0),
        class_weights: Sequence[Positive] | None = None,
        box_loss: BoxLoss = "offsets",
        score_thresh: Share = 0.01,
        nms_iou: Share = 0.45,
        detections: Count = 100,
    ) -> None:
        super().__init__(
            backbone,
            classes,
            passthrough=False,
            anchors=anchors,
            anchor_scale=anchor_scale,
            ignore_iou=ignore_iou,
            anchor_images=anchor_images,
            loss_weights=loss_weights,
            class_weights=class_weights,
            box_loss=box_loss,
            score_thresh=score_thresh,
            nms_iou=nms_iou,
            detections=detections,
        )
        flat = self.grid
        self.grid = TreeHead(
            flat.anchors,
            flat.strides,
            classes.parents or (-1,) * len(classes),
            tree_thresh=tree_thresh,
            ignore_iou=ignore_iou,
            class_weights=class_weights,
            selection=flat.selection,
            weights=flat.weights,
            box_loss=box_loss,
        )

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(LEVELS[-1:] if fpn else LEVELS)
