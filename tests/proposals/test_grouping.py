"""Grouping beside a slow twin that keeps sets of pixels and compares every pair of neighbours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from detkit.proposals.graph import segment
from detkit.proposals.grouping import UNIT, group
from detkit.proposals.regions import Regions, describe, pixel_bins

MEASURES = ("CTSF", "TSF", "F", "S", "C", "T")


def slow_group(labels, bins, measures):
    """Boxes and parts of all regions, as algorithm 1 of the paper says."""
    height, width = labels.shape
    channels = bins.colours.shape[1]
    masks = [labels == n for n in range(labels.max() + 1)]

    def histograms(mask):
        rows = mask.ravel()
        colours = [np.bincount(bins.colours[rows, c], minlength=25) for c in range(channels)]
        textures = []
        for c, orientation in itertools.product(range(channels), range(8)):
            codes = bins.textures[rows, 4 * c + orientation % 4].astype(int)
            steep = np.where(codes // 10 == orientation, codes % 10, 0)
            textures.append(np.bincount(steep, minlength=10))
        unit = UNIT / (int(mask.sum()) * channels)
        return [
            [int(count * scale) for count in np.concatenate(part).tolist()]
            for part, scale in ((colours, unit), (textures, unit / 8))
        ]

    def box(mask):
        ys, xs = np.nonzero(mask)
        return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1

    def touch(a, b):
        grown = np.zeros((height + 2, width + 2), bool)
        for dy, dx in itertools.product(range(3), range(3)):
            grown[dy : dy + height, dx : dx + width] |= a
        return (grown[1:-1, 1:-1] & b).any()

    def alike(a, b):
        together, area = masks[a] | masks[b], height * width
        x1, y1, x2, y2 = map(int, box(together))
        size = int(together.sum())
        intersections = [
            sum(map(min, one, other)) / UNIT
            for one, other in zip(described[a], described[b], strict=True)
        ]
        values = {
            "C": intersections[0],
            "T": intersections[1],
            "S": 1 - size / area,
            "F": 1 - ((x2 - x1) * (y2 - y1) - size) / area,
        }
        return sum(values[letter] for letter in "CTSF" if letter in measures)

    described = [histograms(mask) for mask in masks]
    alive = set(range(len(masks)))
    pairs = {(a, b) for a, b in itertools.combinations(alive, 2) if touch(masks[a], masks[b])}
    scores = {pair: alike(*pair) for pair in pairs}
    parts = []
    while scores:
        a, b = min(scores, key=lambda pair: (-scores[pair], pair))
        new = len(masks)
        parts.append((a, b))
        masks.append(masks[a] | masks[b])
        described.append(histograms(masks[new]))
        alive -= {a, b}
        scores = {pair: score for pair, score in scores.items() if not {a, b} & set(pair)}
        scores |= {(c, new): alike(c, new) for c in alive if touch(masks[c], masks[new])}
        alive.add(new)
    return np.array([box(mask) for mask in masks]), np.array(parts).reshape(-1, 2)


@pytest.mark.parametrize("measures", MEASURES)
def test_hierarchies_are_those_of_the_slow_twin(measures):
    random = np.random.default_rng(0)
    joined = 0
    for case in range(6):
        height, width = random.integers(6, 22, 2)
        # few values: regions that are equally alike
        image = random.integers(0, (256, 3)[case % 2], (height, width, (3, 1)[case % 3 == 2]))
        image = (image * (1, 60)[case % 2]).astype(np.uint8)
        labels = segment(image, k=20, min_size=4)
        bins = pixel_bins(image)
        boxes, parts = slow_group(labels, bins, measures)
        found = group(describe(labels, bins), measures)
        np.testing.assert_array_equal(found.parts, parts)
        np.testing.assert_array_equal(found.boxes, boxes)
        joined += len(parts)
    assert joined > 50


def test_many_regions_around_one_leave_the_heap_room():
    """A star: each join makes the centre's neighbours' similarities anew, so the heap overflows."""
    n = 400
    pairs = np.stack([np.zeros(n - 1, np.int32), np.arange(1, n, dtype=np.int32)], 1)
    counts = np.random.default_rng(3).multinomial(64, np.full(25, 0.04), n).astype(np.int32)
    textures = np.zeros((n, 80), np.int32)
    textures[:, ::10] = 64
    boxes = np.stack([np.arange(n), np.zeros(n), np.arange(n) + 1, np.full(n, 64)], 1)
    sizes = np.full(n, 64, np.int32)
    found = group(Regions(sizes, boxes.astype(np.int32), counts, textures, pairs), "C")
    centre, centre_counts, leaves = 0, counts[0].astype(np.int64), np.arange(1, n)
    wanted = []
    for new in range(n, 2 * n - 1):  # the centre takes the most alike leaf, of equal ones the first
        shares = [
            (c * (UNIT / c.sum(-1, keepdims=True))).astype(np.int64)
            for c in (centre_counts, counts[leaves])
        ]
        best = int(np.argmax(np.minimum(*shares).sum(1)))
        wanted.append(sorted((centre, int(leaves[best]))))
        centre, centre_counts = new, centre_counts + counts[leaves[best]]
        leaves = np.delete(leaves, best)
    assert [sorted(pair) for pair in found.parts.tolist()] == wanted
    assert found.boxes[-1].tolist() == [0, 0, n, 64]


def test_one_region_is_a_hierarchy_of_one():
    image = np.full((5, 4, 3), 9, np.uint8)
    found = group(describe(np.zeros((5, 4), np.int32), pixel_bins(image)), "CTSF")
    assert found.boxes.tolist() == [[0, 0, 4, 5]]
    assert found.parts.shape == (0, 2)
