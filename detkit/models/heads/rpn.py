"""The region proposal network (Faster R-CNN, section 3.1), also over a pyramid (FPN, section 4.1).

Shapes: B images, L levels, A anchor shapes a cell, N anchors of all levels, P proposals an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.models.heads.matching import (
    BACKGROUND,
    IGNORED,
    SMOOTH_L1_BETA,
    gather_targets,
    match_image,
    sample,
)
from detkit.ops.boxes import BoxCoder, clip, keep_best_per_group, sides_at_least
from detkit.structures import Targets

MIN_SIDE = 1e-3  # pixels; a narrower box is no proposal


@dataclass(frozen=True)
class ProposalRules:
    """How scores become proposals.

    Attributes:
        before_nms, after_nms: boxes a level going in, an image coming out: (training, inference).
        nms_iou: of two that overlap by more the worse one goes.
    """

    before_nms: tuple[int, int]
    after_nms: tuple[int, int]
    nms_iou: float


@dataclass(frozen=True)
class AnchorRules:
    """Which anchors are trained, and on what.

    Attributes:
        pos_iou, neg_iou: thresholds of the matcher.
        number: anchors sampled of each image.
        positive_fraction: of them positive at most.
        across_border: whether anchors that cross the image's border are trained.
    """

    pos_iou: float
    neg_iou: float
    number: int
    positive_fraction: float
    across_border: bool


class RPN(nn.Module):
    """A 3×3 convolution, then for every anchor an objectness logit and four deltas.

    Args:
        channels: of the maps.
        strides: of the levels, finest first.
        sizes: anchor sizes of each level, pixels.
        ratios: height / width of the anchors.
        anchor_rules: which anchors are trained.
        proposal_rules: how scores become proposals.
    """

    shapes: Tensor

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float],
        anchor_rules: AnchorRules,
        proposal_rules: ProposalRules,
    ) -> None:
        super().__init__()
        self.strides, self.anchor_rules, self.rules = tuple(strides), anchor_rules, proposal_rules
        self.box_coder = BoxCoder()
        shapes = torch.stack([anchor_shapes(level, ratios) for level in sizes])
        self.register_buffer("shapes", shapes, persistent=False)  # (L, A, 4)
        per_cell = shapes.shape[1]
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, per_cell, 1)
        self.deltas = nn.Conv2d(channels, 4 * per_cell, 1)
        for name, parameter in self.named_parameters():
            nn.init.normal_(parameter, std=0.01 if name.endswith("weight") else 0)

    def forward(
        self, maps: list[Tensor], sizes: Tensor, targets: list[Targets] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """
        Args:
            maps: one (B, C, H, W) per level.
            sizes: (B, 2) height and width of the images.
        Returns:
            proposals: one (P, 4) xyxy per image, best first, without gradient.
            losses: `rpn_objectness` and `rpn_box`, or none without targets.
        """
        outputs = [self.predict(features) for features in maps]
        anchors = self.anchors(maps)
        with torch.no_grad():
            proposals = self.propose(outputs, anchors, sizes, training=targets is not None)
        if targets is None:
            return proposals, {}
        return proposals, self.losses(*_joined(outputs), torch.cat(anchors), sizes, targets)

    def learn(self, maps: list[Tensor], sizes: Tensor, targets: list[Targets]) -> dict[str, Tensor]:
        """The losses without the proposals, for whoever trains nothing on them."""
        outputs = [self.predict(features) for features in maps]
        return self.losses(*_joined(outputs), torch.cat(self.anchors(maps)), sizes, targets)

    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) → logits (B, H·W·A) and deltas (B, H·W·A, 4)."""
        hidden = F.relu(self.conv(features))
        return self.rows(self.objectness(hidden), self.deltas(hidden))

    def rows(self, objectness: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A, H, W) and (B, 4·A, H, W) in the order of the anchors: (B, H·W·A), (…, 4)."""
        logits = objectness.permute(0, 2, 3, 1).flatten(1)
        return logits.float(), deltas.permute(0, 2, 3, 1).reshape(len(logits), -1, 4).float()

    def anchor_sizes(self, size: tuple[int, int]) -> Tensor:
        """(L·A, 2) widths and heights of its anchors, whatever the image's size."""
        return (self.shapes[..., 2:] - self.shapes[..., :2]).reshape(-1, 2)

    def anchors(self, maps: list[Tensor]) -> list[Tensor]:
        """(H·W·A, 4) of each level."""
        return [
            grid_anchors(shapes, (m.shape[2], m.shape[3]), stride)
            for shapes, m, stride in zip(self.shapes, maps, self.strides, strict=True)
        ]

    def propose(
        self,
        outputs: list[tuple[Tensor, Tensor]],
        anchors: list[Tensor],
        sizes: Tensor,
        training: bool,
    ) -> list[Tensor]:
        """The best of each level, cut at the border, thinned out by NMS level by level."""
        after = self.rules.after_nms[0 if training else 1]
        clipped, scores, group = self.candidates(outputs, anchors, sizes, training)
        wide = sides_at_least(clipped, MIN_SIDE)
        proposals = []
        for image_boxes, image_scores, keep in zip(clipped, scores, wide, strict=True):
            (here,) = torch.nonzero(keep, as_tuple=True)  # once: a GPU has to be waited for
            image_boxes = image_boxes[here]
            kept = keep_best_per_group(
                image_boxes, image_scores[here], group[here], self.rules.nms_iou, after
            )
            proposals.append(image_boxes[kept])
        return proposals

    def candidates(
        self,
        outputs: list[tuple[Tensor, Tensor]],
        anchors: list[Tensor],
        sizes: Tensor,
        training: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What goes into NMS: boxes (B, N, 4), scores (B, N), and the level of each (N,)."""
        before = self.rules.before_nms[0 if training else 1]
        boxes, logits, level = [], [], []
        for i, ((level_logits, deltas), level_anchors) in enumerate(
            zip(outputs, anchors, strict=True)
        ):
            # what lies in the padding would only take the others' places
            content = level_logits.masked_fill(in_padding(level_anchors, sizes), -torch.inf)
            best, index = content.topk(min(before, content.shape[1]), dim=1)
            chosen = deltas.gather(1, index[..., None].expand(-1, -1, 4))
            boxes.append(self.box_coder.decode(chosen, level_anchors[index]))
            logits.append(best)
            level.append(torch.full_like(index[0], i))
        clipped = clip(torch.cat(boxes, dim=1), sizes)
        return clipped, torch.cat(logits, dim=1).sigmoid(), torch.cat(level)

    @torch.no_grad()
    def match(self, anchors: Tensor, sizes: Tensor, targets: list[Targets]) -> Tensor:
        """(B, N): which ground truth each anchor answers for.

        Ignored are anchors over a crowd, those around the batch's padding, which is no background,
        and with `across_border` off all that reach over their image's border.
        """
        rules = self.anchor_rules
        height, width = sizes[:, :1], sizes[:, 1:]
        x1, y1, x2, y2 = anchors.T
        inside = (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)
        among = [None] * len(targets) if rules.across_border else list(inside)
        matched = torch.stack(
            [
                match_image(anchors, t, rules.pos_iou, rules.neg_iou, keep_best=True, among=a)
                for t, a in zip(targets, among, strict=True)
            ]
        )
        if not rules.across_border:
            return torch.where(inside, matched, IGNORED)
        padding = in_padding(anchors, sizes)
        return torch.where(padding & (matched == BACKGROUND), IGNORED, matched)

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        sizes: Tensor,
        targets: list[Targets],
    ) -> dict[str, Tensor]:
        """Equation 1, averaged over the sampled anchors of each image, then over the images.

        Args:
            logits: (B, N).
            deltas: (B, N, 4).
            anchors: (N, 4).
        """
        matched = self.match(anchors, sizes, targets)
        index, valid = sample(
            matched, self.anchor_rules.number, self.anchor_rules.positive_fraction
        )
        matched = matched.gather(1, index)
        share = valid / (valid.sum(1, keepdim=True).clamp(min=1) * len(targets))
        is_object = matched >= 0
        objectness = F.binary_cross_entropy_with_logits(
            logits.gather(1, index), is_object.float(), reduction="none"
        )
        boxes, _ = gather_targets(targets, matched)
        anchors = anchors[index]
        wanted = self.box_coder.encode(torch.where(is_object[..., None], boxes, anchors), anchors)
        predicted = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        offset = F.smooth_l1_loss(predicted, wanted, beta=SMOOTH_L1_BETA, reduction="none").sum(-1)
        return {
            "rpn_objectness": (objectness * share).sum(),
            "rpn_box": (offset * share * is_object).sum(),
        }


def _joined(outputs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logits (B, N) and deltas (B, N, 4) of all levels."""
    logits, deltas = zip(*outputs, strict=True)
    return torch.cat(logits, dim=1), torch.cat(deltas, dim=1)


def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors around the origin, ratio by ratio, each of area size² (section 3.1.1).

    Args:
        sizes: side of the square with the same area, pixels.
        ratios: height / width.
    Returns:
        (len(ratios) · len(sizes), 4) float32, xyxy, whole pixels as in the published models.
    """
    root = torch.tensor(list(ratios), dtype=torch.float32).sqrt()
    side = torch.tensor(list(sizes), dtype=torch.float32)
    height = (root[:, None] * side).flatten()
    width = (side / root[:, None]).flatten()
    return (torch.stack([-width, -height, width, height], dim=1) / 2).round()


def grid_anchors(shapes: Tensor, grid: tuple[int, int], stride: float) -> Tensor:
    """The shapes around the upper left corner of each cell.

    Args:
        shapes: (A, 4) boxes around the origin.
        grid: (H, W) cells.
        stride: pixels per cell.
    Returns:
        (H · W · A, 4), row by row, the shapes of a cell side by side.
    """
    y = torch.arange(grid[0], device=shapes.device, dtype=shapes.dtype) * stride
    x = torch.arange(grid[1], device=shapes.device, dtype=shapes.dtype) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (corners + shapes).reshape(-1, 4)


def in_padding(anchors: Tensor, sizes: Tensor) -> Tensor:
    """(B, N) bool: the centre of the (N, 4) anchors lies outside each image's (B, 2) size."""
    x1, y1, x2, y2 = anchors.T
    return (x1 + x2 > 2 * sizes[:, 1:]) | (y1 + y2 > 2 * sizes[:, :1])
