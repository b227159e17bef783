"""LeNet-5 beside the paper's numbers and a loop, and AlexNet's groups and normalisation."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from detkit.backbones.build import COARSEST, build
from detkit.backbones.lenet import TABLE, LeNet5, ScaledTanh, Subsampling, TableConv


def parameters(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def test_it_has_the_papers_parameters_layer_by_layer():
    net, tail = build("lenet5", in_channels=1, levels=[COARSEST], tail=True)
    assert isinstance(net, LeNet5)
    counts = {name: parameters(part) for name, part in net.named_children()}
    counts["c3"] -= int((net.c3.seen == 0).sum()) * 25
    # section II.B: 156, 12, 1,516, 32, 48,120 and 10,164 parameters
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "tanh": 0}
    c5, f6 = parameters(tail.classifier[0]), parameters(tail.classifier[2])
    assert (c5, f6) == (48_120, 10_164)
    assert sum(counts.values()) + c5 + f6 == 60_000


def test_maps_have_the_papers_sizes():
    net, tail = build("lenet5", in_channels=1, levels=[COARSEST], tail=True)
    whole, _ = build("lenet5", in_channels=1)
    digits = torch.rand(2, 1, 28, 28)
    shapes = {level: tuple(found.shape[1:]) for level, found in whole(digits).items()}
    assert shapes == {"0": (6, 28, 28), "1": (6, 14, 14), "2": (16, 5, 5)}  # C1, S2, S4
    assert tail(net(digits)["2"]).shape == (2, 84)


def test_each_map_of_c3_sees_those_of_the_table():
    torch.manual_seed(0)
    conv = TableConv(6, 16, 5)
    x = torch.rand(1, 6, 14, 14)
    with torch.no_grad():
        found = conv(x)
        for k, maps in enumerate(TABLE):
            weight, bias = conv.weight[k : k + 1, list(maps)], conv.bias[k : k + 1]
            one = F.conv2d(x[:, list(maps)], weight, bias)
            torch.testing.assert_close(found[:, k : k + 1], one)
    assert sum(map(len, TABLE)) == 60  # 6 of three maps, 9 of four, one of all


def test_subsampling_and_tanh_equal_the_papers_formulas():
    layer = Subsampling(1)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.fill_(1.0)
        # 0 + 1 + 4 + 5 = 10, half of it and one is 6
        assert layer(x).flatten().tolist() == [6.0, 10.0, 22.0, 26.0]
    ends = ScaledTanh()(torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(ends, torch.tensor([1.0, -1.0]), rtol=0, atol=1e-4)


def test_background_and_ink_are_what_the_paper_feeds():
    net, _ = build("lenet5", in_channels=1)
    (mean,), (std,) = net.normalization.mean, net.normalization.std
    assert abs((0 - mean) / std + 0.1) < 1e-6
    assert abs((1 - mean) / std - 1.175) < 1e-6


def test_alexnet_of_2012_equals_the_papers_layers():
    torch.manual_seed(0)
    net, _ = build("alexnet_2012", width=0.25)
    weights = [m for m in net.features if isinstance(m, nn.Conv2d)]
    assert [m.groups for m in weights] == [1, 2, 1, 2, 2]
    x = torch.randn(1, 3, 224, 224)
    maps = net(x)
    assert [found.shape[2] for found in maps.values()] == [55, 27, 13, 6]  # figure 2's, and pool5
    first = F.relu(F.conv2d(x, weights[0].weight, weights[0].bias, 4, 2)).double()
    scale = torch.empty_like(first)
    for i in range(first.shape[1]):  # section 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75
        low, high = max(0, i - 2), min(first.shape[1], i + 3)
        scale[:, i] = (2 + 1e-4 * (first[:, low:high] ** 2).sum(1)) ** 0.75
    torch.testing.assert_close(maps["2"].double(), first / scale, rtol=1e-4, atol=1e-5)
