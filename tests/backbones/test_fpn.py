"""The pyramid is torchvision's FeaturePyramidNetwork, with any number of coarser levels."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detkit.backbones.build import build as build_both


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


@pytest.mark.parametrize("size", [(64, 64), (97, 130), (33, 65)])
@pytest.mark.parametrize("levels", [None, (3, 4, 5, 6), (2, 5, 6)])
def test_maps_equal_torchvisions(size, levels):
    torch.manual_seed(0)
    ours = build("resnet18_fpn", width=0.25, fpn_channels=16, levels=levels).eval()
    theirs = FeaturePyramidNetwork(list(ours.body.channels.values()), 16, LastLevelMaxPool())
    theirs.load_state_dict(ours.fpn.state_dict(), strict=True)
    x = torch.randn(2, 3, *size)
    expected = theirs(ours.body(x))
    maps = ours(x)
    assert list(expected)[:-1] == list(maps)[:-1]
    for a, b in zip(maps.values(), expected.values(), strict=True):
        torch.testing.assert_close(a, b)


def test_it_starts_as_torchvisions_does():
    torch.manual_seed(5)
    theirs = FeaturePyramidNetwork([64, 128], 32)
    torch.manual_seed(5)
    with torch.random.fork_rng():
        ours = build("resnet18_fpn", levels=[2, 3], fpn_channels=32).fpn
    for key, value in theirs.state_dict().items():
        mine = ours.state_dict()[key]
        assert mine.shape == value.shape
        if key.endswith("bias"):
            assert not mine.any()
        else:  # uniform between ±√(3 / fan-in)
            bound = (3 / value[0].numel()) ** 0.5
            assert mine.abs().max() <= bound
            assert mine.std() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_torchvisions_detector_backbone_loads_key_by_key():
    with torch.device("meta"):
        net = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None
        )
        ours = build("resnet50_fpn", norm="frozen")
    theirs = {k: v.shape for k, v in net.backbone.state_dict().items()}
    theirs = {k: shape for k, shape in theirs.items() if not k.endswith("tracked")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == theirs


def test_extra_levels_leave_out_every_other_cell():
    ours = build("resnet18_fpn", width=0.25, fpn_channels=8, levels=[4, 6, 8])
    assert ours.strides == {"4": 16, "6": 64, "8": 256}
    every = build("resnet18_fpn", width=0.25, fpn_channels=8, levels=[4, 5, 6, 7, 8])
    every.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 257, 300)
    with torch.no_grad():
        few, maps = ours.eval()(x), every.eval()(x)
    assert list(few) == ["4", "6", "8"]
    assert all(torch.equal(few[level], maps[level]) for level in few)
    assert torch.equal(maps["6"], maps["5"][..., ::2, ::2])
    assert torch.equal(maps["8"], maps["6"][..., ::4, ::4])


def test_without_a_word_there_is_one_level_more_than_the_network_has():
    assert list(build("resnet18_fpn", width=0.25).channels) == ["2", "3", "4", "5", "6"]


def test_frozen_stages_and_report_are_the_bodys():
    ours = build("resnet18_fpn", width=0.25, frozen_stages=2)
    assert [m for s in ours.stages() for m in s] == [m for s in ours.body.stages() for m in s]
    assert not ours.body.conv1.weight.requires_grad
    assert all(p.requires_grad for p in ours.fpn.parameters())
