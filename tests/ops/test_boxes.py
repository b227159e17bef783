"""Clipping and crowd overlap by hand."""

import pytest
import torch
from torchvision.ops import box_iou

from detkit.ops import boxes


def test_each_image_clips_at_its_own_size():
    clipped = boxes.clip(
        torch.tensor([[[-5.0, 3, 50, 60]], [[-5.0, 3, 50, 60]]]),
        torch.tensor([[40, 30], [100, 20]]),
    )
    assert clipped.tolist() == [[[0, 3, 30, 40]], [[0, 3, 20, 60]]]


def test_a_box_inside_a_crowd_is_covered_whole():
    inside, half = [10.0, 10, 20, 20], [-10.0, 0, 10, 40]
    crowd = torch.tensor([[0.0, 0, 100, 100]])
    share = boxes.overlap(torch.tensor([inside, half]), crowd, torch.tensor([True]))
    assert share.flatten().tolist() == [1.0, 0.5]


@pytest.mark.parametrize("crowd", [None, False, True])
def test_overlap_is_iou_and_with_crowds_the_covered_share(crowd):
    generator = torch.Generator().manual_seed(6)
    corners = torch.rand(320, 2, generator=generator) * 60
    sides = torch.rand(320, 2, generator=generator) * 40 + 0.5
    ours, others = torch.cat([corners, corners + sides], 1).split([300, 20])
    found = boxes.overlap(ours, others, None if crowd is None else torch.full((20,), crowd))
    if not crowd:
        torch.testing.assert_close(found, box_iou(ours, others))
        return
    for p, (x1, y1, x2, y2) in enumerate(ours.tolist()):
        for n, (a1, b1, a2, b2) in enumerate(others.tolist()):
            common = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            assert found[p, n].item() == pytest.approx(
                common / ((x2 - x1) * (y2 - y1)), rel=1e-4, abs=1e-6
            )


def test_overlap_with_nothing_and_of_points_is_finite():
    point, none = torch.tensor([[3.0, 3, 3, 3]]), torch.zeros(0, 4)
    assert boxes.overlap(point, none, torch.zeros(0, dtype=torch.bool)).shape == (1, 0)
    assert boxes.overlap(point, point).tolist() == [[0.0]]


def test_a_sliver_is_narrow_in_one_direction():
    sides = boxes.sides_at_least(torch.tensor([[0.0, 0, 9, 0.5], [0.0, 0, 1, 1]]), 1)
    assert sides.tolist() == [False, True]
