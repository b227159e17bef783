"""The compiled segmentation beside one written from the paper, node by node."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from detkit.proposals.graph import cut, grid_edges, segment, smooth


def slow_segment(image: np.ndarray, k: float, min_size: int) -> np.ndarray:
    """Felzenszwalb and Huttenlocher's algorithm with sets of pixels."""
    height, width = image.shape[:2]
    edges = []
    for y, x in itertools.product(range(height), range(width)):
        for direction, (down, right) in enumerate([(0, 1), (1, 0), (1, 1), (1, -1)]):
            y2, x2 = y + down, x + right
            if y2 < height and 0 <= x2 < width:
                squares = np.float32(0)
                for difference in image[y, x] - image[y2, x2]:
                    squares += difference * difference
                edges.append((float(np.sqrt(squares)), (y, x), direction, (y2, x2)))
    edges.sort(key=lambda edge: edge[:3])
    component = {(y, x): {(y, x)} for y in range(height) for x in range(width)}
    heaviest = {id(c): 0.0 for c in component.values()}

    def join(a, b, weight):
        a |= b
        heaviest[id(a)] = weight
        component.update(dict.fromkeys(b, a))

    for weight, one, _, other in edges:
        a, b = component[one], component[other]
        if a is not b and all(weight <= heaviest[id(c)] + k / len(c) for c in (a, b)):
            join(a, b, weight)
    for weight, one, _, other in edges:
        a, b = component[one], component[other]
        if a is not b and min(len(a), len(b)) < min_size:
            join(a, b, weight)
    names: dict[int, int] = {}
    rows = [[component[y, x] for x in range(width)] for y in range(height)]
    return np.array([[names.setdefault(id(c), len(names)) for c in row] for row in rows])


def images(channels: int, number: int):
    """Noise, noise of few values (many equal weights), and noisy halves."""
    random = np.random.default_rng(channels)
    for i in range(number):
        height, width = random.integers(1, 14, 2)
        image = random.integers(0, (256, 3, 20)[i % 3], (height, width, channels))
        image[: height // 2] += 100 * (i % 3 == 2)
        yield image.astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_segments_are_those_of_the_slow_twin(channels):
    random = np.random.default_rng(0)
    several = 0
    for image in images(channels, 60):
        k, min_size = float(random.choice([0.5, 20, 200])), int(random.integers(0, 9))
        found = segment(image, k=k, min_size=min_size, sigma=0)
        np.testing.assert_array_equal(found, slow_segment(image, k, min_size))
        several += found.max() > 2
    assert several > 15


def test_edges_are_all_edges_in_the_order_of_their_weights():
    image = np.random.default_rng(1).integers(0, 9, (13, 17, 3)).astype(np.float32)
    edges = grid_edges(image)
    assert len(edges.codes) == 13 * 16 + 12 * 17 + 2 * 12 * 16
    assert len(np.unique(edges.codes)) == len(edges.codes)
    np.testing.assert_array_equal(np.lexsort((edges.codes, edges.weights)), range(len(edges.codes)))


def test_halves_of_a_picture_are_two_segments_and_one_with_a_large_k():
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 10:] = 200
    found = segment(image, k=50, sigma=0)
    np.testing.assert_array_equal(found, np.tile(np.arange(30) >= 10, (20, 1)))
    assert segment(image, k=1e6).max() == 0
    assert segment(image, k=50, min_size=601).max() == 0


def test_no_segment_is_smaller_than_its_least_size():
    image = np.random.default_rng(2).integers(0, 256, (40, 50, 3), np.uint8)
    edges = grid_edges(smooth(image, 0.8))
    assert np.bincount(cut(edges, 10, 30).ravel()).min() >= 30
    assert np.bincount(cut(edges, 10, 0).ravel()).min() < 30


def test_smoothing_spreads_a_point_and_keeps_its_sum():
    image = np.zeros((15, 15, 1), np.uint8)
    image[7, 7] = 200
    spread = smooth(image, 0.8)
    assert spread.sum() == pytest.approx(200, rel=1e-4)
    beside = spread[7, 8, 0] / spread[7, 7, 0]
    assert beside == pytest.approx(np.exp(-1 / (2 * 0.8**2)), rel=1e-3)
    assert smooth(image[:1], 0.8).shape == (1, 15, 1)
