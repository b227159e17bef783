"""The challenge's errors and boundary IoU beside slow definitions of them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from detkit.errors import DetkitError
from detkit.evaluation.boundaries import boundary, count_boundaries
from detkit.evaluation.membranes import (
    NEIGHBOURS,
    SIMPLE,
    MembraneEvaluator,
    rand_error,
    warping_error,
)
from detkit.predictions import Segmentation
from detkit.structures import Frame


def regions(mask: np.ndarray, connectivity: int = 4) -> np.ndarray:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)[1]


def test_the_rand_error_is_that_of_all_pairs_of_pixels():
    rng = np.random.default_rng(0)
    for _ in range(10):
        truth, found = (rng.random((2, 6, 7)) < 0.7)[:]
        first, second = regions(truth), regions(found)
        second[~found] = 1000 + np.arange(second.size).reshape(second.shape)[~found]
        a, b = first[truth], second[truth]
        both = sum(
            x == y and u == v for x, u in zip(a, b, strict=True) for y, v in zip(a, b, strict=True)
        )
        of_a = sum(x == y for x in a for y in a)
        of_b = sum(u == v for u in b for v in b)
        assert rand_error(truth, found) == pytest.approx(1 - 2 * both / (of_a + of_b))
    assert rand_error(truth, truth) == 0
    assert rand_error(np.zeros((3, 3), bool), truth[:3, :3]) is None


def test_a_simple_point_changes_no_component():
    for code in range(256):
        ring = np.zeros((3, 3), bool)
        for i, (y, x) in enumerate(NEIGHBOURS):
            ring[1 + y, 1 + x] = code >> i & 1
        cells = regions(ring)
        touching = {cells[0, 1], cells[1, 0], cells[1, 2], cells[2, 1]} - {0}
        membrane = ~ring
        membrane[1, 1] = False
        simple = len(touching) == 1 and regions(membrane, 8).max() == 1
        assert SIMPLE[code] == simple, code


def two_cells() -> np.ndarray:
    cells = np.zeros((30, 40), bool)
    cells[3:27, 3:19] = cells[3:27, 21:37] = True
    return cells


def test_the_warping_error_forgives_shifts_and_counts_topology():
    truth = two_cells()
    shifted = np.roll(truth, 1, 1)
    assert warping_error(truth, truth) == warping_error(truth, shifted) == 0
    merged = truth.copy()
    merged[14, 19:21] = True
    assert warping_error(truth, merged) == 1 / truth.size  # one pixel less would keep them apart
    lost = truth.copy()
    lost[:, 20:] = False
    assert warping_error(truth, lost) == 1 / truth.size  # a cell shrinks to its last pixel
    holed = truth.copy()
    holed[10, 10] = False
    assert warping_error(truth, holed) == 1 / truth.size
    assert warping_error(lost, truth) > 0.2  # a cell that is not there grows from no pixel


def test_the_warped_truth_keeps_its_topology():
    rng = np.random.default_rng(1)
    truth = two_cells()
    noise = cv2.GaussianBlur(rng.standard_normal((30, 40)), (0, 0), 2) > 0
    error = warping_error(truth, noise)
    assert 0 < error <= (truth != noise).mean()


@pytest.fixture
def slices(make_records):
    truth = np.stack([two_cells(), np.roll(two_cells(), 2, 0)]).astype(np.uint8)
    truth[0, 0] = 255
    return replace(
        make_records([[], []]),
        names=("membrane", "cell", "nucleus"),
        render_pixels=lambda i: truth[i],
        integer_ids=True,
    )


def test_the_evaluator_finds_the_best_threshold(slices):
    one, *parts = (MembraneEvaluator(slices, "membrane", 0.5) for _ in range(3))
    for i in range(2):
        cell = torch.from_numpy((slices.pixels(i) == 1).astype(np.float32))
        sure = 0.15 + 0.2 * cell  # cells are 0.35, membranes 0.15
        logits = torch.stack([(1 - sure).log(), sure.log(), torch.full_like(sure, -30.0)])
        for evaluator in (one, parts[i]):
            evaluator.add([Frame(i, i, "", (30, 40), (30, 40))], [Segmentation(logits)])
    parts[0].merge([part.state() for part in parts])
    result = one.result()
    assert parts[0].result() == result
    cells = two_cells().mean()
    assert result["membrane/pixel_error"] == pytest.approx((cells * 1200 / 1160 + cells) / 2)
    assert result["membrane/best/pixel_error"] == 0
    assert 0.15 <= result["membrane/best_thresh/pixel_error"] < 0.35
    assert result["membrane/best/rand_error"] == result["membrane/best/warping_error"] == 0
    assert "warping error" in one.table(result)


def test_an_unknown_membrane_is_named(slices):
    with pytest.raises(DetkitError, match="Did you mean membrane"):
        MembraneEvaluator(slices, "membran")


def test_boundaries_are_what_erosion_takes_away():
    rng = np.random.default_rng(0)
    for distance in (1, 2, 4):
        mask = cv2.GaussianBlur(rng.standard_normal((40, 50)), (0, 0), 3) > 0
        padded = np.pad(mask, 1).astype(np.uint8)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
        assert (boundary(mask, distance) == (mask & ~eroded.astype(bool))).all()


def test_boundary_counts_are_those_of_whole_masks():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 3, (2, 12, 16)).repeat(5, 1).repeat(5, 2).astype(np.uint8)
    truth[:7] = 255
    distance = 2  # 2 % of 100 pixels
    counts = count_boundaries(truth, found, 4)
    for k in range(3):
        a = boundary(truth == k, distance)
        b = boundary((found == k) & (truth != 255), distance)
        assert counts[:, k].tolist() == [(a & b).sum(), (a | b).sum()]
    assert not counts[:, 3].any()
