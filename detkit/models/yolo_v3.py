"""YOLOv3 (Redmon, Farhadi 2018, arXiv:1804.02767).

    image ─▶ backbone ─┬─ stride 32 ─▶ 5 convs ─┬─▶ head: 3 anchors × (tx ty tw th, objectness, K)
                       │                        └─▶ 1×1, upsample ─┐
                       ├─ stride 16 ───────────────────── concat ◀─┘─▶ 5 convs ─┬─▶ head
                       └─ stride  8 ─────────────────────────── concat ◀────────┘ … ─▶ head

Shapes: B images, L levels, A anchors a level, (H, W) cells, P = Σ H·W·A predictors, N objects of
the whole batch, K classes.

Differences from the paper, most of them those of its own code, Darknet:
- the centre's loss is the binary cross-entropy of σ(tx), σ(ty), whose gradient is Darknet's; the
  paper's squared error of tx itself has no finite target for a centre on a cell's border. Box
  losses are weighted by 2 − (the object's share of the image), as in Darknet;
- predictions are ignored by the IoU of what they predict (Darknet), not of their anchor;
- each image's losses are divided by its number of objects (at least 1) and averaged over the batch,
  so that crowded images do not rule the gradient and processes can share a batch;
- objectness starts at a thousandth, about one object in a thousand predictors, so that the first
  steps are not spent on silencing the rest;
- a predictor that two objects ask for goes to the first one. Crowds are not learnt, and predictions
  mostly inside one are no mistakes; difficult objects are learnt like all others;
- any backbone: of its levels 2 … 5 the coarsest three serve (an FPN's maps like any other's).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import DetkitError
from detkit.models.model import Model, Wants, models, weights_of_classes
from detkit.ops import grid
from detkit.ops.boxes import clip, detections_of, overlap, sides_at_least
from detkit.ranges import Count, Positive, Share
from detkit.structures import Detections, Prediction, Targets, full_sizes

COCO_ANCHORS = (
    *((10, 13), (16, 30), (33, 23)),  # stride 8
    *((30, 61), (62, 45), (59, 119)),  # stride 16
    *((116, 90), (156, 198), (373, 326)),  # stride 32
)
PRIOR = 1e-3  # objectness of an untrained predictor
CANDIDATES = 1000  # predictors of an image that enter NMS, the best ones


@models.register("yolo_v3")
class YOLOv3(Model):
    """One predictor for each anchor of each cell, on three levels (section 2).

    Args:
        anchors: widths and heights, pixels of the network's image; shared out evenly over the
            levels, the smallest to the finest. The default is the paper's: COCO at 416 pixels.
        anchor_scale: multiplies the anchors: 1.5 for images of 624 pixels.
        neck_width: multiplies the neck's 512, 256 and 128 channels.
        ignore_iou: a predictor that no object chose is no mistake above this IoU with any object.
        class_weights: weight of each class in the class loss.
        score_thresh, nms_iou, detections: what is kept of the predictions; NMS is per class.

    Raises:
        DetkitError: the anchors cannot be shared out evenly, or the class weights are not K.
    """

    task = "detect"
    anchors: Tensor
    class_weights: Tensor

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        anchors: Sequence[Sequence[Positive]] = COCO_ANCHORS,
        anchor_scale: Positive = 1.0,
        neck_width: Positive = 1.0,
        ignore_iou: Share = 0.5,
        class_weights: Sequence[Positive] | None = None,
        score_thresh: Share = 0.01,
        nms_iou: Share = 0.45,
        detections: Count = 100,
    ) -> None:
        super().__init__(backbone, num_classes)
        usable = self.wants(fpn=False).levels
        self.levels = [level for level in backbone.channels if level in usable][-3:]
        self.strides = [backbone.strides[level] for level in self.levels]
        self.ignore_iou = ignore_iou
        self.selection = (score_thresh, nms_iou, detections)

        shared = anchors_of_levels(anchors, len(self.levels)) * anchor_scale
        self.register_buffer("anchors", shared, persistent=False)
        self.register_buffer(
            "class_weights", weights_of_classes(class_weights, num_classes), persistent=False
        )
        self.neck = Neck([backbone.channels[level] for level in self.levels], neck_width)
        outputs = shared.shape[1] * (5 + num_classes)
        self.heads = nn.ModuleList(
            head(width, outputs, shared.shape[1]) for width in self.neck.widths
        )

    @classmethod
    def wants(cls, fpn: bool) -> Wants:
        return Wants(("3", "4", "5") if fpn else ("2", "3", "4", "5"))

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        if sizes is None:
            sizes = full_sizes(images)
        levels = self.backbone(normalize(images, self.mean_std, sizes))
        maps = self.neck([levels[level] for level in self.levels])
        outputs = [head(features) for head, features in zip(self.heads, maps, strict=True)]

        shapes = [(output.shape[2], output.shape[3]) for output in outputs]
        places = grid.grid(shapes, self.strides, self.anchors)
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

        Args:
            logits: (B, P, 5 + K) float32.
            chosen: (N,) the predictor that answers for each object, a place in its image's row.
        """
        count, predictors = logits.shape[:2]
        of = torch.cat([torch.full_like(t.labels, i) for i, t in enumerate(targets)])  # (N,)
        boxes, labels = (torch.cat([getattr(t, k) for t in targets]) for k in ("boxes", "labels"))
        crowd = torch.cat([crowds(t) for t in targets])
        learnt, owned = winners(of * predictors + chosen, crowd, count * predictors)
        objects = logits.new_zeros(count).index_add(0, of, learnt.float())
        share = 1 / (objects.clamp(min=1) * count)  # (B,) weight of a term of each image

        said = logits[of, chosen]
        wanted = grid.encode(boxes, places.at(chosen))
        centre = F.binary_cross_entropy_with_logits(said[:, :2], wanted[:, :2], reduction="none")
        size = (said[:, 2:4] - wanted[:, 2:]) ** 2 / 2
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1) / sizes[of].prod(1)
        box = (2 - area) * (centre + size).sum(1)

        classes = F.binary_cross_entropy_with_logits(
            said[:, 5:], F.one_hot(labels, self.num_classes).float(), reduction="none"
        )
        classes = self.class_weights[labels] * classes.sum(1)

        owned = owned.reshape(count, predictors)
        counted = owned | ~self.ignored(logits, places, targets, sizes)
        objectness = F.binary_cross_entropy_with_logits(
            logits[..., 4], owned.float(), reduction="none"
        )
        return {
            "box": (box * learnt * share[of]).sum(),
            "objectness": ((objectness * counted).sum(1) * share).sum(),
            "classes": (classes * learnt * share[of]).sum(),
        }

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
        scores = logits[..., 4:5].sigmoid() * logits[..., 5:].sigmoid()
        scores = scores * sides_at_least(boxes, 1e-3)[..., None]  # nothing is left in the padding
        best = scores.amax(2).topk(min(CANDIDATES, scores.shape[1])).indices
        return [
            Detections(*detections_of(b[i, None], s[i], *self.selection))
            for b, s, i in zip(boxes, scores, best, strict=True)
        ]


class Neck(nn.Module):
    """Five convolutions a level; each level sees the coarser ones, upsampled and concatenated.

    Args:
        channels: of the maps that come in, finest level first.
        width: multiplies the paper's 512, 256, 128 (coarsest first).
    """

    def __init__(self, channels: Sequence[int], width: float) -> None:
        super().__init__()
        last = len(channels) - 1
        self.widths = [max(4, round(width * 512 / 2 ** (last - i))) for i in range(len(channels))]
        self.sets, self.laterals = nn.ModuleList(), nn.ModuleList()
        for i, (taken, given) in enumerate(zip(channels, self.widths, strict=True)):
            if i < last:
                self.laterals.append(convolution(self.widths[i + 1], given, 1))
                taken += given
            self.sets.append(
                nn.Sequential(
                    convolution(taken, given, 1),
                    convolution(given, 2 * given, 3),
                    convolution(2 * given, given, 1),
                    convolution(given, 2 * given, 3),
                    convolution(2 * given, given, 1),
                )
            )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps, finest level first → as many of `widths` channels."""
        outputs = [self.sets[-1](maps[-1])]
        for i in reversed(range(len(maps) - 1)):
            coarser = F.interpolate(self.laterals[i](outputs[0]), size=maps[i].shape[2:])
            outputs.insert(0, self.sets[i](torch.cat([coarser, maps[i]], 1)))
        return outputs


def convolution(taken: int, given: int, side: int) -> nn.Sequential:
    """Darknet's unit: convolution, batch norm, leaky ReLU of slope 0.1."""
    layer = nn.Conv2d(taken, given, side, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, a=0.1)
    return nn.Sequential(layer, nn.BatchNorm2d(given), nn.LeakyReLU(0.1))


def head(width: int, outputs: int, anchors: int) -> nn.Sequential:
    """A 3×3 convolution and the linear 1×1 one, which starts at its anchor's box and at `PRIOR`."""
    last = nn.Conv2d(2 * width, outputs, 1)
    nn.init.normal_(last.weight, std=0.01)
    bias = torch.zeros(anchors, outputs // anchors)
    bias[:, 4] = math.log(PRIOR / (1 - PRIOR))
    last.bias = nn.Parameter(bias.flatten())
    return nn.Sequential(convolution(width, 2 * width, 3), last)


def anchors_of_levels(anchors: Sequence[Sequence[float]], levels: int) -> Tensor:
    """Anchors → (L, A, 2) float32, the smallest ones for the finest level."""
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


def crowds(target: Targets) -> Tensor:
    """(N,) bool, also where nothing says which objects are crowds."""
    return (
        torch.zeros_like(target.labels, dtype=torch.bool) if target.crowd is None else target.crowd
    )


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
