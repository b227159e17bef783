"""The CIoU loss of the grid's predictors beside the paper's equations, one pair after the other."""

from __future__ import annotations

import math

import pytest
import torch

from detkit.models.build import build
from detkit.models.heads.grid_head import ciou_loss
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
    classes = Classes.numbered(2)

    def losses(**settings):
        torch.manual_seed(0)
        model = build({"name": name, **settings}, {**backbone, "weights": "none"}, classes)
        images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
        targets = [Targets(torch.tensor([[10.0, 20, 50, 70]]), torch.tensor([1]))]
        return model.train()(images, targets)

    papers, ciou = losses(), losses(box_loss="ciou")
    assert papers["classes"].item() == pytest.approx(ciou["classes"].item())
    assert papers["box"].item() != pytest.approx(ciou["box"].item(), abs=1e-3)
    ciou["box"].backward()
