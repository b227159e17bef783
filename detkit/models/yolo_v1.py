"""YOLO and Fast YOLO (Redmon, Divvala, Girshick, Farhadi 2015, arXiv:1506.02640).

    image 448×448 ─▶ 24 convolutions ─▶ 7×7×1024 ─▶ 4,096 units ─▶ 7×7 cells × (2 boxes × 5, K)
                                                                               (figure 3)

Each cell says A times x, y (of the centre, in the cell), √w, √h (of the image's side) and how sure
it is that an object's centre is there, and once which class the object would be of. `fast_yolo` has
9 convolutions. The loss is a sum of squares: equation 3, to the letter.

Shapes: B images, S cells a side, C = S² cells, A boxes a cell, N objects of the batch, K classes.

Differences from the paper:
- a cell that several objects ask for learns the first one (the paper has one object a cell);
- where no box of a cell overlaps its object, the nearest one is responsible, as in Darknet;
- cells whose centre lies in a crowd are no mistakes, and crowds are not learnt;
- the last layer starts at boxes in the middle of their cells, of a quarter of the image's side;
- any backbone. Four of the paper's convolutions are new behind its pretrained 20 (section 2.2), the
  second of them halves the map. Behind other backbones there are two, narrow and with batch norms,
  and the last one halves the map where it has cells enough. The last layer follows at once: 4,096
  units behind MobileNetV2's 1,280 channels would be 257 million random weights. Whatever map comes
  out is averaged to S×S cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, initialize, normalize
from detkit.backbones.build import COARSEST
from detkit.errors import DetkitError
from detkit.models.heads.grid_head import objects_of, winners
from detkit.models.heads.grid_layers import convolution
from detkit.models.heads.selection import Selection
from detkit.models.model import Model, Wants, models
from detkit.ops.boxes import clip, detections_of, paired_overlap, sides_at_least
from detkit.predictions import Detections, Prediction
from detkit.ranges import Count, Positive, Share
from detkit.structures import Classes, Targets, full_sizes

NECK = (128, 64)  # channels of the convolutions behind a backbone that is not the paper's
START = 0.5  # of x, y, √w and √h


@models.register("fast_yolo")
@models.register("yolo_v1")
class YOLOv1(Model):
    """All boxes of an image from one look at all of it (section 2).

    The paper's own network has 272 million parameters: its run folder takes some 5 GB.

    Args:
        side: pixels a side of the images: what the fully connected layers are made for.
        cells: S, a side.
        boxes: A, predicted by each cell.
        convolutions: channels of the 3×3 convolutions in front of the fully connected layers; null:
            none behind the paper's own networks, which end with theirs, 128 and 64 behind others.
        hidden: units of the fully connected layers before the last; null: the paper's 4,096
            (Fast YOLO's: Darknet's 256 and 4,096) behind its own network, none behind others.
        dropout: behind the first fully connected layer, in front of the only one.
        coord, no_object: weights of the boxes and of the confidence where no object is (λ).
        score_thresh, nms_iou, detections: what is kept of the predictions; NMS is per class.
    """

    task, needs = "detect", frozenset({"boxes"})

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        side: Count = 448,
        cells: Count = 7,
        boxes: Count = 2,
        convolutions: Sequence[Count] | None = None,
        hidden: Sequence[Count] | None = None,
        dropout: Share = 0.5,
        coord: Positive = 5.0,
        no_object: Positive = 0.5,
        score_thresh: Share = 0.01,
        nms_iou: Share = 0.5,
        detections: Count = 100,
    ) -> None:
        super().__init__(backbone, classes)
        self.side, self.cells, self.boxes = side, cells, boxes
        self.strides = [round(side / cells)]  # pixels a side of a cell
        self.coord, self.no_object = coord, no_object
        self.selection = Selection(score_thresh, nms_iou, detections)
        own = getattr(backbone, "connected", None)
        channels, stride = (list(of.values())[-1] for of in (backbone.channels, backbone.strides))
        narrow = (() if own else NECK) if convolutions is None else convolutions
        self.neck = neck([channels, *narrow], halved=side // stride >= 2 * cells)
        units = (own or ()) if hidden is None else hidden
        widths = [[channels, *narrow][-1] * cells**2, *units]
        self.head = nn.Sequential(
            *connected(widths, dropout),
            last_layer(widths[-1], cells**2, boxes, len(classes)),
        )

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants((COARSEST,))

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        self.check_size(images.shape[2], images.shape[3])
        (features,) = self.backbone(normalize(images, self.mean_std, sizes)).values()
        pooled = F.adaptive_avg_pool2d(self.neck(features), self.cells)
        rows = self.head(pooled.flatten(1)).float().view(len(images), self.cells**2, -1)
        if targets is None:
            return self.detections(rows, full_sizes(images) if sizes is None else sizes)
        return losses(rows, targets, self.side, self.boxes, self.coord, self.no_object)

    def check_size(self, height: int, width: int) -> None:
        """Raise where images are of another size than the fully connected layers are made for."""
        if (height, width) != (self.side, self.side):
            raise DetkitError(
                f"Images of {width}×{height} pixels: the fully connected layers are made for"
                f" {self.side}×{self.side}, a weight for each place in the image.",
                remedy=f"set transforms=stretched transforms.long_side={self.side}, or train for"
                " other squares with model.side.",
            )

    def detections(self, rows: Tensor, sizes: Tensor) -> list[Prediction]:
        """Boxes inside the images, scored P(class | object) · confidence, per-class NMS."""
        parts = rows[..., : 5 * self.boxes].unflatten(2, (self.boxes, 5))
        boxes = decode(parts[..., :4], self.side, self.cells).flatten(1, 2)  # (B, C·A, 4)
        boxes = clip(boxes, sizes)
        scores = parts[..., 4, None].clamp(0, 1) * rows[..., None, 5 * self.boxes :].clamp(0, 1)
        scores = scores.flatten(1, 2) * sides_at_least(boxes, 1e-3)[..., None]
        rule = (self.selection.score_thresh, self.selection.nms_iou, self.selection.at_most)
        return [
            Detections(*detections_of(b[:, None], s, *rule))
            for b, s in zip(boxes, scores, strict=True)
        ]


def neck(widths: Sequence[int], halved: bool) -> nn.Sequential:
    """3×3 convolutions from width to width, each with batch norm and a leaky ReLU.

    Args:
        halved: the last one has a stride of 2.
    """
    strides = [1] * (len(widths) - 2) + [2 if halved else 1]
    pairs = zip(pairwise(widths), strides, strict=False)
    return nn.Sequential(*(convolution(*pair, 3, stride) for pair, stride in pairs))


def connected(widths: Sequence[int], dropout: float) -> list[nn.Module]:
    """Linear layers, each with a leaky ReLU, and dropout behind the first (section 2.2).

    Without one the dropout is all that is left, in front of the last layer.
    """
    layers: list[nn.Module] = []
    for taken, given in pairwise(widths):
        layers += [nn.Linear(taken, given), nn.LeakyReLU(0.1, inplace=True)]
    initialize(nn.ModuleList(layers))
    layers.insert(2, nn.Dropout(dropout))
    return layers


def last_layer(taken: int, places: int, boxes: int, classes: int) -> nn.Linear:
    """What every cell says, linear; it starts at `START` for boxes and at 0 for all the rest.

    With weights of 0.01 the thousands of inputs would make a noise of half a cell, of which few
    images never rid it.
    """
    last = nn.Linear(taken, places * (5 * boxes + classes))
    nn.init.normal_(last.weight, std=0.001)
    start = torch.zeros(places, 5 * boxes + classes)
    start[:, : 5 * boxes].view(places, boxes, 5)[..., :4] = START
    last.bias = nn.Parameter(start.flatten())
    return last


def decode(parts: Tensor, side: int, cells: int) -> Tensor:
    """Boxes of what cells say: the centre in its cell, the roots of width and height.

    Args:
        parts: (…, C, A, 4): x, y in 0 … 1 of the cell; √w, √h in 0 … 1 of the image's side.
    Returns:
        (…, C, A, 4) xyxy, pixels.
    """
    number = torch.arange(cells**2, device=parts.device)
    corners = torch.stack([number % cells, number // cells], 1)[:, None]  # (C, 1, 2)
    return boxes_of(parts, corners, side, cells)


def boxes_of(parts: Tensor, corners: Tensor, side: int, cells: int) -> Tensor:
    """The same of some cells: `corners` holds column and row of each, to be broadcast."""
    centres = (corners + parts[..., :2]) * (side / cells)
    halves = parts[..., 2:] ** 2 * (side / 2)
    return torch.cat([centres - halves, centres + halves], -1)


def losses(
    rows: Tensor,
    targets: list[Targets],
    side: int,
    boxes: int,
    coord: float = 5.0,
    no_object: float = 0.5,
) -> dict[str, Tensor]:
    """Equation 3, summed over an image and averaged over the images.

    Args:
        rows: (B, C, 5·A + K) float32: of each cell A times x, y, √w, √h, confidence; the classes.
        targets: their boxes in pixels of an image of `side` pixels a side.
        boxes: A.
    Returns:
        `box`, `objectness` and `classes`.
    """
    count, places = rows.shape[:2]
    cells = round(places**0.5)
    objects = objects_of(targets)
    wanted = objects.boxes / side
    centres, extents = (wanted[:, :2] + wanted[:, 2:]) / 2, wanted[:, 2:] - wanted[:, :2]
    corner = (centres * cells).floor().clamp(0, cells - 1)  # (N, 2) column and row
    cell = (corner[:, 1] * cells + corner[:, 0]).long()
    learnt, _ = winners(objects.image * places + cell, objects.crowd, count * places)
    image, cell, corner = objects.image[learnt], cell[learnt], corner[learnt]
    truth = objects.boxes[learnt]

    asked = rows[image, cell]  # (N, 5·A + K)
    parts = asked[:, : 5 * boxes].unflatten(1, (boxes, 5))
    inside = (centres * cells)[learnt] - corner
    target = torch.cat([inside, extents[learnt].clamp(min=0).sqrt()], 1)
    responsible, covered = best_of_cell(parts[..., :4].detach(), corner, truth, side, cells)
    chosen = parts[torch.arange(len(parts), device=rows.device), responsible]

    label = F.one_hot(objects.labels[learnt], rows.shape[2] - 5 * boxes).float()
    silent = rows[..., : 5 * boxes].unflatten(2, (boxes, 5))[..., 4] ** 2  # (B, C, A)
    counted = ~in_crowds(targets, side, cells)[..., None].expand_as(silent)
    counted = counted.index_put((image, cell, responsible), counted.new_zeros(()))
    return {
        "box": coord * ((chosen[:, :4] - target) ** 2).sum() / count,
        "objectness": ((chosen[:, 4] - covered) ** 2).sum() / count
        + no_object * (silent * counted).sum() / count,
        "classes": ((asked[:, 5 * boxes :] - label) ** 2).sum() / count,
    }


def best_of_cell(
    parts: Tensor, corner: Tensor, truth: Tensor, side: int, cells: int
) -> tuple[Tensor, Tensor]:
    """Which box of its cell is responsible for each object: that of the highest IoU, the nearest
    one where none overlaps the object.

    Args:
        parts: (N, A, 4) what the cells say. corner: (N, 2) column and row.
        truth: (N, 4) xyxy, pixels.
    Returns:
        (N,) int64, and (N,) float32: its IoU.
    """
    found, truth = boxes_of(parts, corner[:, None], side, cells), truth[:, None]
    iou = paired_overlap(found, truth)
    distance = ((found - truth) ** 2).sum(-1)
    best = torch.where(iou.amax(1) > 0, iou.argmax(1), distance.argmin(1))
    return best, iou.gather(1, best[:, None])[:, 0]


def in_crowds(targets: list[Targets], side: int, cells: int) -> Tensor:
    """(B, C) bool: cells whose centre lies in a crowd."""
    number = torch.arange(cells**2, device=targets[0].boxes.device)
    x, y = ((p + 0.5) * side / cells for p in (number % cells, number // cells))
    rows = []
    for target in targets:
        crowds = target.boxes[:0] if target.crowd is None else target.boxes[target.crowd]
        left, top, right, bottom = crowds.T[:, :, None]
        rows.append(((x >= left) & (x < right) & (y >= top) & (y < bottom)).any(0))
    return torch.stack(rows)
