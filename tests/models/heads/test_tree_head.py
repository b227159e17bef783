"""YOLO9000's losses beside the paper's section 4, one number after the other."""

from __future__ import annotations

import math

import pytest
import torch

from detkit.models.heads.grid_head import LossWeights
from detkit.models.heads.selection import Selection
from detkit.models.heads.tree_head import TreeHead
from detkit.structures import Targets

#  0 thing ─┬─ 1 round        4 animal ─── 5 cat
#           └─ 2 angular ─── 3 star
PARENTS = (-1, 0, 0, 2, -1, 4)
CASES, SIDE, CELL, IGNORE = 500, 32, 16, 0.4
ANCHORS = [(9.0, 6.0), (14.0, 20.0)]
WEIGHTS = LossWeights(box=2.0, no_object=0.5, object=5.0, classes=3.0)
PLACES = [(row, column, anchor) for row in (0, 1) for column in (0, 1) for anchor in ANCHORS]


def sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def bce(t: float, wanted: float) -> float:
    return math.log1p(math.exp(-abs(t))) + max(t, 0) - t * wanted


def iou(a, b) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def unlikeliness(row, label: int) -> float:
    """−log P(label): a softmax over its siblings, one over its parent's, and so on."""
    total = 0.0
    while label >= 0:
        powers = [math.exp(t) for t, p in zip(row[5:], PARENTS, strict=True) if p == PARENTS[label]]
        total += math.log(sum(powers)) - row[5 + label]
        label = PARENTS[label]
    return total


def of_class_alone(rows, held, label: int) -> float:
    best = max(range(8), key=lambda i: held[i][4])
    loss = WEIGHTS.classes * unlikeliness(rows[best], label)
    if sigmoid(held[best][4]) < 0.3:
        loss += WEIGHTS.object * bce(rows[best][4], 0.3)
    return loss


def of_boxes(rows, held, boxes, labels) -> float:
    owners: dict[tuple, int] = {}
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        shapes = [iou((0, 0, x2 - x1, y2 - y1), (0, 0, *size)) for size in ANCHORS]
        place = int((y1 + y2) / 2 // CELL), int((x1 + x2) / 2 // CELL)
        owners.setdefault((*place, ANCHORS[shapes.index(max(shapes))]), n)
    total = 0.0
    for (row, column, anchor), t, now in zip(PLACES, rows, held, strict=True):
        x, y = (column + sigmoid(now[0])) * CELL, (row + sigmoid(now[1])) * CELL
        w, h = anchor[0] * math.exp(now[2]), anchor[1] * math.exp(now[3])
        found = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        n = owners.get((row, column, anchor))
        if n is None:
            if all(iou(found, box) <= IGNORE for box in boxes):
                total += WEIGHTS.no_object * bce(t[4], 0)
            continue
        x1, y1, x2, y2 = boxes[n]
        total += WEIGHTS.object * bce(t[4], iou(found, boxes[n]))
        small = 2 - (x2 - x1) * (y2 - y1) / SIDE**2
        centre = bce(t[0], (x1 + x2) / 2 / CELL - column) + bce(t[1], (y1 + y2) / 2 / CELL - row)
        size = (t[2] - math.log((x2 - x1) / anchor[0])) ** 2
        size += (t[3] - math.log((y2 - y1) / anchor[1])) ** 2
        total += WEIGHTS.box * small * (centre + size / 2)
        total += WEIGHTS.classes * unlikeliness(t, labels[n])
    return total / max(1, len(owners))


def test_losses_and_their_slopes_are_the_slow_references():
    """Two images: one with boxes or nothing, one of which only the class is known, if that."""
    head = TreeHead(
        torch.tensor([ANCHORS]),
        [CELL],
        PARENTS,
        tree_thresh=0.5,
        ignore_iou=IGNORE,
        class_weights=None,
        selection=Selection(0.01, 0.45, 100),
        weights=WEIGHTS,
    )
    sizes, unsure = torch.tensor([[SIDE, SIDE]] * 2), 0
    for seed in range(CASES):
        generator = torch.Generator().manual_seed(seed)
        low = torch.rand(seed % 4, 2, generator=generator) * (SIDE - 6)
        high = low + 2 + torch.rand(seed % 4, 2, generator=generator) * 24
        boxes = torch.cat([low, high.clamp(max=SIDE)], 1)
        labels = torch.randint(0, 6, (seed % 4,), generator=generator)
        label = seed % 7 - 1
        output = torch.randn(2, 2 * 11, 2, 2, generator=generator)
        output[:, 4::11] -= 2.0 * (seed % 3)  # some are so unsure that they learn the 0.3
        logits = head.rows(output).double()
        held = logits.tolist()

        truth = boxes.tolist(), labels.tolist()

        def slow(rows, held=held, truth=truth, label=label):
            first = of_boxes(rows[0], held[0], *truth)
            if label < 0:
                return (first + of_boxes(rows[1], held[1], [], [])) / 2
            return (first + of_class_alone(rows[1], held[1], label)) / 2

        alone = Targets(boxes[:0], labels[:0], image_label=torch.tensor(label))
        output.requires_grad_()
        loss = sum(head([output], sizes, [Targets(boxes, labels), alone]).values())
        assert loss.item() == pytest.approx(slow(held), rel=1e-4)
        way = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        ends = [slow((logits + sign * 1e-5 * way).tolist()) for sign in (1, -1)]
        (slope,) = torch.autograd.grad(loss, output)
        expected = (ends[0] - ends[1]) / 2e-5
        found = (head.rows(slope).double() * way).sum().item()
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
        unsure += label >= 0 and max(sigmoid(row[4]) for row in held[1]) < 0.3
    assert unsure > 20
