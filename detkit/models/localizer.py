"""A localizer: the class of an image, and one box around its one object.

    image ─▶ backbone ─▶ coarsest map ─┬─▶ tail ─▶ linear ─▶ K logits ─▶ softmax
                                       └─▶ 3×3 ─▶ 1×1 ─▶ each cell: l, t, r, b and a weight
                                                              └─▶ weighted mean ─▶ one box

The task of ILSVRC's localisation (Russakovsky et al. 2015, arXiv:1409.0575, section 3.2), done by a
classifier that learns a box beside its class, as in OverFeat (Sermanet et al. 2013,
arXiv:1312.6229, section 4). Each cell says how far the box's sides are from its own centre, as in
FCOS (Tian et al. 2019, arXiv:1904.01355, section 3.1), and its weight in their mean.

Shapes: B images, C channels of the coarsest map, (h, w) its cells, K classes.

Differences from OverFeat:
- one box for all classes instead of one for each;
- no fully connected layer on the map and no windows at six scales, whose boxes are merged: the
  cells vote, so few pictures teach it, and any backbone will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from detkit.backbones.backbone import Backbone, Tail, initialize
from detkit.errors import DetkitError
from detkit.localization import Localization
from detkit.models.classifier import Classifier
from detkit.models.model import models
from detkit.ops.boxes import clip
from detkit.predictions import Prediction
from detkit.ranges import Count, Positive
from detkit.structures import Classes, Targets, content_mask, full_sizes

START = -0.85  # of the distances' logits: 0.3 of the image's sides, a box around its middle


@models.register("localizer")
class Localizer(Classifier):
    """The class of each image, and the box of its object.

    Args:
        hidden: channels of the convolution before the boxes.
        box: weight of the boxes' loss.

    Raises:
        DetkitError: class weights that are not K.
    """

    task, needs = "localize", frozenset({"boxes", "one_object"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail | None = None,
        hidden: Count = 128,
        box: Positive = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, classes, tail=tail, **settings)
        self.box = box
        self.boxes = nn.Sequential(
            nn.Conv2d(backbone.channels[self.level], hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, 5, 1),
        )
        initialize(self.boxes)
        last = self.boxes[2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=0.01)
        with torch.no_grad():
            last.bias[:4] = START

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        sizes = full_sizes(images) if sizes is None else sizes
        maps = self.maps(images, sizes, learns=targets is not None)
        features = maps[self.level]
        logits = self.tail.classify(features).float()
        inside = content_mask(images, sizes)[:, None]
        boxes = one_box(self.boxes(features).float(), inside, images.shape[2:])
        if targets is None:
            rows = zip(logits.softmax(1), clip(boxes[:, None], sizes), strict=True)
            return [Localization(scores, box=box[0]) for scores, box in rows]
        labels, wanted = objects_of(targets)
        apart = box_loss(boxes, wanted, labels >= 0, sizes)
        return {**self.class_losses(maps, logits, labels), "box": self.box * apart}


def one_box(maps: Tensor, inside: Tensor, size: Sequence[int]) -> Tensor:
    """The box that the cells agree on.

    Args:
        maps: (B, 5, h, w) float32, of each cell logits of the distances from its centre to the
            left, upper, right and lower side, as parts of the image's, and the log of its weight.
        inside: (B, 1, H, W) bool, pixels that are no padding: cells of these alone count.
        size: (H, W) of the images.
    Returns:
        (B, 4) float32, xyxy, pixels.
    """
    boxes, weights = votes(maps, size, inside)
    return (boxes * weights[:, None]).sum(2)


def votes(maps: Tensor, size: Sequence[int], inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The box of each cell, and its weight in their mean.

    Args:
        maps, size, inside: as `one_box` takes them; None: all cells count.
    Returns:
        (B, 4, h·w) float32 boxes, xyxy, pixels, and (B, h·w) weights, whose sum is 1.
    """
    rows, columns = maps.shape[2:]
    weights = maps[:, 4].flatten(1)
    if inside is not None:
        counted = F.interpolate(inside.float(), (rows, columns), mode="nearest").flatten(1) > 0
        weights = weights.masked_fill(~counted, float("-inf"))
    y = (torch.arange(rows, device=maps.device) + 0.5) / rows
    x = (torch.arange(columns, device=maps.device) + 0.5) / columns
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1] * 2)  # x, y, x, y
    signs = maps.new_tensor([-1.0, -1.0, 1.0, 1.0])[:, None, None]
    scale = maps.new_tensor([size[1], size[0]] * 2)[:, None, None]
    boxes = (centres + signs * maps[:, :4].sigmoid()) * scale
    return boxes.flatten(2), weights.softmax(1)


def box_loss(boxes: Tensor, wanted: Tensor, known: Tensor, sizes: Tensor) -> Tensor:
    """1 − GIoU and the L1 distance, as parts of the image's sides: the mean of the images.

    Those without an object count as ones of loss 0.

    So in DETR (Carion et al. 2020, arXiv:2005.12872, equation 9), there 2 and 5 times.

    Args:
        boxes, wanted: (B, 4) xyxy, pixels. known: (B,) bool. sizes: (B, 2) height and width.
    """
    sides = sizes.flip(1).repeat(1, 2)
    far = ((boxes - wanted) / sides).abs().sum(1)
    apart = generalized_box_iou_loss(boxes, wanted, reduction="none")
    return ((apart + far) * known).mean()


def objects_of(targets: Sequence[Targets]) -> tuple[Tensor, Tensor]:
    """(B,) int64 classes, −1 where an image has no object, and (B, 4) boxes, there zeros.

    Raises:
        DetkitError: an image has several objects.
    """
    labels, boxes = [], []
    for target in targets:
        if len(target) > 1:
            raise DetkitError(
                f"An image of the batch has {len(target)} objects, a localizer finds one.",
                remedy="train it on images with one object each, or choose a model that detects"
                " all of them (model=faster_rcnn).",
            )
        none = len(target) == 0
        labels.append(target.labels.new_tensor(-1) if none else target.labels[0])
        boxes.append(target.boxes.new_zeros(4) if none else target.boxes[0])
    return torch.stack(labels), torch.stack(boxes)
