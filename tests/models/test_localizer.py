"""The localizer's box: cells that vote, its loss, and pictures of more than one object."""

from __future__ import annotations

import math

import pytest
import torch

from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.localizer import box_loss, objects_of, one_box
from detkit.structures import Classes, Targets


def localizer(backbone: str = "mobilenet_v2"):
    torch.manual_seed(0)
    settings = {"name": "localizer", "hidden": 8}, {"name": backbone, "width": 0.125}
    return build(*settings, Classes.numbered(3))


def target(*boxes: list[float]) -> Targets:
    labels = torch.arange(len(boxes))
    return Targets(torch.tensor(boxes).reshape(-1, 4), labels)


def box_by_loops(maps, rows, columns, counted, size):
    """The votes of the cells that count, in plain numbers."""
    height, width = size
    total, sums = 0.0, [0.0] * 4
    for i in range(rows):
        for j in range(columns):
            if not counted(i, j):
                continue
            left, up, right, down = (1 / (1 + math.exp(-maps[d][i][j])) for d in range(4))
            weight = math.exp(maps[4][i][j])
            x, y = (j + 0.5) / columns, (i + 0.5) / rows
            box = (x - left) * width, (y - up) * height, (x + right) * width, (y + down) * height
            sums = [s + weight * side for s, side in zip(sums, box, strict=True)]
            total += weight
    return [s / total for s in sums]


def test_the_box_equals_the_loop():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 4, 6, generator=generator)
    inside = torch.zeros(2, 1, 64, 96, dtype=torch.bool)
    inside[0] = True
    inside[1, :, :32, :64] = True  # half the rows, two thirds of the columns
    found = one_box(maps, inside, (64, 96))
    whole = box_by_loops(maps[0].tolist(), 4, 6, lambda i, j: True, (64, 96))
    part = box_by_loops(maps[1].tolist(), 4, 6, lambda i, j: i < 2 and j < 4, (64, 96))
    torch.testing.assert_close(found, torch.tensor([whole, part]), rtol=1e-4, atol=1e-3)


def test_it_starts_around_the_middle():
    (found,) = localizer().eval()(torch.rand(1, 3, 64, 64))
    left, top, right, bottom = found.box.tolist()
    for low, high in ((left, right), (top, bottom)):
        assert low + high == pytest.approx(64, abs=8)
        assert 30 < high - low < 50  # 0.3 of the side to each direction


def test_the_boxes_loss_is_nothing_for_the_right_box_and_for_no_object():
    boxes = torch.tensor([[8.0, 8, 40, 40], [0, 0, 10, 10], [0, 0, 10, 10]])
    wanted = torch.tensor([[8.0, 8, 40, 40], [10.0, 0, 20, 10], [0, 0, 0, 0]])
    sizes = torch.tensor([[40, 80]] * 3)
    known = torch.tensor([True, True, False])
    # the second touches: IoU 0 and no gap, so 1 − GIoU is 1; it is 10 of 80 off on two sides
    assert box_loss(boxes, wanted, known, sizes).item() == pytest.approx((1 + 2 / 8) / 3)
    assert box_loss(boxes, wanted, known & False, sizes).item() == 0


def test_an_image_without_an_object_teaches_nothing_and_one_with_two_is_refused():
    labels, boxes = objects_of([target([1.0, 2, 3, 4]), target()])
    assert labels.tolist() == [0, -1]
    assert boxes.tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    with pytest.raises(DetkitError, match="has 2 objects, a localizer finds one"):
        localizer()(torch.rand(1, 3, 64, 64), [target([1.0, 2, 3, 4], [5.0, 5, 9, 9])])


def test_the_auxiliary_heads_of_a_network_learn_here_too():
    losses = localizer("googlenet")(torch.rand(1, 3, 64, 64), [target([8.0, 8, 40, 40])])
    assert list(losses) == ["class", "auxiliary_4a", "auxiliary_4d", "box"]
