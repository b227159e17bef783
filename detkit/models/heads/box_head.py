"""The RoI head of Fast and Faster R-CNN: pooled features → a class and a box for each proposal.

Shapes: B images, P proposals an image, R RoIs of the batch, K classes (background is index K).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Tail
from detkit.errors import unknown
from detkit.models.heads.matching import (
    IGNORED,
    SMOOTH_L1_BETA,
    gather_targets,
    match_image,
    sample,
)
from detkit.models.model import weights_of_classes
from detkit.ops.boxes import BoxCoder, clip, detections_of, sides_at_least
from detkit.ops.roi_pool import pool_rois
from detkit.structures import Detections, Targets

MIN_SIDE = 1e-2  # pixels; a narrower box is no detection


@dataclass(frozen=True)
class RoIRules:
    """Which proposals are trained.

    Attributes:
        pos_iou: overlap from which a proposal is an object; below it is background.
        number: proposals sampled of each image.
        positive_fraction: of them objects at most.
    """

    pos_iou: float
    number: int
    positive_fraction: float


@dataclass(frozen=True)
class Selection:
    """Which scored boxes are detections.

    Attributes:
        score_thresh: those that score more.
        nms_iou: of two of a class that overlap by more, the worse one goes.
        at_most: so many of an image.
    """

    score_thresh: float
    nms_iou: float
    at_most: int


class TwoLayers(Tail):
    """Two fully connected layers on the flattened RoI (FPN, section 4.2)."""

    def __init__(self, in_channels: int, size: int = 7, channels: int = 1024) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.fc6 = nn.Linear(in_channels * size * size, channels)
        self.fc7 = nn.Linear(channels, channels)

    def forward(self, rois: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(rois.flatten(1)))))


class BoxHead(nn.Module):
    """Pool, a tail, and two linear layers: K + 1 logits, and four deltas for each class or for all.

    Args:
        tail: what each pooled RoI goes through; it says how large it wants it.
        levels: logarithms of the strides of the maps that RoIs are pooled from.
        num_classes: K, without the background.
        rules: which proposals are trained.
        selection: which scored boxes are detections.
        pooling: "align" (RoIAlign) or "pool" (RoIPool).
        class_agnostic: four deltas for all classes instead of four for each.
        class_weights: weight of each class in the class loss; the background's is 1.
    Raises:
        DetkitError: another way of pooling, or class weights that are not K.
    """

    class_weights: Tensor

    def __init__(
        self,
        tail: Tail,
        levels: Sequence[int],
        num_classes: int,
        rules: RoIRules,
        selection: Selection,
        pooling: str = "align",
        class_agnostic: bool = False,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("align", "pool"):
            raise unknown("way of RoI pooling", pooling, ("align", "pool"))
        self.tail, self.levels, self.num_classes = tail, tuple(levels), num_classes
        self.rules, self.selection, self.pooling = rules, selection, pooling
        self.box_coder = BoxCoder((10.0, 5.0))
        weights = torch.cat([weights_of_classes(class_weights, num_classes), torch.ones(1)])
        self.register_buffer("class_weights", weights, persistent=False)
        self.logits = nn.Linear(tail.channels, num_classes + 1)
        self.deltas = nn.Linear(tail.channels, 4 * (1 if class_agnostic else num_classes))

    def forward(
        self,
        maps: list[Tensor],
        proposals: list[Tensor],
        sizes: Tensor,
        targets: list[Targets] | None = None,
    ) -> tuple[list[Detections], dict[str, Tensor]]:
        """Detections of each image, or with targets the losses `head_class` and `head_box`."""
        if targets is None:
            image = torch.cat([p.new_full((len(p),), i).long() for i, p in enumerate(proposals)])
            logits, deltas = self.predict(maps, torch.cat(proposals), image)
            return self.detect(logits, deltas, proposals, sizes), {}
        rois, matched, valid = self.choose(proposals, targets)
        image = torch.arange(len(rois), device=rois.device).repeat_interleave(rois.shape[1])
        logits, deltas = self.predict(maps, rois.flatten(0, 1), image)
        return [], self.losses(logits, deltas, rois, matched, valid, targets)

    def predict(self, maps: list[Tensor], rois: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """(R, 4) RoIs → logits (R, K + 1), deltas (R, K or 1, 4)."""
        features = self.tail(
            pool_rois(maps, self.levels, rois, image, self.tail.size, mode=self.pooling)
        )
        deltas = self.deltas(features)
        return self.logits(features).float(), deltas.float().unflatten(1, (-1, 4))

    @torch.no_grad()
    def choose(
        self, proposals: list[Tensor], targets: list[Targets]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The RoIs to train on, drawn from the proposals and the ground truth itself.

        Returns:
            rois (B, S, 4), what each matches (B, S), and which were really drawn (B, S).
        """
        # a crowd's own box lies in that crowd, so that it counts as ignored
        offered = [torch.cat([p, t.boxes]) for p, t in zip(proposals, targets, strict=True)]
        padded = nn.utils.rnn.pad_sequence(offered, batch_first=True)
        matched = torch.full(padded.shape[:2], IGNORED, device=padded.device)
        pos_iou = self.rules.pos_iou
        for row, boxes, t in zip(matched, offered, targets, strict=True):
            row[: len(boxes)] = match_image(boxes, t, pos_iou, pos_iou)
        if padded.shape[1] == 0:  # nothing was proposed and nothing is there
            padded, matched = (
                padded.new_zeros(len(targets), 1, 4),
                matched.new_full((len(targets), 1), IGNORED),
            )
        index, valid = sample(matched, self.rules.number, self.rules.positive_fraction)
        rois = padded.gather(1, index[..., None].expand(-1, -1, 4))
        return rois, matched.gather(1, index), valid

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        rois: Tensor,
        matched: Tensor,
        valid: Tensor,
        targets: list[Targets],
    ) -> dict[str, Tensor]:
        """Fast R-CNN, equation 1, averaged over the RoIs of each image, then over the images.

        Args:
            logits: (B·S, K + 1).
            deltas: (B·S, K or 1, 4).
            rois: (B, S, 4); matched, valid: (B, S).
        """
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

    def detect(
        self, logits: Tensor, deltas: Tensor, proposals: list[Tensor], sizes: Tensor
    ) -> list[Detections]:
        """Softmax, decode, cut at the border, NMS class by class, the best of the image."""
        counts = [len(p) for p in proposals]
        scores = logits.softmax(-1)[:, : self.num_classes].split(counts)
        detections = []
        for image_scores, image_deltas, rois, size in zip(
            scores, deltas.split(counts), proposals, sizes, strict=True
        ):
            boxes = self.box_coder.decode(image_deltas, rois[:, None])
            boxes = clip(boxes[None], size[None])[0]
            image_scores = image_scores * sides_at_least(boxes, MIN_SIDE)
            rule = self.selection
            kept = detections_of(boxes, image_scores, rule.score_thresh, rule.nms_iou, rule.at_most)
            detections.append(Detections(*kept))
        return detections


def _unit(rois: Tensor) -> Tensor:
    """The RoIs, at least 0.01 pixels wide: padding and slivers must not divide by zero."""
    return torch.cat([rois[..., :2], torch.maximum(rois[..., 2:], rois[..., :2] + 1e-2)], dim=-1)
