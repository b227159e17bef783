"""Ridge regression from streamed sums against one solve with all rows."""

import numpy as np
import torch

from detkit.ops.ridge import Ridge


def test_it_equals_a_plain_solve():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 60, generator=generator) * 3 + 1
    y = x[:, :4] * 0.2 + torch.randn(3000, 4, generator=generator) + 5
    ridge = Ridge(60, 4)
    for some, wanted in zip(x.split(37), y.split(37), strict=True):
        ridge.add(some, wanted)
    weight, bias = ridge.solve(1000.0)
    rows, mean = np.c_[x.double().numpy(), np.ones(3000)], y.double().numpy().mean(0)
    # the rows of the penalty below those of the data
    tall = np.r_[rows, np.sqrt(1000.0) * np.eye(61)]
    plain = np.linalg.lstsq(tall, np.r_[y.double().numpy() - mean, np.zeros((61, 4))], rcond=None)[
        0
    ]
    np.testing.assert_allclose(weight.numpy(), plain[:-1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(bias.numpy(), plain[-1] + mean, rtol=1e-5)


def test_without_rows_boxes_stay_as_they_are():
    weight, bias = Ridge(5, 4).solve(1.0)
    assert not weight.any()
    assert not bias.any()
