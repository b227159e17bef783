"""Windows and their bins against plain loops."""

import random

import torch

from detkit.ops.spatial_pyramid import BINS, block_maxima, spatial_pyramid, windows


def loop(features: torch.Tensor, cells: list[int]) -> torch.Tensor:
    """(C · 50,) of one window; whole-number arithmetic."""
    x0, y0, x1, y1 = cells
    width, height = x1 - x0 + 1, y1 - y0 + 1
    parts = []
    for n in BINS:
        found = torch.zeros(len(features), n, n)
        for i in range(n):
            for j in range(n):
                rows = range(y0 + i * height // n, y0 - (-(i + 1) * height // n))
                columns = range(x0 + j * width // n, x0 - (-(j + 1) * width // n))
                bin_ = [features[:, r, c] for r in rows for c in columns]
                found[:, i, j] = torch.stack(bin_).amax(0)
        parts.append(found.flatten())
    return torch.cat(parts)


def pyramid(features: torch.Tensor, cells: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return spatial_pyramid(block_maxima(features, cells), cells, image)


def test_it_equals_the_loop():
    rng = random.Random(0)
    for _ in range(100):
        height, width = rng.randint(1, 24), rng.randint(1, 24)
        features = torch.randn(2, 2, height, width)
        cells, image = [], []
        for _ in range(10):
            x, y = (sorted(rng.choices(range(n), k=2)) for n in (width, height))
            cells.append([x[0], y[0], x[1], y[1]])
            image.append(rng.randint(0, 1))
        found = pyramid(features, torch.tensor(cells), torch.tensor(image))
        wanted = [loop(features[i], c) for i, c in zip(image, cells, strict=True)]
        assert torch.equal(found, torch.stack(wanted))


def test_bins_of_wide_windows_are_exact():
    """Every width up to a photo's is tried."""
    for width in range(1, 260):
        features = torch.arange(float(width)).expand(1, 1, 1, width)
        found = pyramid(features, torch.tensor([[0, 0, width - 1, 0]]), torch.tensor([0]))
        last = [-(-(j + 1) * width // n) - 1 for n in BINS for _ in range(n) for j in range(n)]
        assert found[0].tolist() == last


def test_a_window_holds_the_cells_whose_centres_are_inside():
    rng = random.Random(1)
    stride, height, width = 16, 9, 12
    for _ in range(1000):
        x = sorted(rng.uniform(0, stride * width) for _ in range(2))
        y = sorted(rng.uniform(0, stride * height) for _ in range(2))
        box = torch.tensor([[x[0], y[0], x[1], y[1]]])
        (cells,) = windows(box, stride, height, width).tolist()
        axes = (x, *cells[::2], width), (y, *cells[1::2], height)
        for (low, high), first, last, number in axes:
            inside = [i for i in range(number) if low < i * stride + 0.5 < high]
            if inside:
                assert (first, last) == (inside[0], inside[-1])
            else:  # one cell, as near as any
                assert first == last
                gaps = [abs((low + high) / 2 - i * stride - 0.5) for i in range(number)]
                assert gaps[first] <= min(gaps) + 1e-3
