"""Boxes by hand, against loops and against torchvision: clipping, crowds, coding, suppression."""

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder as Reference
from torchvision.ops import box_iou, nms

from detkit.ops.boxes import (
    MAX_LOG_RATIO,
    BoxCoder,
    clip,
    detections_of,
    keep_best_per_group,
    overlap,
    sides_at_least,
)


def random_boxes(n: int, generator: torch.Generator) -> torch.Tensor:
    corner = torch.rand(n, 2, generator=generator) * 40
    return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * 30 + 1], dim=1)


def test_each_image_clips_at_its_own_size():
    clipped = clip(
        torch.tensor([[[-5.0, 3, 50, 60]], [[-5.0, 3, 50, 60]]]),
        torch.tensor([[40, 30], [100, 20]]),
    )
    assert clipped.tolist() == [[[0, 3, 30, 40]], [[0, 3, 20, 60]]]


def test_a_box_inside_a_crowd_is_covered_whole():
    inside, half = [10.0, 10, 20, 20], [-10.0, 0, 10, 40]
    crowd = torch.tensor([[0.0, 0, 100, 100]])
    share = overlap(torch.tensor([inside, half]), crowd, torch.tensor([True]))
    assert share.flatten().tolist() == [1.0, 0.5]


@pytest.mark.parametrize("crowd", [None, False, True])
def test_overlap_is_iou_and_with_crowds_the_covered_share(crowd):
    generator = torch.Generator().manual_seed(6)
    corners = torch.rand(320, 2, generator=generator) * 60
    sides = torch.rand(320, 2, generator=generator) * 40 + 0.5
    ours, others = torch.cat([corners, corners + sides], 1).split([300, 20])
    found = overlap(ours, others, None if crowd is None else torch.full((20,), crowd))
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
    assert overlap(point, none, torch.zeros(0, dtype=torch.bool)).shape == (1, 0)
    assert overlap(point, point).tolist() == [[0.0]]


def test_a_sliver_is_narrow_in_one_direction():
    sides = sides_at_least(torch.tensor([[0.0, 0, 9, 0.5], [0.0, 0, 1, 1]]), 1)
    assert sides.tolist() == [False, True]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (10.0, 5.0)])
def test_coding_equals_torchvisions(weights):
    generator = torch.Generator().manual_seed(1)
    boxes, anchors = random_boxes(1000, generator), random_boxes(1000, generator)
    ours, reference = BoxCoder(weights), Reference((weights[0],) * 2 + (weights[1],) * 2)
    deltas = ours.encode(boxes, anchors)
    torch.testing.assert_close(deltas, reference.encode_single(boxes, anchors))
    noise = torch.randn(1000, 4, generator=generator) * 3
    torch.testing.assert_close(
        ours.decode(noise, anchors), reference.decode_single(noise, anchors), rtol=1e-4, atol=1e-2
    )
    torch.testing.assert_close(ours.decode(deltas, anchors), boxes, rtol=1e-4, atol=1e-3)


def test_a_huge_delta_stays_finite():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = BoxCoder().decode(torch.full((1, 4), 1e4), anchor)
    assert torch.isfinite(box).all()
    width = float(box[0, 2] - box[0, 0])
    assert width == pytest.approx(16 * math.exp(MAX_LOG_RATIO), rel=1e-2)  # 16 · 1000/16 = 1000


def test_suppression_stays_within_a_group():
    generator = torch.Generator().manual_seed(6)
    for _ in range(1000):
        n = int(torch.randint(1, 30, (1,), generator=generator))
        boxes = random_boxes(n, generator)
        scores = torch.rand(n, generator=generator)
        groups = torch.randint(0, 3, (n,), generator=generator)
        kept = keep_best_per_group(boxes, scores, groups, 0.5, 1000)
        expected = set()
        for g in range(3):
            (here,) = torch.nonzero(groups == g, as_tuple=True)
            expected |= set(here[nms(boxes[here], scores[here], 0.5)].tolist())
        assert set(kept.tolist()) == expected
        assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)


def test_detections_equal_the_loop():
    generator = torch.Generator().manual_seed(7)
    for _ in range(200):
        r, k = 12, 3
        boxes = torch.stack([random_boxes(r, generator) for _ in range(k)], dim=1)
        scores = torch.rand(r, k, generator=generator)
        found = detections_of(boxes, scores, 0.3, 0.5, 7)
        expected = []
        for label in range(k):
            kept: list[int] = []
            for i in scores[:, label].argsort(descending=True).tolist():
                overlaps = [box_iou(boxes[i, label][None], boxes[j, label][None]) for j in kept]
                if scores[i, label] > 0.3 and all(o <= 0.5 for o in overlaps):
                    kept.append(i)
            expected += [(float(scores[i, label]), label, i) for i in kept]
        expected = sorted(expected, reverse=True)[:7]
        assert found[2].tolist() == [label for _, label, _ in expected]
        torch.testing.assert_close(found[1], torch.tensor([score for score, *_ in expected]))
        torch.testing.assert_close(found[0], torch.stack([boxes[i, c] for _, c, i in expected]))
