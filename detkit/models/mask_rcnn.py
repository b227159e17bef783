"""Mask R-CNN (He, Gkioxari, Dollár, Girshick 2017, arXiv:1703.06870).

    image ─▶ backbone ─▶ maps ─┬─▶ RPN ─▶ proposals ─┐
                               ├───────────── box head ─▶ classes, boxes ─┐
                               └───────────────────────────── mask head ─▶ a mask each  (figure 1)

With an FPN the mask head is four convolutions and a deconvolution on RoIs of 14×14 cells, which
gives masks of 28×28 (figure 4, right). Without one it is a deconvolution on the box head's own last
stage (figure 4, left): 14×14 from ResNet's layer4. Behind a head of fully connected layers (VGG's),
which has no such stage, it is the four convolutions on the one map.

Shapes: see `heads/mask_head.py`.

Differences from the paper, beside those of Faster R-CNN here:
- the loss is averaged within each image first, then over the images.
- targets are the shares of the cells that an object covers, not rounded to 0 and 1.
- cells and pixels are continuous: targets are cut, and masks pasted, without shifting by half a
  pixel (`ops/mask_paste.py`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from detkit.backbones.backbone import Backbone, MeanTail, Tail, normalize
from detkit.models.faster_rcnn import FasterRCNN
from detkit.models.heads.mask_head import MaskHead
from detkit.models.model import models
from detkit.predictions import Prediction
from detkit.ranges import Count
from detkit.structures import Classes, Targets, full_sizes


@models.register("mask_rcnn")
class MaskRCNN(FasterRCNN):
    """As Faster R-CNN, and a small network that draws each object it found.

    Args:
        mask_layers: convolutions of the mask head, where it shares no stage with the box head.
        mask_channels: width of the mask head.
    """

    task, needs = "segment_instances", frozenset({"boxes", "masks"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail | None = None,
        mask_layers: Count = 4,
        mask_channels: Count = 256,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, classes, tail=tail, **settings)
        shared = isinstance(tail, MeanTail)
        channels = tail.channels if shared and tail else next(iter(backbone.channels.values()))
        layers = 0 if shared else mask_layers
        levels = self.head.extractor.levels
        self.masks = MaskHead(channels, len(classes), levels, layers, mask_channels)

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        if sizes is None:
            sizes = full_sizes(images)
        images = normalize(images, self.mean_std, sizes)
        maps = list(self.backbone(images).values())
        proposals, rpn_losses = self.rpn(maps, sizes, targets)
        found, head_losses = self.head(images, maps, proposals, sizes, targets)
        drawn, mask_losses = self.masks(maps, found, targets, self._shared())
        return drawn if targets is None else {**rpn_losses, **head_losses, **mask_losses}

    def _shared(self) -> MeanTail | None:
        """The box head's last stage, if it has a map that masks can be drawn from."""
        tail = self.head.extractor.tail
        return tail if isinstance(tail, MeanTail) else None
