"""Box coding against torchvision's, and there and back."""

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder as Reference

from detkit.ops.box_coder import MAX_LOG_RATIO, BoxCoder


def random_boxes(n: int, generator: torch.Generator) -> torch.Tensor:
    corner = torch.rand(n, 2, generator=generator) * 200
    return torch.cat(
        [corner, corner + torch.rand(n, 2, generator=generator) * 150 + 4], dim=1
    )  # at most 154/4 < 62 times


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
