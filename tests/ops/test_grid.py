"""Grid operations against loop-written twins, on random cases."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from detkit.ops import grid

SHAPES, STRIDES = [(6, 8), (3, 4), (2, 2)], [8, 16, 32]
ANCHORS = torch.tensor([[[10.0, 13], [16, 30]], [[30, 61], [62, 45]], [[116, 90], [156, 198]]])


def loop_row() -> list[tuple[int, int, int, int]]:
    """(level, row, column, anchor) of each predictor in order."""
    return [
        (level, row, column, anchor)
        for level, (height, width) in enumerate(SHAPES)
        for row in range(height)
        for column in range(width)
        for anchor in range(2)
    ]


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 50
    return torch.cat([low, low + 1 + torch.rand(count, 2, generator=generator) * 150], 1)


def test_the_row_of_predictors_is_the_loops():
    places = grid.grid(SHAPES, STRIDES, ANCHORS)
    for p, (level, row, column, anchor) in enumerate(loop_row()):
        stride = STRIDES[level]
        assert places.corners[p].tolist() == [column * stride, row * stride]
        assert places.anchors[p].tolist() == ANCHORS[level, anchor].tolist()
        assert places.strides[p].item() == stride


def test_decoding_is_figure_2():
    places = grid.grid(SHAPES, STRIDES, ANCHORS)
    logits = torch.randn(2, len(places.corners), 4, generator=torch.Generator().manual_seed(0))
    boxes = grid.decode(logits, places)
    for p, (level, row, column, anchor) in enumerate(loop_row()):
        tx, ty, tw, th = logits[1, p].tolist()
        x = (1 / (1 + math.exp(-tx)) + column) * STRIDES[level]
        y = (1 / (1 + math.exp(-ty)) + row) * STRIDES[level]
        w, h = (
            s * math.exp(t) for s, t in zip(ANCHORS[level, anchor].tolist(), (tw, th), strict=True)
        )
        expected = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        torch.testing.assert_close(boxes[1, p], expected, rtol=1e-5, atol=1e-4)


def test_decoding_stays_finite_for_any_logit():
    places = grid.grid(SHAPES, STRIDES, ANCHORS)
    logits = torch.full((len(places.corners), 4), 1e4)
    assert grid.decode(logits, places).isfinite().all()
    assert grid.decode(-logits, places).isfinite().all()


def test_the_predictor_of_a_box_is_the_loops():
    row_of = {key: p for p, key in enumerate(loop_row())}
    boxes = random_boxes(1000, 1)
    found = grid.responsible(boxes, SHAPES, STRIDES, ANCHORS).tolist()
    for (x1, y1, x2, y2), place in zip(boxes.tolist(), found, strict=True):
        best, best_iou = None, -1.0
        for level in range(3):
            for anchor in range(2):
                w, h = ANCHORS[level, anchor].tolist()
                common = min(w, x2 - x1) * min(h, y2 - y1)
                iou = common / (w * h + (x2 - x1) * (y2 - y1) - common)
                if iou > best_iou + 1e-7:
                    best, best_iou = (level, anchor), iou
        level, anchor = best
        height, width = SHAPES[level]
        column = min(int((x1 + x2) / 2 // STRIDES[level]), width - 1)
        row = min(int((y1 + y2) / 2 // STRIDES[level]), height - 1)
        assert place == row_of[level, row, column, anchor]
    assert len(set(found)) > 30  # else the boxes tried too little


def test_a_centre_outside_goes_to_the_nearest_cell():
    boxes = torch.tensor([[-30.0, -40, -20, -27], [500.0, 500, 510, 513]])
    first, last = grid.responsible(boxes, SHAPES, STRIDES, ANCHORS).tolist()
    assert first == 0  # cell (0, 0) of stride 8, anchor 10×13
    assert last == (6 * 8 - 1) * 2  # the last cell of stride 8


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 63), st.floats(0, 47), st.floats(0.5, 60), st.floats(0.5, 60))
def test_encoding_and_decoding_are_inverse(x, y, w, h):
    box = torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])
    place = grid.grid(SHAPES, STRIDES, ANCHORS).at(grid.responsible(box, SHAPES, STRIDES, ANCHORS))
    target = grid.encode(box, place)
    assert target[:, :2].ge(0).all()
    assert target[:, :2].le(1).all()
    logits = torch.cat([target[:, :2].double().logit(1e-9), target[:, 2:].double()], 1)
    torch.testing.assert_close(grid.decode(logits, place).float(), box, rtol=1e-4, atol=1e-3)


def test_a_box_without_extent_has_finite_targets():
    box = torch.tensor([[5.0, 5, 5, 5]])
    place = grid.grid(SHAPES, STRIDES, ANCHORS).at(grid.responsible(box, SHAPES, STRIDES, ANCHORS))
    assert grid.encode(box, place).isfinite().all()


def test_shape_iou_is_the_iou_of_boxes_at_the_origin():
    sizes, anchors = random_boxes(200, 2)[:, 2:], ANCHORS.flatten(0, 1)
    at_origin = [torch.cat([torch.zeros_like(s), s], 1) for s in (sizes, anchors)]
    torch.testing.assert_close(grid.shape_iou(sizes, anchors), box_iou(*at_origin))


def test_no_boxes_are_no_problem():
    none = torch.zeros(0, 4)
    assert grid.responsible(none, SHAPES, STRIDES, ANCHORS).shape == (0,)
