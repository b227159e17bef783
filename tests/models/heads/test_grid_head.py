"""The losses of a grid's predictors beside the papers' equations, one number after the other."""

from __future__ import annotations

import math

import pytest
import torch

from detkit.models.build import build
from detkit.models.heads.grid_head import GridHead, LossWeights, ciou_loss
from detkit.models.heads.region_head import RegionHead
from detkit.models.heads.selection import Selection
from detkit.ops import grid
from detkit.structures import Classes, Targets

CASES = 500


def slow_ciou(logits, corner, anchor, stride, box) -> tuple[float, float]:
    """Zheng et al. 2020, equations 3 and 8 to 11, on plain numbers: the loss, and alpha."""
    x, y = (c + stride / (1 + math.exp(-t)) for c, t in zip(corner, logits[:2], strict=True))
    w, h = (a * math.exp(t) for a, t in zip(anchor, logits[2:], strict=True))
    x1, y1, x2, y2 = box
    gw, gh = x2 - x1, y2 - y1
    common = max(0.0, min(x + w / 2, x2) - max(x - w / 2, x1))
    common *= max(0.0, min(y + h / 2, y2) - max(y - h / 2, y1))
    iou = common / (w * h + gw * gh - common)
    distance = (x - (x1 + x2) / 2) ** 2 + (y - (y1 + y2) / 2) ** 2
    across = max(x + w / 2, x2) - min(x - w / 2, x1)
    down = max(y + h / 2, y2) - min(y - h / 2, y1)
    v = 4 / math.pi**2 * (math.atan(gw / gh) - math.atan(w / h)) ** 2
    alpha = v / (1 - iou + v + 1e-7)
    return 1 - iou + distance / (across**2 + down**2) + alpha * v, alpha


def slow_slope(logits, *place, step=1e-5) -> list[float]:
    """Of the loss along each logit, alpha held as it is (the paper, section 3.2)."""

    def loss(changed):
        value, alpha = slow_ciou(changed, *place)
        _, held = slow_ciou(logits, *place)
        w, h = (a * math.exp(t) for a, t in zip(place[1], changed[2:], strict=True))
        x1, y1, x2, y2 = place[3]
        v = 4 / math.pi**2 * (math.atan((x2 - x1) / (y2 - y1)) - math.atan(w / h)) ** 2
        return value - alpha * v + held * v

    slopes = []
    for i in range(4):
        ends = [[t + sign * step * (i == n) for n, t in enumerate(logits)] for sign in (1, -1)]
        slopes.append((loss(ends[0]) - loss(ends[1])) / (2 * step))
    return slopes


def test_ciou_and_its_gradient_are_the_slow_references():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(CASES, 4, generator=generator, dtype=torch.float64)
    corners = torch.rand(CASES, 2, generator=generator, dtype=torch.float64) * 50
    anchors = 4 + torch.rand(CASES, 2, generator=generator, dtype=torch.float64) * 40
    strides = torch.full((CASES, 1), 16.0, dtype=torch.float64)
    low = torch.rand(CASES, 2, generator=generator, dtype=torch.float64) * 50
    boxes = torch.cat([low, low + 1 + 40 * torch.rand(CASES, 2, generator=generator)], 1)
    logits.requires_grad_()
    losses = ciou_loss(logits, grid.Grid(corners, anchors, strides), boxes)
    (slopes,) = torch.autograd.grad(losses.sum(), logits)
    rows = zip(logits.tolist(), corners.tolist(), anchors.tolist(), boxes.tolist(), strict=True)
    overlapping = 0
    for found, slope, (t, corner, anchor, box) in zip(losses, slopes, rows, strict=True):
        place = (corner, anchor, 16.0, box)
        expected, _ = slow_ciou(t, *place)
        overlapping += expected < 1
        assert found.item() == pytest.approx(expected, abs=1e-5)
        assert slope.tolist() == pytest.approx(slow_slope(t, *place), abs=1e-4)
    assert 50 < overlapping < CASES - 50


@pytest.mark.parametrize("box", [[10, 10, 10, 10], [10, 10, 11, 11], [0, 0, 64, 0.5]])
@pytest.mark.parametrize("sizes", [-200.0, 200.0])
def test_ciou_stays_finite_for_boxes_without_extent(box, sizes):
    logits = torch.tensor([[0.0, 0.0, sizes, sizes]], requires_grad=True)
    places = grid.Grid(torch.zeros(1, 2), torch.full((1, 2), 8.0), torch.full((1, 1), 16.0))
    loss = ciou_loss(logits, places, torch.tensor([box], dtype=torch.float32)).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["yolo_v2", "yolo_v3", "yolo9000", "darknet_cfg"])
def test_ciou_takes_the_place_of_the_box_loss_alone(name):
    backbone = {"name": "darknet_cfg" if name == "darknet_cfg" else "darknet_tiny"}
    if name == "yolo9000":
        backbone = {"name": "darknet19", "width": 0.125}
    narrow = {"neck_width": 1 / 32} if name in ("yolo_v2", "yolo_v3") else {}
    classes = Classes.numbered(2)

    def losses(**settings):
        torch.manual_seed(0)
        model = build(
            {"name": name, **narrow, **settings}, {**backbone, "weights": "none"}, classes
        )
        images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
        targets = [Targets(torch.tensor([[10.0, 20, 50, 70]]), torch.tensor([1]))]
        return model.train()(images, targets)

    papers, ciou = losses(), losses(box_loss="ciou")
    assert papers["classes"].item() == pytest.approx(ciou["classes"].item())
    assert papers["box"].item() != pytest.approx(ciou["box"].item(), abs=1e-3)
    ciou["box"].backward()


KINDS = {
    "yolo": (GridHead, [[[6.0, 9], [14, 8]], [[12.0, 22], [26, 26]]], [8, 16]),
    "region": (RegionHead, [[[6.0, 9], [14, 8], [22, 24]]], [8]),
}
SIDE, K, IGNORE = 32, 3, 0.4
WEIGHTS = LossWeights(box=2.0, no_object=0.5, object=5.0, classes=3.0)


def sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def bce(t: float, wanted: float) -> float:
    return math.log1p(math.exp(-abs(t))) + max(t, 0) - t * wanted


def iou(a, b) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def owners_of(kind: str, boxes) -> dict[tuple, int]:
    """Predictors, by place, and the object that each answers for."""
    anchors = [size for level in KINDS[kind][1] for size in level]
    owners: dict[tuple, int] = {}
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        shapes = [iou((0, 0, x2 - x1, y2 - y1), (0, 0, *size)) for size in anchors]
        best = anchors[shapes.index(max(shapes))]
        stride = next(s for level, s in zip(*KINDS[kind][1:], strict=True) if best in level)
        place = stride, int((y1 + y2) / 2 // stride), int((x1 + x2) / 2 // stride), tuple(best)
        owners.setdefault(place, n)
    return owners


def slow_losses(kind: str, rows, held, boxes, labels) -> float:
    """Of one image, predictor by predictor: Redmon and Farhadi 2018 (2.1, 2.2) and 2016 (2).

    Args:
        rows: of each predictor its place (stride, row, column, anchor) and its numbers.
        held: the numbers that what is to be learnt is worked out from.
    """
    owners = owners_of(kind, boxes)
    total = 0.0
    for ((stride, row, column, anchor), t), now in zip(rows, held, strict=True):
        x, y = (column + sigmoid(now[0])) * stride, (row + sigmoid(now[1])) * stride
        w, h = anchor[0] * math.exp(now[2]), anchor[1] * math.exp(now[3])
        box = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        n = owners.get((stride, row, column, anchor))
        if n is None:
            if all(iou(box, other) <= IGNORE for other in boxes):
                total += WEIGHTS.no_object * bce(t[4], 0)
            continue
        x1, y1, x2, y2 = boxes[n]
        wanted = iou(box, boxes[n]) if kind == "region" else 1
        total += WEIGHTS.object * bce(t[4], wanted)
        total += (
            (2 - (x2 - x1) * (y2 - y1) / SIDE**2)
            * WEIGHTS.box
            * (
                bce(t[0], (x1 + x2) / 2 / stride - column)
                + bce(t[1], (y1 + y2) / 2 / stride - row)
                + (t[2] - math.log((x2 - x1) / anchor[0])) ** 2 / 2
                + (t[3] - math.log((y2 - y1) / anchor[1])) ** 2 / 2
            )
        )
        if kind == "region":
            classes = math.log(sum(map(math.exp, t[5:]))) - t[5 + labels[n]]
        else:
            classes = sum(bce(t[5 + k], float(k == labels[n])) for k in range(K))
        total += WEIGHTS.classes * classes
    return total / max(1, len(owners))


def places_of(kind: str) -> list[tuple]:
    """In the order of the head's rows."""
    return [
        (stride, row, column, tuple(anchor))
        for level, stride in zip(*KINDS[kind][1:], strict=True)
        for row in range(SIDE // stride)
        for column in range(SIDE // stride)
        for anchor in level
    ]


def head_of(kind: str) -> GridHead:
    part, anchors, strides = KINDS[kind]
    return part(
        [torch.tensor(level) for level in anchors],
        strides,
        K,
        ignore_iou=IGNORE,
        class_weights=None,
        selection=Selection(0.01, 0.45, 100),
        weights=WEIGHTS,
    )


def random_case(kind: str, seed: int):
    """Outputs of one image, 0 to 4 objects, and what else is to be drawn."""
    _, anchors, strides = KINDS[kind]
    generator = torch.Generator().manual_seed(seed)
    count = seed % 5
    low = torch.rand(count, 2, generator=generator) * (SIDE - 6)
    high = low + 2 + torch.rand(count, 2, generator=generator) * 24
    boxes = torch.cat([low, high.clamp(max=SIDE)], 1)
    labels = torch.randint(0, K, (count,), generator=generator)
    outputs = [
        torch.randn(1, len(level) * (5 + K), SIDE // s, SIDE // s, generator=generator)
        for level, s in zip(anchors, strides, strict=True)
    ]
    return outputs, boxes, labels, generator


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_their_slopes_are_the_slow_references(kind):
    head = head_of(kind)
    places, sizes, owned = places_of(kind), torch.tensor([[SIDE, SIDE]]), 0
    for seed in range(CASES):
        outputs, boxes, labels, generator = random_case(kind, seed)
        logits = torch.cat([head.rows(output) for output in outputs], 1)[0].double()
        plain, truth = logits.tolist(), (boxes.tolist(), labels.tolist())
        expected = slow_losses(kind, list(zip(places, plain, strict=True)), plain, *truth)
        for output in outputs:
            output.requires_grad_()
        loss = sum(head(outputs, sizes, [Targets(boxes, labels)]).values())
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        # along a random direction, what is to be learnt held as it is
        way = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        ends = [
            slow_losses(
                kind,
                list(zip(places, (logits + sign * 1e-5 * way).tolist(), strict=True)),
                plain,
                *truth,
            )
            for sign in (1, -1)
        ]
        slopes = torch.autograd.grad(loss, outputs)
        slope = torch.cat([head.rows(one) for one in slopes], 1)[0].double()
        expected_slope = (ends[0] - ends[1]) / 2e-5
        assert (slope * way).sum().item() == pytest.approx(expected_slope, rel=1e-3, abs=1e-3)
        owned += len(boxes) > 0
    assert owned == CASES * 4 // 5


def test_the_loss_of_anchors_and_its_gradient_are_the_slow_reference():
    head, places = head_of("region"), places_of("region")
    for seed in range(CASES):
        outputs, boxes, labels, _ = random_case("region", seed)
        owners = owners_of("region", boxes.tolist())
        share, expected, slopes = 0.01 / max(1, len(owners)), 0.0, []
        for place, t in zip(places, head.rows(outputs[0])[0].double().tolist(), strict=True):
            x, y, w, h = t[:4]
            if place in owners:
                slopes.append([0.0] * (5 + K))
                continue
            middle = bce(x, 0.5) + bce(y, 0.5) - 2 * math.log(2)
            expected += share * (middle + (w**2 + h**2) / 2)
            slopes.append([share * s for s in (sigmoid(x) - 0.5, sigmoid(y) - 0.5, w, h)])
            slopes[-1] += [0.0] * (1 + K)
        outputs[0].requires_grad_()
        loss = head.anchor_loss(outputs, [Targets(boxes, labels)])
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        (slope,) = torch.autograd.grad(loss, outputs)
        torch.testing.assert_close(head.rows(slope)[0], torch.tensor(slopes), rtol=1e-4, atol=1e-7)
