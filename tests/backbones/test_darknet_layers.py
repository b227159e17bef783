"""Darknet's layers beside its own arithmetic, written as loops over memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from detkit.backbones.darknet_modules import ACTIVATIONS, MaxPool, Reorg, Route, Shortcut


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [None, 0, 1, 2])
def test_max_pool_equals_the_loop(size, stride, padding):
    x = random(1, 2, 14, 17)
    total = size - 1 if padding is None else padding
    rows, columns = ((n + total - size) // stride + 1 for n in (14, 17))
    if (total + 1) // 2 >= size or min(rows, columns) < 1:
        return  # a window would see padding alone: the reader refuses that
    expected = torch.empty(1, 2, rows, columns)
    for row, column in itertools.product(range(rows), range(columns)):
        top, left = row * stride - total // 2, column * stride - total // 2
        inside = x[..., max(top, 0) : top + size, max(left, 0) : left + size]
        expected[..., row, column] = inside.amax((2, 3))
    assert torch.equal(MaxPool(size, stride, padding)(x), expected)


def test_a_pool_of_size_2_keeps_the_sides_at_stride_1_and_halves_odd_ones_upwards():
    assert MaxPool(2, 1)(torch.zeros(1, 1, 13, 13)).shape[2:] == (13, 13)
    assert MaxPool(2, 2)(torch.zeros(1, 1, 13, 13)).shape[2:] == (7, 7)


@pytest.mark.parametrize("stride", [2, 4])
def test_reorg_equals_the_loop_over_memory(stride):
    channels, height, width = 2 * stride**2, 2 * stride, 3 * stride
    x = random(2, channels, height, width)
    memory, expected = x.numpy().ravel(), np.empty(x.numel(), np.float32)
    inner = channels // stride**2
    for b, k, j, i in itertools.product(range(2), range(channels), range(height), range(width)):
        channel, place = k % inner, k // inner
        row, column = j * stride + place // stride, i * stride + place % stride
        source = column + width * stride * (
            row + height * stride * (channel + inner * b)
        )  # as if the map had fewer channels and longer sides
        expected[i + width * (j + height * (k + channels * b))] = memory[source]
    found = Reorg(stride)(x)
    assert found.shape == (2, channels * stride**2, height // stride, width // stride)
    assert np.array_equal(found.numpy().ravel(), expected)


@pytest.mark.parametrize(
    ("shape", "added"),
    [
        ((4, 6, 6), (4, 6, 6)),
        ((4, 6, 6), (7, 6, 6)),
        ((7, 6, 6), (4, 6, 6)),
        ((4, 6, 6), (4, 12, 12)),
        ((4, 12, 12), (3, 6, 6)),
    ],
)
def test_a_shortcut_equals_the_loop(shape, added):
    x, y = random(2, *shape), random(2, *added)
    expected = x.clone()
    stride, sample = max(1, added[1] // shape[1]), max(1, shape[1] // added[1])
    least = [min(a, b) for a, b in zip(shape, added, strict=True)]
    for k, j, i in itertools.product(*map(range, least)):
        expected[:, k, j * sample, i * sample] += y[:, k, j * stride, i * stride]
    before = x.clone()
    assert torch.equal(Shortcut(nn.Identity())(x, y), expected)
    assert torch.equal(x, before)  # other layers may read it


def test_a_route_takes_one_group_of_each_map():
    x, y = random(1, 4, 3, 3), random(1, 8, 3, 3)
    assert torch.equal(Route(2, 1)(x, y), torch.cat([x[:, 2:], y[:, 4:]], 1))
    assert torch.equal(Route(1, 0)(x), x)
    wider = torch.nn.functional.pad(y, (0, 1, 0, 2), value=5.0)
    assert torch.equal(Route(1, 0)(x, wider), torch.cat([x, y], 1))


def test_activations_are_darknets():
    x = torch.linspace(-8, 8, 33, dtype=torch.float64)
    softplus = (1 + x.exp()).log()
    expected = {
        "leaky": torch.where(x > 0, x, 0.1 * x),
        "linear": x,
        "logistic": 1 / (1 + (-x).exp()),
        "mish": x * softplus.tanh(),
        "relu": x.clamp(min=0),
        "relu6": x.clamp(0, 6),
        "swish": x / (1 + (-x).exp()),
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, values in expected.items():
        torch.testing.assert_close(ACTIVATIONS[name]()(x.clone()), values)
