"""U-Net's contracting path is the one of figure 1."""

from __future__ import annotations

import torch
from torch import nn

from detkit.backbones.build import build as build_both


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


def test_channels_and_strides_are_figure_1s():
    encoder = build("unet_encoder")
    assert encoder.channels == {"0": 64, "1": 128, "2": 256, "3": 512, "4": 1024}
    assert encoder.strides == {"0": 1, "1": 2, "2": 4, "3": 8, "4": 16}


def test_without_batch_norm_it_is_ten_convolutions_and_four_pools():
    encoder = build("unet_encoder", batch_norm=False, width=0.125)
    kinds = [type(m) for m in encoder.modules() if not list(m.children())]
    assert kinds.count(nn.Conv2d) == 10
    assert kinds.count(nn.MaxPool2d) == 4
    assert nn.BatchNorm2d not in kinds
    assert all(m.bias is not None for m in encoder.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(1, 3, 32, 32)
    expected = x
    for level in "01234":
        for layer in encoder.get_submodule(f"stage{level}"):
            if isinstance(layer, nn.Conv2d):
                expected = nn.functional.conv2d(
                    expected, layer.weight, layer.bias, padding=1
                ).relu()
            elif isinstance(layer, nn.MaxPool2d):
                expected = nn.functional.max_pool2d(expected, 2)
        torch.testing.assert_close(encoder(x)[level], expected)
