"""SSD's head: default boxes, matching, mined losses, detections (Liu et al. 2016, section 2).

    map ─▶ 3×3 convolutions ─▶ (K + 1 logits, 4 deltas) × A ─┬─▶ matched and hardest ones: losses
                                                             └─▶ boxes, scores, NMS

Shapes: B images, M maps, A default boxes a cell of a map, (H, W) cells, P default boxes of all
maps, N objects of an image, K classes (background is index K).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.models.heads.matching import BACKGROUND, IGNORED, gather_targets, match_image
from detkit.models.heads.selection import Selection
from detkit.models.model import weights_of_classes
from detkit.ops.boxes import BoxCoder, clip, detections_of, overlap, sides_at_least
from detkit.predictions import Detections, Prediction
from detkit.structures import Targets

VARIANCES = (0.1, 0.2)  # of the deltas of centre and size, in the published code
CANDIDATES = 400  # boxes of a class that enter NMS, the best ones
MIN_SIDE = 1e-3  # pixels; a narrower box is no detection


class SSDHead(nn.Module):
    """A convolution for the classes and one for the boxes of each map (section 2.1).

    Args:
        channels: of the maps, finest first.
        shapes: (A, 2) of each map, from `box_shapes`.
        num_classes: K.
        pos_iou: overlap from which a default box is an object, beside the best one of each object.
        negatives: background boxes that are trained for each box that is an object.
        class_weights: weight of each class in the class loss; the background's is 1.
        selection: what is kept of the boxes; NMS is per class.
    Raises:
        DetkitError: the class weights are not K.
    """

    shapes: Tensor
    class_weights: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        shapes: Sequence[Tensor],
        num_classes: int,
        *,
        pos_iou: float,
        negatives: float,
        class_weights: Sequence[float] | None,
        selection: Selection,
    ) -> None:
        super().__init__()
        self.num_classes, self.pos_iou, self.negatives = num_classes, pos_iou, negatives
        self.selection = selection
        self.box_coder = BoxCoder((1 / VARIANCES[0], 1 / VARIANCES[1]))
        self.per_cell = [len(s) for s in shapes]
        self.register_buffer("shapes", torch.cat(list(shapes)), persistent=False)  # (ΣA, 2)
        weights = torch.cat([weights_of_classes(class_weights, num_classes), torch.ones(1)])
        self.register_buffer("class_weights", weights, persistent=False)
        self.logits, self.deltas = (
            nn.ModuleList(
                nn.Conv2d(width, a * numbers, 3, padding=1)
                for width, a in zip(channels, self.per_cell, strict=True)
            )
            for numbers in (num_classes + 1, 4)
        )
        initialize(self)

    def forward(
        self,
        maps: Sequence[Tensor],
        steps: Sequence[tuple[float, float]],
        sizes: Tensor,
        targets: list[Targets] | None = None,
    ) -> dict[str, Tensor] | list[Prediction]:
        """
        Args:
            maps: (B, C, H, W) of each map, finest first.
            steps: pixels from cell to cell of each map, down and across.
            sizes: (B, 2) height and width of each image without its padding.
        Returns:
            The losses `classes` and `box`; without targets detections.
        """
        logits, deltas = self.predict(maps)
        shapes = self.shapes.split(self.per_cell)
        grids = [(m.shape[2], m.shape[3]) for m in maps]
        centres, sides = default_boxes(shapes, grids, steps)
        anchors = boxes_in_images(centres, sides, sizes)
        if targets is None:
            return self.detections(logits, deltas, anchors, sizes)
        with torch.no_grad():
            matched = self.match(anchors, centres, sizes, targets)
        return self.losses(logits, deltas, anchors, matched, targets)

    def anchor_sizes(self, size: tuple[int, int]) -> Tensor:
        """(ΣA, 2) widths and heights of its default boxes in an image of (height, width)."""
        return self.shapes * self.shapes.new_tensor(size).flip(0)

    def predict(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) of each map → logits (B, P, K + 1), deltas (B, P, 4), float32."""
        rows = [
            (rows_of(to_logits(x), self.num_classes + 1), rows_of(to_deltas(x), 4))
            for to_logits, to_deltas, x in zip(self.logits, self.deltas, maps, strict=True)
        ]
        return torch.cat([row for row, _ in rows], 1), torch.cat([row for _, row in rows], 1)

    def match(
        self, anchors: Tensor, centres: Tensor, sizes: Tensor, targets: list[Targets]
    ) -> Tensor:
        """(B, P) int64: the object that each default box answers for, −1 background, −2 ignored.

        Ignored is background inside a crowd, and in the batch's padding.
        """
        matched = torch.stack(
            [match_boxes(a, t, self.pos_iou) for a, t in zip(anchors, targets, strict=True)]
        )
        padding = (centres.flip(1) > sizes[:, None]).any(-1)
        return torch.where(padding & (matched == BACKGROUND), IGNORED, matched)

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        matched: Tensor,
        targets: list[Targets],
    ) -> dict[str, Tensor]:
        """Equations 1 to 3, with α = 1, of each image; then averaged over the images.

        Args:
            logits: (B, P, K + 1). deltas: (B, P, 4). anchors: (B, P, 4). matched: (B, P).
        """
        is_object = matched >= 0
        boxes, labels = gather_targets(targets, matched)
        wanted_class = torch.where(is_object, labels, self.num_classes)
        classes = F.cross_entropy(
            logits.flatten(0, 1), wanted_class.flatten(), self.class_weights, reduction="none"
        ).unflatten(0, matched.shape)
        counted = is_object | hardest(classes.detach(), matched, self.negatives)
        wanted = self.box_coder.encode(torch.where(is_object[..., None], boxes, anchors), anchors)
        offset = F.smooth_l1_loss(deltas, wanted, reduction="none").sum(-1)
        objects = is_object.sum(1, keepdim=True)
        share = 1 / (objects.clamp(min=1) * len(targets))  # without a match the loss is 0
        return {
            "classes": (classes * counted * share).sum(),
            "box": (offset * is_object * share).sum(),
        }

    def detections(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, sizes: Tensor
    ) -> list[Prediction]:
        """Softmax scores, boxes inside the images, the best of each class, NMS (section 3.7)."""
        boxes = clip(self.box_coder.decode(deltas, anchors), sizes)
        scores = logits.softmax(-1)[..., : self.num_classes]
        scores = scores * sides_at_least(boxes, MIN_SIDE)[..., None]  # nothing is in the padding
        best = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
        scores = torch.zeros_like(scores).scatter(1, best.indices, best.values)
        rule = (self.selection.score_thresh, self.selection.nms_iou, self.selection.at_most)
        return [
            Detections(*detections_of(b[:, None], s, *rule))
            for b, s in zip(boxes, scores, strict=True)
        ]


def box_scales(maps: int, smallest: float, largest: float, finest: float | None) -> list[float]:
    """The scale of each map's default boxes, and one beyond the last (section 2.2, equation 4).

    Even steps of whole percents, as in the published code.

    Args:
        maps: M.
        smallest, largest: shares of the image's side, of the first map and the last.
        finest: the first map's own scale, in front of `smallest` (section 3.1); None: `smallest`.
    Returns:
        M + 1 numbers: `s'` of a map is the geometric mean of its own scale and the next one.
    """
    even = maps if finest is None else maps - 1
    low, high = round(100 * smallest), round(100 * largest)
    step = (high - low) // max(1, even - 1)
    scales = [(low + step * k) / 100 for k in range(even + 1)]
    return scales if finest is None else [finest, *scales]


def box_shapes(scales: Sequence[float], ratios: Sequence[Sequence[float]]) -> list[Tensor]:
    """Widths and heights of each map's default boxes, at most the whole image.

    Args:
        scales: M + 1, of `box_scales`.
        ratios: of each map, width / height beside 1; each also the other way round.
    Returns:
        (2 + 2·len(ratios), 2) float32 of each map, shares of the image's width and height: the
        square, the larger square, then each ratio and its inverse.
    """
    shapes = []
    for k, own in enumerate(ratios):
        scale, larger = scales[k], math.sqrt(scales[k] * scales[k + 1])
        sides = [(scale, scale), (larger, larger)]
        for ratio in own:
            long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            sides += [(long, short), (short, long)]
        shapes.append(torch.tensor(sides, dtype=torch.float32).clamp(max=1))
    return shapes


def default_boxes(
    shapes: Sequence[Tensor],
    grids: Sequence[tuple[int, int]],
    steps: Sequence[tuple[float, float]],
) -> tuple[Tensor, Tensor]:
    """All default boxes: map by map, row by row, the shapes of a cell side by side.

    Args:
        shapes: (A, 2) of each map.
        grids: (H, W) of each map.
        steps: pixels from cell to cell of each map, down and across.
    Returns:
        centres: (P, 2) x and y, pixels of the network's image.
        sides: (P, 2) width and height, shares of the image's.
    """
    centres, sides = [], []
    for own, (rows, columns), (down, across) in zip(shapes, grids, steps, strict=True):
        y = (torch.arange(rows, device=own.device, dtype=own.dtype) + 0.5) * down
        x = (torch.arange(columns, device=own.device, dtype=own.dtype) + 0.5) * across
        y, x = torch.meshgrid(y, x, indexing="ij")
        cells = torch.stack([x, y], -1).reshape(-1, 1, 2)
        centres.append(cells.expand(-1, len(own), -1).reshape(-1, 2))
        sides.append(own.expand(len(cells), -1, -1).reshape(-1, 2))
    return torch.cat(centres), torch.cat(sides)


def boxes_in_images(centres: Tensor, sides: Tensor, sizes: Tensor) -> Tensor:
    """(P, 2) centres and sides of `default_boxes`, (B, 2) sizes → (B, P, 4) xyxy, pixels."""
    half = sides * sizes.flip(1)[:, None] / 2
    return torch.cat([centres - half, centres + half], -1)


def match_boxes(anchors: Tensor, targets: Targets, pos_iou: float) -> Tensor:
    """(P,) int64: which object each default box answers for (section 2.2, matching strategy).

    Each object gets the default box that it overlaps most, the best pair of all first, so that no
    two objects share one; any other default box answers for the object that it overlaps most, from
    `pos_iou` on.

    Args:
        anchors: (P, 4) xyxy.
    Returns:
        The object, −1 background, −2 background inside a crowd.
    """
    matched = match_image(anchors, targets, pos_iou, pos_iou)
    iou = overlap(anchors, targets.boxes)
    if targets.crowd is not None:
        iou = iou * ~targets.crowd
    for _ in range(len(targets)):
        pair = iou.argmax()[None]  # of one element: a number would wait for the GPU
        anchor, best = pair // len(targets), pair % len(targets)
        matched[anchor] = torch.where(iou.flatten()[pair] > 0, best, matched[anchor])
        iou[anchor], iou[:, best] = 0, 0
    return matched


def hardest(losses: Tensor, matched: Tensor, negatives: float) -> Tensor:
    """(B, P) bool: the background of largest loss, so many for each object's box (section 2.2).

    Args:
        losses: (B, P) of the classes. matched: (B, P).
    """
    background = matched == BACKGROUND
    most = negatives * (matched >= 0).sum(1, keepdim=True)
    order = torch.where(background, losses, -1).argsort(1, descending=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return background & (rank < most)


def initialize(module: nn.Module) -> None:
    """Glorot and Bengio's start ("xavier") of what SSD adds to its backbone, biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def rows_of(output: Tensor, numbers: int) -> Tensor:
    """(B, A·numbers, H, W) → (B, H·W·A, numbers) float32, the order of `default_boxes`."""
    return output.float().permute(0, 2, 3, 1).reshape(len(output), -1, numbers)
