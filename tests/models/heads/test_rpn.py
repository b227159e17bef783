"""Anchors against torchvision's generator and by hand; what is proposed of them."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from detkit.models.heads.rpn import (
    RPN,
    AnchorRules,
    ProposalRules,
    anchor_shapes,
    grid_anchors,
    in_padding,
)
from detkit.ops.boxes import clip


def test_the_second_anchor_of_a_row_sits_one_stride_further():
    shapes = anchor_shapes([64], [1.0])
    anchors = grid_anchors(shapes, (1, 2), 4)
    assert shapes.tolist() == [[-32, -32, 32, 32]]
    assert anchors[1].tolist() == [-28, -32, 36, 32]  # -28 == -32 + stride 4


def test_a_ratio_is_height_over_width_at_equal_area():
    (box,) = anchor_shapes([100], [0.5]).tolist()
    width, height = box[2] - box[0], box[3] - box[1]
    assert abs(height / width - 0.5) < 0.02
    assert abs(width * height - 100**2) < 150  # rounding moves each side by at most a pixel


def test_anchors_equal_torchvisions_on_random_grids():
    generator = torch.Generator().manual_seed(0)
    for _ in range(1000):
        h, w = torch.randint(1, 6, (2,), generator=generator).tolist()
        stride = 2 ** int(torch.randint(2, 6, (1,), generator=generator))
        sizes = (torch.rand(2, generator=generator) * 300 + 8).tolist()
        ratios = (torch.rand(3, generator=generator) * 2 + 0.3).tolist()
        reference = AnchorGenerator((tuple(sizes),), (tuple(ratios),))
        images = ImageList(torch.zeros(1, 3, h * stride, w * stride), [(h * stride, w * stride)])
        (expected,) = reference(images, [torch.zeros(1, 1, h, w)])
        ours = grid_anchors(anchor_shapes(sizes, ratios), (h, w), stride)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.fixture
def network() -> RPN:
    rules = AnchorRules(0.7, 0.3, 256, 0.5, True), ProposalRules((4, 4), (4, 4), 0.7)
    return RPN(8, [16], [[16.0]], [1.0], *rules)


def test_padding_takes_no_proposals_place(network):
    maps, cells = [torch.zeros(1, 8, 8, 8)], torch.ones(8, 8)
    cells[:3, :4] = 0.0  # the image's, less likely than all its padding
    logits, deltas = cells.reshape(1, 64), torch.zeros(1, 64, 4)
    size = torch.tensor([[33, 49]])
    assert in_padding(*network.anchors(maps), size).sum() == 64 - 3 * 4
    (found,) = network.propose([(logits, deltas)], network.anchors(maps), size, training=False)
    assert len(found) == 4
    assert (found[:, :2] < size.flip(1)).all()


def test_padding_is_proposed_where_places_are_left_after_all_of_the_image(network):
    network.rules = ProposalRules((64, 64), (64, 64), 1.0)
    maps, size = [torch.zeros(1, 8, 8, 8)], torch.tensor([[33, 60]])
    logits, deltas = torch.full((1, 64), -20.0), torch.zeros(1, 64, 4)
    (found,) = network.propose([(logits, deltas)], network.anchors(maps), size, training=True)
    centres = network.anchors(maps)[0].reshape(64, 2, 2).mean(1)
    (of_image,) = (centres <= size.flip(1)).all(1).nonzero(as_tuple=True)
    boxes = clip(network.anchors(maps)[0][of_image][None], size)[0]
    assert len(found) > len(boxes)
    assert sorted(found[: len(boxes)].tolist()) == sorted(boxes.tolist())


def test_scores_and_deltas_are_full_precision_and_start_small(network):
    with torch.autocast("cpu", torch.bfloat16):
        logits, deltas = network.predict(torch.randn(1, 8, 4, 4))
    assert logits.dtype == deltas.dtype == torch.float32
    assert 0.005 < network.conv.weight.std() < 0.02
    assert not network.conv.bias.any()
