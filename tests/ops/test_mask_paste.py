"""Pasting: PyTorch's own sampler as the reference, the place, and memory of the box alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from detkit.ops.mask_paste import paste


def whole(cells: np.ndarray, box, size: tuple[int, int]) -> np.ndarray:
    image = np.zeros(size, bool)
    rows, columns, mask = paste(cells, box, size)
    image[rows, columns] = mask
    return image


def sampled(cells: np.ndarray, box, size: tuple[int, int]) -> np.ndarray:
    """Every pixel's centre looked up in the box by `grid_sample`, zero outside; probabilities."""
    x1, y1, x2, y2 = box
    x = (torch.arange(size[1]).double() + 0.5 - x1) / (x2 - x1) * 2 - 1
    y = (torch.arange(size[0]).double() + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1)
    values = F.grid_sample(
        torch.from_numpy(cells).double()[None, None], grid[None], align_corners=False
    )
    return values[0, 0].numpy()


def test_it_equals_pytorchs_sampler_wherever_the_box_lies():
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(300):
        corner, side = rng.uniform(-20, 50, 2), rng.uniform(0.5, 60, 2)
        cells = rng.random((int(rng.integers(1, 29)),) * 2).astype(np.float32)
        box = [*corner, *(corner + side)]
        values = sampled(cells, box, (40, 55))
        sure = np.abs(values - 0.5) > 1e-5
        assert (whole(cells, box, (40, 55)) == (values >= 0.5))[sure].all()
        compared += (values >= 0.5).sum()
    assert compared > 10_000


def test_a_full_map_fills_its_box_and_nothing_else():
    mask = whole(np.ones((28, 28), np.float32), [3, 5, 13, 11], (20, 30))
    expected = np.zeros((20, 30), bool)
    expected[5:11, 3:13] = True
    assert (mask == expected).all()


def test_only_the_box_is_in_memory():
    rows, columns, mask = paste(np.ones((28, 28)), [1e4, 2e4, 1e4 + 5, 2e4 + 3], (10**6, 10**6))
    assert mask.shape == (3, 5)
    assert (rows.start, columns.start) == (20_000, 10_000)


@pytest.mark.parametrize(
    "box", [[5, 5, 5, 9], [9, 5, 5, 9], [-9, -9, -1, -1], [50, 2, 60, 9], [float("nan")] * 4]
)
def test_a_box_without_pixels_has_no_mask(box):
    assert not whole(np.ones((28, 28)), box, (20, 30)).any()
