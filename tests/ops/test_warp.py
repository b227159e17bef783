"""Warped regions against a loop over their pixels."""

import math

import torch

from detkit.ops.warp import warp


def pixel(image: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """The (C,) value at a point, pixels' centres at halves, zero outside."""
    value = torch.zeros(len(image), dtype=torch.float64)
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - abs(x - 0.5 - column)) * (1 - abs(y - 0.5 - row))
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                value += weight * image[:, row, column].double()
    return value


def loop(image: torch.Tensor, box: list[float], side: int, context: int) -> torch.Tensor:
    x0, y0, x1, y1 = box
    inner = side - 2 * context
    out = torch.zeros(len(image), side, side, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            x = x0 + (j + 0.5 - context) * (x1 - x0) / inner
            y = y0 + (i + 0.5 - context) * (y1 - y0) / inner
            out[:, i, j] = pixel(image, x, y)
    return out.float()


def test_it_equals_the_loop():
    generator = torch.Generator().manual_seed(0)
    for case in range(40):
        images = torch.randn(2, 2, 13, 17, generator=generator)
        low = torch.rand(5, 2, generator=generator) * 14 - 2
        rois = torch.cat([low, low + torch.rand(5, 2, generator=generator) * 12 + 0.1], 1)
        image = torch.randint(0, 2, (5,), generator=generator).sort().values
        side, context = 5 + case % 4, case % 3
        found = warp(images, rois, image, side, context)
        wanted = [
            loop(images[i], roi, side, context)
            for roi, i in zip(rois.tolist(), image.tolist(), strict=True)
        ]
        torch.testing.assert_close(found, torch.stack(wanted), atol=2e-5, rtol=1e-4)


def test_a_region_of_its_own_size_is_copied_with_what_is_around_it():
    image = torch.arange(100.0).reshape(1, 1, 10, 10)
    found = warp(image, torch.tensor([[3.0, 4, 7, 8]]), torch.tensor([0]), 8, 2)
    torch.testing.assert_close(found[0, 0], image[0, 0, 2:10, 1:9])


def test_no_region_at_all():
    none = torch.zeros(0, 4)
    found = warp(torch.zeros(2, 3, 9, 9), none, torch.zeros(0, dtype=torch.int64), 8, 1)
    assert found.shape == (0, 3, 8, 8)
