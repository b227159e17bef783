"""Clipping and crowd overlap by hand."""

import torch

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
    share = boxes.intersection_over_first(torch.tensor([inside, half]), crowd)
    assert share.flatten().tolist() == [1.0, 0.5]


def test_a_sliver_is_narrow_in_one_direction():
    sides = boxes.sides_at_least(torch.tensor([[0.0, 0, 9, 0.5], [0.0, 0, 1, 1]]), 1)
    assert sides.tolist() == [False, True]
