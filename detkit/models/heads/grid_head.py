"""What the YOLOs do with the maps of their last convolutions: rows, losses, detections.

    maps (B, A·(5 + K), H, W) ─▶ rows (B, P, 5 + K) ─┬─▶ losses of the predictors that answer
                                                     └─▶ boxes, scores, NMS

It has no parameters: a network that brings its own convolutions (Darknet's cfg files) needs only
this above them.

Shapes: B images, L levels, A anchors a level, (H, W) cells, P = Σ H·W·A predictors, N objects of
the whole batch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from detkit.errors import DetkitError
from detkit.models.heads.selection import Selection
from detkit.models.model import weights_of_classes
from detkit.ops import grid
from detkit.ops.boxes import clip, detections_of, overlap, sides_at_least
from detkit.predictions import Detections, Prediction
from detkit.ranges import Positive
from detkit.structures import Targets

Anchors = Sequence[Sequence[Positive]] | Literal["auto"]  # widths and heights, pixels
BoxLoss = Literal["offsets", "ciou"]  # the papers', and Zheng et al. 2020's
CANDIDATES = 1000  # predictors of an image that enter NMS, the best ones


@dataclass(frozen=True)
class LossWeights:
    """Factors of the losses: of boxes, of predictors with an object and without one, of classes."""

    box: float = 1.0
    no_object: float = 1.0
    object: float = 1.0
    classes: float = 1.0


class GridHead(nn.Module):
    """YOLOv3's rules (Redmon, Farhadi 2018, section 2); see `models.yolo_v3` for the differences.

    `region_head` has YOLOv2's and `tree_head` YOLO9000's, which differ in `class_loss`,
    `class_scores` and `wanted_objectness`.

    Args:
        anchors: (A, 2) float32 of each level, widths and heights, pixels of the network's image.
        strides: of the levels, finest first.
        num_classes: K.
        ignore_iou: a predictor that no object chose is no mistake above this IoU with any object.
        class_weights: weight of each class in the class loss.
        selection: what is kept of the predictions; NMS is per class.
        weights: factors of the losses.
        scales: of the levels, as for `ops.grid.grid`.
        box_loss: "offsets", of the four numbers by themselves, or "ciou", of the box.
    Raises:
        DetkitError: the class weights are not K.
    """

    all_anchors: Tensor
    class_weights: Tensor

    def __init__(
        self,
        anchors: Sequence[Tensor] | Tensor,
        strides: Sequence[int],
        num_classes: int,
        *,
        ignore_iou: float,
        class_weights: Sequence[float] | None,
        selection: Selection,
        weights: LossWeights = LossWeights(),
        scales: Sequence[float] | None = None,
        box_loss: BoxLoss = "offsets",
    ) -> None:
        super().__init__()
        self.strides, self.num_classes = tuple(strides), num_classes
        self.ignore_iou, self.selection, self.weights = ignore_iou, selection, weights
        self.box_loss = box_loss
        self.counts = [len(level) for level in anchors]
        self.scales = [1.0] * len(self.counts) if scales is None else list(scales)
        self.register_buffer("all_anchors", torch.cat(list(anchors)), persistent=False)
        self.register_buffer(
            "class_weights", weights_of_classes(class_weights, num_classes), persistent=False
        )

    @property
    def anchors(self) -> Sequence[Tensor]:
        """(A, 2) of each level."""
        return self.all_anchors.split(self.counts)

    def anchor_sizes(self, size: tuple[int, int]) -> Tensor:
        """(A of all levels, 2) widths and heights of its anchors, whatever the image's size."""
        return self.all_anchors

    def forward(
        self, outputs: list[Tensor], sizes: Tensor, targets: list[Targets] | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        """
        Args:
            outputs: (B, A·(5 + K), H, W) of each level, finest first.
            sizes: (B, 2) height and width of each image without its padding.
        Returns:
            The losses `box`, `objectness` and `classes`; without targets detections.
        """
        shapes = [(output.shape[2], output.shape[3]) for output in outputs]
        places = grid.grid(shapes, self.strides, self.anchors, self.scales)
        logits = torch.cat([self.rows(output) for output in outputs], 1)
        if targets is None:
            return self.detections(logits, places, sizes)
        boxes = torch.cat([target.boxes for target in targets])
        chosen = grid.responsible(boxes, shapes, self.strides, self.anchors)
        return self.losses(logits, places, chosen, targets, sizes)

    def rows(self, output: Tensor) -> Tensor:
        """(B, A·(5 + K), H, W) → (B, H·W·A, 5 + K) float32, the order of `ops.grid`."""
        return output.float().permute(0, 2, 3, 1).reshape(len(output), -1, 5 + self.num_classes)

    def losses(
        self,
        logits: Tensor,
        places: grid.Grid,
        chosen: Tensor,
        targets: list[Targets],
        sizes: Tensor,
    ) -> dict[str, Tensor]:
        """Sections 2.1 and 2.2: squared errors of the size, cross-entropies of all the rest.

        With `box_loss` "ciou" boxes have that loss, which needs no weight for small ones.

        Args:
            logits: (B, P, 5 + K) float32.
            chosen: (N,) the predictor that answers for each object, a place in its image's row.
        """
        count, predictors = logits.shape[:2]
        of, boxes, labels, crowd = objects_of(targets)
        position = of * predictors + chosen
        learnt, owned = winners(position, crowd, count * predictors)
        objects = logits.new_zeros(count).index_add(0, of, learnt.float())
        share = 1 / (objects.clamp(min=1) * count)  # (B,) weight of a term of each image

        predicted, at = logits[of, chosen], places.at(chosen)
        if self.box_loss == "ciou":
            box = ciou_loss(predicted[:, :4], at, boxes)
        else:
            area = (boxes[:, 2:] - boxes[:, :2]).prod(1) / sizes[of].prod(1)
            box = (2 - area) * box_loss(predicted[:, :4], grid.encode(boxes, at))
        classes = self.class_weights[labels] * self.class_loss(predicted[:, 5:], labels)

        sure = self.wanted_objectness(predicted.detach(), at, boxes) * learnt
        wanted = logits.new_zeros(count * predictors).scatter_reduce(0, position, sure, "amax")
        owned = owned.reshape(count, predictors)
        silent = ~owned & ~self.ignored(logits, places, targets, sizes)
        factor = self.weights.object * owned + self.weights.no_object * silent
        objectness = F.binary_cross_entropy_with_logits(
            logits[..., 4], wanted.reshape(count, predictors), reduction="none"
        )
        return {
            "box": self.weights.box * (box * learnt * share[of]).sum(),
            "objectness": ((objectness * factor).sum(1) * share).sum(),
            "classes": self.weights.classes * (classes * learnt * share[of]).sum(),
        }

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N, K), (N,) → (N,): each class is right or wrong by itself."""
        wanted = F.one_hot(labels, self.num_classes).float()
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)

    def class_scores(self, logits: Tensor) -> Tensor:
        """(…, K) logits → P(class | object)."""
        return logits.sigmoid()

    def wanted_objectness(self, predicted: Tensor, places: grid.Grid, boxes: Tensor) -> Tensor:
        """(N,) 0 … 1, the objectness that the predictors of N objects should have."""
        return torch.ones_like(predicted[:, 4])

    @torch.no_grad()
    def ignored(
        self, logits: Tensor, places: grid.Grid, targets: list[Targets], sizes: Tensor
    ) -> Tensor:
        """(B, P) bool: predictors that see an object or crowd, and those in the padding."""
        boxes = grid.decode(logits[..., :4], places)
        ignored = (places.corners >= sizes.flip(1)[:, None]).any(-1)
        for i, target in enumerate(targets):  # all pairs of a whole batch would not fit
            if len(target):
                covered = overlap(boxes[i], target.boxes, target.crowd).amax(1)
                ignored[i] |= covered > self.ignore_iou
        return ignored

    def detections(self, logits: Tensor, places: grid.Grid, sizes: Tensor) -> list[Prediction]:
        """Boxes inside the images, scored P(object)·P(class | object), per-class NMS."""
        boxes = clip(grid.decode(logits[..., :4], places), sizes)
        scores = logits[..., 4:5].sigmoid() * self.class_scores(logits[..., 5:])
        scores = scores * sides_at_least(boxes, 1e-3)[..., None]  # nothing is left in the padding
        best = scores.amax(2).topk(min(CANDIDATES, scores.shape[1])).indices
        rule = (self.selection.score_thresh, self.selection.nms_iou, self.selection.at_most)
        return [
            Detections(*detections_of(b[i, None], s[i], *rule))
            for b, s, i in zip(boxes, scores, best, strict=True)
        ]


def box_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """(N, 4) logits, (N, 4) of `grid.encode` → (N,): cross-entropies of the centre, squared errors
    of the size.
    """
    centre = F.binary_cross_entropy_with_logits(predicted[:, :2], wanted[:, :2], reduction="none")
    size = (predicted[:, 2:] - wanted[:, 2:]) ** 2 / 2
    return (centre + size).sum(1)


def ciou_loss(predicted: Tensor, places: grid.Grid, boxes: Tensor) -> Tensor:
    """1 − IoU, the distance of the centres and the difference of the shapes (Zheng et al. 2020,
    arXiv:1911.08287, equations 10 and 11).

    Args:
        predicted: (N, 4) logits of the predictors at `places`.
        boxes: (N, 4) xyxy, pixels; a side below a pixel counts as one, so that shapes have a slope.
    Returns:
        (N,).
    """
    sizes = predicted[:, 2:].clamp(min=-grid.LARGEST)  # a side of 0 has no shape
    found = grid.decode(torch.cat([predicted[:, :2], sizes], 1), places)
    corners, sides = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    wanted = torch.cat([corners, corners + sides], 1)
    return complete_box_iou_loss(found, wanted, reduction="none")


def anchors_of_levels(anchors: Anchors, levels: int) -> Tensor:
    """Anchors → (L, A, 2) float32, the smallest ones for the finest level.

    Raises:
        DetkitError: they cannot be shared out evenly, or one is no width and height.
    """
    if isinstance(anchors, str):
        raise DetkitError(
            f"Anchors are numbers here, not {anchors}.",
            record="model.anchors",
            remedy="a training run finds them by itself; detkit anchors prints them.",
        )
    sizes = [tuple(map(float, anchor)) for anchor in anchors]
    if not levels or not sizes or len(sizes) % levels:
        raise DetkitError(
            f"{len(sizes)} anchors cannot be shared out over {levels} levels.",
            record="model.anchors",
            remedy=f"give a multiple of {levels}." if levels else "choose another backbone.",
        )
    if any(len(size) != 2 or min(size) <= 0 for size in sizes):
        raise DetkitError(
            "An anchor is not a width and a height above 0.",
            record="model.anchors",
            remedy="write them as [[10, 13], [16, 30], …], in pixels.",
        )
    ordered = torch.tensor(sorted(sizes, key=math.prod))
    return ordered.reshape(levels, -1, 2)


class Objects(NamedTuple):
    """N objects of all images, image by image.

    Attributes:
        image: (N,) int64, the image of each.
        boxes: (N, 4) float32, xyxy, pixels of the network's image.
        labels: (N,) int64.
        crowd: (N,) bool.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor


def objects_of(targets: Sequence[Targets]) -> Objects:
    """Those of a batch, also where nothing says which of them are crowds."""
    images = [torch.full_like(target.labels, i) for i, target in enumerate(targets)]
    crowds = [
        torch.zeros_like(t.labels, dtype=torch.bool) if t.crowd is None else t.crowd
        for t in targets
    ]
    boxes, labels = [t.boxes for t in targets], [t.labels for t in targets]
    return Objects(torch.cat(images), torch.cat(boxes), torch.cat(labels), torch.cat(crowds))


def winners(position: Tensor, crowd: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """Who learns where several objects ask for one place: the first one that is no crowd.

    Returns:
        (N,) bool, the objects that are learnt; (places,) bool, the places that have one.
    """
    number = torch.arange(len(position), device=position.device)
    nobody = len(position)
    owner = torch.full((places,), nobody, device=position.device).scatter_reduce(
        0, position, number.masked_fill(crowd, nobody), "amin"
    )
    return (owner[position] == number) & ~crowd, owner < nobody
