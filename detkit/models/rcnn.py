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

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from detkit.backbones.backbone import Backbone, Tail
from detkit.backbones.build import COARSEST
from detkit.errors import DetkitError
from detkit.models.heads.box_head import image_numbers
from detkit.models.model import Wants, models
from detkit.models.region_svm import RegionSVM
from detkit.ops.warp import warp as warped
from detkit.ranges import Count, Natural
from detkit.structures import Classes

CHUNK = 2_000_000  # pixels of warped regions that go through the network at once
ON_CPU = 700_000  # of them so many through the backbone: more make a CPU no faster


@models.register("rcnn", defaults={"roi_least_iou": 0.0})
class RCNN(RegionSVM):
    """See the figure above.

    Args:
        tail: what the classifier has behind its last level: fc6 and fc7, or a mean.
        warp: pixels of the square that each region is warped to.
        context: of them so many at each edge show what is around the region.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail,
        warp: Count = 227,
        context: Natural = 16,
        **settings: Any,
    ) -> None:
        if 2 * context >= warp:
            raise DetkitError(
                f"A context of {context} pixels at each edge leaves nothing of {warp}.",
                record="model.context",
                remedy="set model.context lower, or model.warp higher.",
            )
        super().__init__(backbone, classes, tail=tail, **settings)
        self.side, self.context = warp, context

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants((COARSEST,), tail=True)

    def at_once(self) -> int:
        """How many regions go through the network together: those that are trained stay together,
        for the sake of batch norms; others are few, for the sake of memory.
        """
        return max(CHUNK // self.side**2, self.rules.number if self.training else 1)

    def features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        boxes, image = torch.cat(rois), image_numbers(rois)
        at_once = self.at_once()
        found = [images.new_zeros(0, self.tail.channels)]
        for some, numbers in zip(boxes.split(at_once), image.split(at_once), strict=True):
            regions = warped(images, some, numbers, self.side, self.context)
            if len(regions):
                found.append(self.tail(self._last_maps(regions)))
        return torch.cat(found)

    def _last_maps(self, regions: Tensor) -> Tensor:
        """(R, C, h, w), the backbone's last map of each region.

        On a CPU fewer at once than the tail gets: VGG-16's maps of a region take 40 MB on the way,
        its last one 0.4 MB, and each lot reads all of fc6 and fc7.
        """
        few = len(regions)
        if regions.device.type == "cpu" and not self.training:
            few = max(1, ON_CPU // self.side**2)
        parts = regions.split(few)
        return torch.cat([last for part in parts for last in self.backbone(part).values()])
