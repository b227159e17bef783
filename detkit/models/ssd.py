"""SSD, the single shot multibox detector (Liu et al. 2016, arXiv:1512.02325).

    300×300 ─▶ VGG-16 ─ conv4_3 ─▶ fc7 ─▶ conv8_2 ─▶ conv9_2 ─▶ conv10_2 ─▶ conv11_2
                          38²       19²      10²        5²          3²          1²
                           │         │        │         │           │           │      (figure 2)
                           └─────────┴────────┴─────────┴───────────┴───────────┴─▶ 8,732 default
                                                                        boxes ─▶ classes, offsets

SSD512 has another layer, conv12_2, and maps of 64², 32², 16², 8², 4², 2², 1². Default boxes, losses
and detections are in `heads.ssd_head`, the trunk in `backbones.vgg`: `vgg16_ssd`.

Shapes: B images, M maps, K classes.

Differs from the paper:
- each image's losses are divided by its own number of matched default boxes and averaged over the
  images; the paper divides those of the whole batch by that of the batch. Of one image a step both
  are the same, and processes can share a batch. An image without objects has loss 0, as there;
- default boxes are no larger than the image, as in torchvision (not so in the published code). From
  the first layer on that does not halve, cells are spread evenly over the image, as in that code;
- background in the padding of images of different sizes and inside crowds is not learnt; difficult
  objects are learnt like all others;
- conv4_3's map is normalised where the backbone does so (`vgg16_ssd`). On any other one its levels
  from stride 8 to 32 come first, and so many fewer layers are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, normalize, scaled
from detkit.errors import DetkitError, unknown
from detkit.models.heads.selection import Selection
from detkit.models.heads.ssd_head import SSDHead, box_scales, box_shapes, initialize
from detkit.models.model import Model, Wants, models
from detkit.predictions import Prediction
from detkit.ranges import Count, Positive, Share
from detkit.structures import Classes, Targets, full_sizes

RATIOS_300 = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
RATIOS_512 = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
LAYERS_300 = ("halve", "halve", "valid", "valid")  # conv8 … conv11
LAYERS_512 = ("halve", "halve", "halve", "halve", "last")  # conv8 … conv12
KINDS = {"halve": (3, 2, 1), "valid": (3, 1, 0), "last": (4, 1, 1)}  # kernel, stride, padding
WIDTHS = (512, 256)  # of conv8's map, and of those behind it


@models.register(
    "ssd512",
    defaults={
        "aspect_ratios": RATIOS_512,
        "layers": LAYERS_512,
        "smallest_scale": 0.15,
        "finest_scale": 0.07,
    },
)
@models.register("ssd300")
class SSD(Model):
    """Default boxes on maps of falling resolution, each classified and moved (section 2.1).

    Args:
        aspect_ratios: of each map's default boxes, width / height beside 1; each also the other way
            round. There are so many maps as lists: the backbone's levels, then added layers.
        layers: how each added one, from conv8 on, gets its map from the one before: "halve" (3×3,
            stride 2), "valid" (3×3 without padding), "last" (4×4, from two cells to one). With
            fewer maps, or more levels below, the first ones are left out.
        layer_width: multiplies the 512 and 256 channels of these layers.
        smallest_scale, largest_scale: sides of the default boxes of the second map and of the last,
            shares of the image's sides; evenly between them (equation 4).
        finest_scale: the same of the first map; null: `smallest_scale` is that of the first map.
        scales: instead of these three, that of each map and one beyond them, finest first.
            auto: spread over the sizes of the run's own boxes, before its first step.
        pos_iou: a default box is an object from this overlap on; beside it the best one of each.
        negatives: background boxes trained for each box that is an object, the hardest ones.
        class_weights: one weight per class in the class loss.
        score_thresh: detections score more than this.
        nms_iou: of two detections of a class that overlap by more the worse one goes.
        detections: at most, an image.

    Raises:
        DetkitError: the ratios do not match the maps, there is no such layer, or the class weights
            are not K.
    """

    task, needs = "detect", frozenset({"boxes"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        aspect_ratios: Sequence[Sequence[Positive]] = RATIOS_300,
        layers: Sequence[str] = LAYERS_300,
        layer_width: Positive = 1.0,
        smallest_scale: Positive = 0.2,
        largest_scale: Positive = 0.9,
        finest_scale: Positive | None = 0.1,
        scales: Sequence[Positive] | Literal["auto"] | None = None,
        pos_iou: Share = 0.5,
        negatives: Positive = 3.0,
        class_weights: Sequence[Positive] | None = None,
        score_thresh: Share = 0.01,
        nms_iou: Share = 0.45,
        detections: Count = 200,
    ) -> None:
        super().__init__(backbone, classes)
        self.strides = list(backbone.strides.values())
        self.kinds = added_layers(layers, len(aspect_ratios), len(self.strides))
        channels = list(backbone.channels.values())
        self.layers = nn.ModuleList()
        for place, kind in enumerate(self.kinds, len(layers) - len(self.kinds)):
            width = scaled(WIDTHS[min(place, 1)], layer_width)
            self.layers.append(AddedLayer(channels[-1], width, kind))
            channels.append(width)
        initialize(self.layers)
        if scales is None:
            rule = (smallest_scale, largest_scale, finest_scale)
            scales = box_scales(len(aspect_ratios), *rule)
        self.head = SSDHead(
            channels,
            box_shapes(numbers(scales, len(aspect_ratios)), aspect_ratios),
            len(classes),
            pos_iou=pos_iou,
            negatives=negatives,
            class_weights=class_weights,
            selection=Selection(score_thresh, nms_iou, detections),
        )

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(("3", "4", "5"))

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        if sizes is None:
            sizes = full_sizes(images)
        maps = list(self.backbone(normalize(images, self.mean_std, sizes)).values())
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return self.head(maps, self.steps(images, maps), sizes, targets)

    def steps(self, images: Tensor, maps: Sequence[Tensor]) -> list[tuple[float, float]]:
        """Pixels from cell to cell of each map, down and across.

        The stride, doubled by each layer that halves; from the first other one on the image is
        shared out evenly (64, 100 and 300 pixels of SSD300's last maps).
        """
        height, width = images.shape[2:]
        steps = [(float(stride), float(stride)) for stride in self.strides]
        even = False
        for kind, x in zip(self.kinds, maps[len(steps) :], strict=True):
            even = even or kind != "halve"
            down, across = steps[-1]
            whole = height / x.shape[2], width / x.shape[3]
            steps.append(whole if even else (2 * down, 2 * across))
        return steps


class AddedLayer(nn.Sequential):
    """A 1×1 convolution to half the channels and one of `KINDS`, each with a ReLU (figure 2)."""

    def __init__(self, taken: int, given: int, kind: str) -> None:
        kernel, stride, padding = KINDS[kind]
        self.least = kernel - 2 * padding
        super().__init__(
            nn.Conv2d(taken, given // 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(given // 2, given, kernel, stride, padding),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the next map; one that is smaller than the kernel is padded to it."""
        height, width = x.shape[2:]
        missing = (0, max(0, self.least - width), 0, max(0, self.least - height))
        return super().forward(F.pad(x, missing) if any(missing) else x)


def numbers(scales: Sequence[float] | str, maps: int) -> Sequence[float]:
    """The scales, if they fit.

    Raises:
        DetkitError: they are no numbers yet, or not one a map and another.
    """
    if isinstance(scales, str):
        raise DetkitError(
            f"Scales are numbers here, not {scales}.",
            record="model.scales",
            remedy="a training run finds them by itself; write numbers elsewhere.",
        )
    if len(scales) != maps + 1:
        raise DetkitError(
            f"{len(scales)} scales for {maps} maps.",
            record="model.scales",
            remedy=f"give {maps + 1}: one a map, and one beyond them.",
        )
    return scales


def added_layers(layers: Sequence[str], maps: int, levels: int) -> list[str]:
    """The last ones of `layers`, so many as there are maps beyond the backbone's levels.

    Raises:
        DetkitError: there are not so many, more levels than maps, or a layer of another kind.
    """
    for kind in layers:
        if kind not in KINDS:
            raise unknown("kind of layer", kind, KINDS)
    if not levels <= maps <= levels + len(layers):
        raise DetkitError(
            f"{maps} lists of aspect ratios, but {levels} levels of the backbone and up to"
            f" {len(layers)} layers beyond them.",
            record="model.aspect_ratios",
            remedy=f"give {levels} to {levels + len(layers)} lists, or other model.layers"
            " or backbone.levels.",
        )
    return list(layers[len(layers) - (maps - levels) :])
