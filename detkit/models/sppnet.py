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
- scales are factors on the transforms' picture, and one by default (the paper's five: short_side
  1200 and scales of 0.4, 0.48, 0.5733, 0.72 and 1; its best single one: short_side 688).
- fc6 and fc7 begin at random, for no published file has layers of 50 bins.
- the regressions see fc7 instead of the pyramid; and what `rcnn` says of SVMs, boxes and scores.
- the frozen convolutions' maps are kept in memory instead of on disk, as many as there is room for
  (`kept_maps`); a flipped image has maps of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detkit.backbones.backbone import Backbone, Tail
from detkit.errors import DetkitError
from detkit.models.heads.box_head import image_numbers
from detkit.models.heads.kept_maps import KeptMaps
from detkit.models.heads.scales import at_fitting_scale, checked
from detkit.models.model import Wants, models
from detkit.models.region_svm import RegionSVM
from detkit.ops.spatial_pyramid import BINS, block_maxima, spatial_pyramid, windows
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


@models.register("sppnet", defaults={"svm_distinct_iou": 0.7})
class SPPnet(RegionSVM):
    """See the figure above.

    Args:
        scales: factors on the picture; a window is taken at that at which it is closest to
            224 × 224 pixels.
        head_channels: width of fc6 and fc7.
        dropout: behind fc6 and fc7, in fine-tuning.
        train_backbone: fine-tune the convolutions too (the paper: false).
        kept_maps: MiB of memory for the maps of training images that frozen convolutions made; 0
            makes them anew in each epoch and stage.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        scales: Sequence[Positive] = (1.0,),
        head_channels: Count = 4096,
        dropout: Share = 0.5,
        train_backbone: bool = False,
        kept_maps: Natural = 1024,
        **settings: Any,
    ) -> None:
        self.fine_tuned = ("",) if train_backbone else ("tail.", "head.")
        (channels,) = _the_one_level(backbone)
        tail = PyramidLayers(channels, head_channels, dropout)
        super().__init__(backbone, classes, tail=tail, **settings)
        self.scales = checked(scales)
        self.kept = KeptMaps(0 if train_backbone else kept_maps * 2**20)

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(("4",))

    def features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        return at_fitting_scale(self.scales, images, rois, self._pooled)

    def learnt_features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        learns = any(p.requires_grad for p in self.backbone.parameters())
        if not self.kept.limit or (learns and torch.is_grad_enabled()):
            return self.features(images, rois)
        return at_fitting_scale(self.scales, images, rois, self._pooled_from_kept)

    def _pooled(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        (features,) = self.backbone(images).values()
        return self._from_windows(features, rois)

    def _pooled_from_kept(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        return self._from_windows(self.kept(self.backbone, images), rois)

    def _from_windows(self, features: Tensor, rois: list[Tensor]) -> Tensor:
        (stride,) = self.backbone.strides.values()
        cells = windows(torch.cat(rois), stride, *features.shape[2:])
        blocks = block_maxima(features, cells)
        found = [
            self.tail(spatial_pyramid(blocks, some, image))
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
