"""The RoI head of Fast and Faster R-CNN: an extractor and a predictor for each proposal.

    proposals ─▶ extractor (pool, tail) ─▶ features ─▶ predictor ─▶ a score a class, a box a class

Shapes: B images, P proposals an image, S of them sampled, R RoIs of the batch, C features, K
classes (background is index K).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, Tail
from detkit.errors import DetkitError, unknown
from detkit.models.heads.matching import (
    IGNORED,
    SMOOTH_L1_BETA,
    gather_targets,
    match_image,
    sample,
)
from detkit.models.heads.selection import Selection, boxes_of
from detkit.models.model import weights_of_classes
from detkit.ops.boxes import BoxCoder
from detkit.ops.roi_pool import pool_rois
from detkit.predictions import Detections
from detkit.structures import Targets

COARSEST_ROI_LEVEL = 5  # levels beyond it serve the RPN alone (FPN, section 4.1)


@dataclass(frozen=True)
class RoIRules:
    """Which proposals are trained.

    Attributes:
        pos_iou: overlap from which a proposal is an object; below it is background.
        number: proposals sampled of each image.
        positive_fraction: of them objects at most.
        least_iou: background overlaps an object at least so much (Fast R-CNN, section 2.3: 0.1).
    """

    pos_iou: float
    number: int
    positive_fraction: float
    least_iou: float = 0.0


class Samples(NamedTuple):
    """The RoIs that are trained.

    Attributes:
        rois: (B, S, 4) xyxy, pixels of the network's image.
        matched: (B, S) int64, the object of each, −1 background.
        valid: (B, S) bool, which were really drawn.
    """

    rois: Tensor
    matched: Tensor
    valid: Tensor


class TwoLayers(Tail):
    """Two fully connected layers on the flattened RoI (FPN, section 4.2)."""

    def __init__(self, in_channels: int, size: int = 7, channels: int = 1024) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.fc6 = nn.Linear(in_channels * size * size, channels)
        self.fc7 = nn.Linear(channels, channels)

    def forward(self, rois: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(rois.flatten(1)))))


class Pooled(nn.Module):
    """The extractor of Fast R-CNN: each RoI is pooled from the maps and goes through a tail.

    Args:
        tail: it says how large it wants an RoI.
        levels: logarithms of the strides of the maps that RoIs are pooled from: the first ones.
        pooling: "align" (RoIAlign) or "pool" (RoIPool).
    Raises:
        DetkitError: another way of pooling.
    """

    def __init__(self, tail: Tail, levels: Sequence[int], pooling: str = "align") -> None:
        super().__init__()
        if pooling not in ("align", "pool"):
            raise unknown("way of RoI pooling", pooling, ("align", "pool"))
        self.tail, self.levels, self.pooling = tail, tuple(levels), pooling
        self.channels = tail.channels

    def forward(self, images: Tensor, maps: list[Tensor], rois: Tensor, image: Tensor) -> Tensor:
        """
        Args:
            images: (B, C, H, W), normalised; not looked at here.
            maps: one a level, finest first.
            rois: (R, 4) xyxy, pixels of the network's image.
            image: (R,) int64, the image of each.
        Returns:
            (R, channels).
        """
        maps = maps[: len(self.levels)]
        return self.tail(
            pool_rois(maps, self.levels, rois, image, self.tail.size, mode=self.pooling)
        )


class SoftmaxBoxes(nn.Module):
    """The predictor of Fast R-CNN: K + 1 logits, and four deltas for each class or for all.

    Args:
        channels: of the features.
        num_classes: K, without the background.
        class_agnostic: four deltas for all classes instead of four for each.
        class_weights: weight of each class in the class loss; the background's is 1.
    Raises:
        DetkitError: class weights that are not K.
    """

    class_weights: Tensor

    def __init__(
        self,
        channels: int,
        num_classes: int,
        class_agnostic: bool = False,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.box_coder = BoxCoder((10.0, 5.0))
        weights = torch.cat([weights_of_classes(class_weights, num_classes), torch.ones(1)])
        self.register_buffer("class_weights", weights, persistent=False)
        self.logits = nn.Linear(channels, num_classes + 1)
        self.deltas = nn.Linear(channels, 4 * (1 if class_agnostic else num_classes))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C) → logits (R, K + 1), deltas (R, K or 1, 4), float32."""
        deltas = self.deltas(features)
        return self.logits(features).float(), deltas.float().unflatten(1, (-1, 4))

    def scored(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C) → scores (R, K) of the classes without the background, deltas (R, K or 1, 4)."""
        logits, deltas = self(features)
        return self.scores(features, logits), deltas

    def scores(self, features: Tensor, logits: Tensor) -> Tensor:
        """(R, K) of the features and what `forward` made of them."""
        return logits.softmax(-1)[:, : self.num_classes]

    def losses(
        self, logits: Tensor, deltas: Tensor, samples: Samples, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Fast R-CNN, equation 1, averaged over the RoIs of each image, then over the images.

        Args:
            logits: (B·S, K + 1).
            deltas: (B·S, K or 1, 4).
        """
        rois, matched, valid = samples
        share = valid / (valid.sum(1, keepdim=True).clamp(min=1) * len(rois))
        is_object = (matched >= 0) & valid
        boxes, labels = gather_targets(targets, matched)
        wanted_class = torch.where(is_object, labels, self.num_classes).flatten()
        classes = F.cross_entropy(logits, wanted_class, self.class_weights, reduction="none")
        which = torch.where(is_object, labels, 0).flatten() if deltas.shape[1] > 1 else 0
        predicted = deltas[torch.arange(len(deltas), device=deltas.device), which]
        wanted = self.box_coder.encode(
            torch.where(is_object[..., None], boxes, _unit(rois)), _unit(rois)
        )
        offset = F.smooth_l1_loss(
            predicted, wanted.flatten(0, 1), beta=SMOOTH_L1_BETA, reduction="none"
        ).sum(-1)
        return {
            "head_class": (classes * share.flatten()).sum(),
            "head_box": (offset * (share * is_object).flatten()).sum(),
        }


class BoxHead(nn.Module):
    """Sampling, extractor, predictor; or extractor, predictor, selection.

    Args:
        extractor: (images, maps, rois, image) → (R, C): `Pooled`.
        predictor: (R, C) → scores and deltas: `SoftmaxBoxes`.
        rules: which proposals are trained.
        selection: which scored boxes are detections.
    """

    def __init__(
        self, extractor: Pooled, predictor: SoftmaxBoxes, rules: RoIRules, selection: Selection
    ) -> None:
        super().__init__()
        self.extractor, self.predictor = extractor, predictor
        self.rules, self.selection = rules, selection

    def forward(
        self,
        images: Tensor,
        maps: list[Tensor],
        proposals: list[Tensor],
        sizes: Tensor,
        targets: list[Targets] | None = None,
    ) -> tuple[list[Detections] | Samples, dict[str, Tensor]]:
        """Detections of each image; with targets what was sampled, and two losses."""
        if targets is None:
            scored = self.predictor.scored(self.features(images, maps, proposals))
            return self.detect(*scored, proposals, sizes), {}
        samples = self.choose(proposals, targets)
        logits, deltas = self.predictor(self.features(images, maps, [*samples.rois]))
        return samples, self.predictor.losses(logits, deltas, samples, targets)

    def features(self, images: Tensor, maps: list[Tensor], rois: list[Tensor]) -> Tensor:
        """(R, C) of the RoIs of all images, one image's after the other's."""
        return self.extractor(images, maps, torch.cat(rois), image_numbers(rois))

    @torch.no_grad()
    def choose(self, proposals: list[Tensor], targets: list[Targets]) -> Samples:
        """The RoIs to train on, drawn from the proposals and the ground truth itself."""
        padded, matched = offered(proposals, targets, self.rules)
        index, valid = sample(matched, self.rules.number, self.rules.positive_fraction)
        rois = padded.gather(1, index[..., None].expand(-1, -1, 4))
        return Samples(rois, matched.gather(1, index), valid)

    def detect(
        self, scores: Tensor, deltas: Tensor, proposals: list[Tensor], sizes: Tensor
    ) -> list[Detections]:
        """Decode, cut at the border, NMS class by class, the best of the image.

        Args:
            scores: (R, K). deltas: (R, K or 1, 4).
        """
        return boxes_of(scores, deltas, proposals, sizes, self.predictor.box_coder, self.selection)


def image_numbers(rois: list[Tensor]) -> Tensor:
    """(R,) int64, which image each RoI of `torch.cat(rois)` is of."""
    return torch.cat([boxes.new_full((len(boxes),), i).long() for i, boxes in enumerate(rois)])


def offered(
    proposals: list[Tensor], targets: list[Targets], rules: RoIRules
) -> tuple[Tensor, Tensor]:
    """What may be trained on: the proposals and the ground truth itself, with what they are.

    Returns:
        rois: (B, P, 4), P at least 1, padded with zeros. matched: (B, P) int64, the object of each,
            −1 background, −2 what is left out.
    """
    # a crowd's own box lies in that crowd, so that it counts as ignored
    boxes_of_images = [torch.cat([p, t.boxes]) for p, t in zip(proposals, targets, strict=True)]
    padded = nn.utils.rnn.pad_sequence(boxes_of_images, batch_first=True)
    matched = torch.full(padded.shape[:2], IGNORED, device=padded.device)
    pos_iou, least = rules.pos_iou, rules.least_iou
    for row, boxes, t in zip(matched, boxes_of_images, targets, strict=True):
        row[: len(boxes)] = match_image(boxes, t, pos_iou, pos_iou, least_iou=least)
    if padded.shape[1] == 0:  # nothing was proposed and nothing is there
        count = len(targets)
        return padded.new_zeros(count, 1, 4), matched.new_full((count, 1), IGNORED)
    return padded, matched


def box_head(
    backbone: Backbone,
    tail: Tail | None,
    num_classes: int,
    rules: RoIRules,
    selection: Selection,
    *,
    pooling: str,
    class_agnostic: bool,
    head_channels: int,
    class_weights: Sequence[float] | None,
    predictor: type[SoftmaxBoxes] = SoftmaxBoxes,
) -> BoxHead:
    """The head of Fast and Faster R-CNN on a backbone: `Pooled` and a predictor.

    Args:
        tail: the upper stages behind level 4; None behind a pyramid, which gets `TwoLayers` of
            `head_channels`.
    Raises:
        DetkitError: levels, a way of pooling or class weights that do not fit.
    """
    levels = roi_levels(backbone, tail)
    tail = tail or TwoLayers(next(iter(backbone.channels.values())), channels=head_channels)
    made = predictor(tail.channels, num_classes, class_agnostic, class_weights)
    return BoxHead(Pooled(tail, levels, pooling), made, rules, selection)


def roi_levels(backbone: Backbone, tail: Tail | None) -> list[int]:
    """The levels that RoIs are pooled from.

    Raises:
        DetkitError: there is none, or it is not the one that the tail follows.
    """
    if tail is not None and list(backbone.channels) != ["4"]:
        asked = ", ".join(backbone.channels)
        raise DetkitError(
            f"The upper stages that are the head follow level 4, not {asked}.",
            remedy="leave backbone.levels out, or choose a backbone with _fpn behind its name.",
        )
    levels = [int(level) for level in backbone.strides if int(level) <= COARSEST_ROI_LEVEL]
    if not levels:
        raise DetkitError(
            f"RoIs are pooled from the levels up to {COARSEST_ROI_LEVEL}, and there is none.",
            remedy="add one to backbone.levels, such as [4,5,6].",
        )
    return levels


def _unit(rois: Tensor) -> Tensor:
    """The RoIs, at least 0.01 pixels wide: padding and slivers must not divide by zero."""
    return torch.cat([rois[..., :2], torch.maximum(rois[..., 2:], rois[..., :2] + 1e-2)], dim=-1)
