"""Folding a frozen norm into its convolution changes nothing; norms are of the file's kind."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from detkit.backbones.backbone import conv_norm, run_chain
from detkit.backbones.build import build as build_both
from detkit.backbones.norms import fold_norms, freeze_norms, match_norms


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


def shaken(norm: nn.Module) -> nn.Module:
    norm.weight.data.uniform_(-1.5, 1.5)
    norm.bias.data.normal_()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 2)
    return norm


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2, 4]),
    dilation=st.sampled_from([1, 2]),
    bias=st.booleans(),
    eps=st.sampled_from([1e-5, 1e-3]),
    seed=st.integers(0, 1000),
)
def test_folded_equals_unfolded_and_so_does_its_gradient(
    kernel, stride, groups, dilation, bias, eps, seed
):
    torch.manual_seed(seed)
    conv = nn.Conv2d(4, 8, kernel, stride, kernel // 2, groups=groups, dilation=dilation, bias=bias)
    norm = shaken(FrozenBatchNorm2d(8, eps))
    x = torch.randn(2, 4, 11, 12)
    ours, theirs = conv_norm(x, conv, norm), norm(conv(x))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), list(conv.parameters())),
        torch.autograd.grad((theirs * weight).sum(), list(conv.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_frozen_norm_costs_no_operation_of_its_own():
    conv, norm = nn.Conv2d(3, 8, 3), shaken(FrozenBatchNorm2d(8))
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    assert type(conv_norm(x, conv, norm).grad_fn).__name__ == "ConvolutionBackward0"


def test_a_trainable_norm_stays_one():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
    x = torch.randn(4, 3, 8, 8)
    out = conv_norm(x, conv, norm)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
    assert norm.num_batches_tracked == 1


def test_a_norm_that_is_not_behind_a_convolution_runs_by_itself():
    torch.manual_seed(0)
    first, second = shaken(FrozenBatchNorm2d(3)), shaken(FrozenBatchNorm2d(8))
    conv, relu = nn.Conv2d(3, 8, 3), nn.ReLU()
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(
        run_chain([first, conv, relu, second], x), second(relu(conv(first(x))))
    )
    torch.testing.assert_close(
        run_chain([conv, conv_1x1 := nn.Conv2d(8, 8, 1)], x), conv_1x1(conv(x))
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "googlenet", "mobilenet_v2", "darknet53"])
def test_frozen_and_folded_networks_equal_the_plain_one(name):
    torch.manual_seed(0)
    plain = build(name, width=0.25).eval()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            shaken(module).weight.data.abs_()
    count = sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    frozen = copy.deepcopy(plain)
    assert len(freeze_norms(frozen)) == count
    folded = copy.deepcopy(frozen)
    assert fold_norms(folded) == count
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        x = torch.randn(1, 3, 65, 64)
        for other in (frozen, folded):
            for level, expected in plain(x).items():
                scale = expected.abs().max()
                ours = other(x)[level]
                torch.testing.assert_close(ours / scale, expected / scale, rtol=0, atol=1e-5)


def test_norms_that_several_gpus_share_freeze_and_fold_like_any_other():
    torch.manual_seed(0)
    plain = build("resnet18", width=0.25).eval()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            shaken(module).weight.data.abs_()
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    count = sum(isinstance(m, nn.SyncBatchNorm) for m in synced.modules())
    assert len(freeze_norms(synced)) == fold_norms(synced) == count > 5
    with torch.no_grad():
        x = torch.randn(1, 3, 65, 64)
        for level, expected in plain(x).items():
            torch.testing.assert_close(synced(x)[level], expected, rtol=1e-4, atol=1e-4)


def test_freezing_keeps_epsilon_statistics_and_names():
    torch.manual_seed(0)
    net = build("googlenet", width=0.25)
    before = {k: v for k, v in net.state_dict().items() if not k.endswith("tracked")}
    freeze_norms(net, lambda name: name.startswith("inception3a"))
    after = net.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert {m.eps for m in net.modules() if isinstance(m, FrozenBatchNorm2d)} == {0.001}
    lost = {key for key in before.keys() ^ after.keys() if not key.endswith("tracked")}
    assert not lost
    assert "conv1.bn.num_batches_tracked" in after
    assert "inception3a.branch1.bn.num_batches_tracked" not in after


@pytest.mark.parametrize("start", ["frozen", "train"])
def test_norms_match_a_checkpoint_of_mixed_ones(start):
    torch.manual_seed(0)
    saved = build("resnet18_fpn", width=0.25, frozen_stages=2, fpn_channels=8)
    state = saved.state_dict()
    fresh = build("resnet18_fpn", width=0.25, norm=start, fpn_channels=8)
    assert match_norms(fresh, state)
    fresh.load_state_dict(state, strict=True)
    kinds = [{n: type(m) for n, m in net.named_modules()} for net in (saved, fresh)]
    assert kinds[0] == kinds[1]
    assert set(kinds[0].values()) >= {nn.BatchNorm2d, FrozenBatchNorm2d}
    assert match_norms(fresh, state) == []


def test_norms_that_a_checkpoint_lacks_stay_as_they_are():
    net = build("resnet18", width=0.25)
    assert match_norms(net, {"bn1.running_mean": torch.zeros(16)}) == ["bn1"]
    assert isinstance(net.bn1, FrozenBatchNorm2d)
    assert isinstance(net.layer1[0].bn1, nn.BatchNorm2d)


def test_half_precision_maps_stay_finite_under_autocast():
    torch.manual_seed(0)
    net = build("googlenet_2014", width=0.25)
    with torch.autocast("cpu", torch.bfloat16):
        maps = net(torch.randn(1, 3, 64, 64) * 100)
    assert all(m.dtype == torch.bfloat16 and m.isfinite().all() for m in maps.values())
