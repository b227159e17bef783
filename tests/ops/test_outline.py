"""Outlines beside COCO's rasteriser: what they cover is the mask, pixel for pixel."""

import numpy as np
import pytest
from pycocotools import mask as coco

from detkit.ops.outline import polygon, rings


def covered(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    runs = coco.frPyObjects([corners.astype(float).ravel().tolist()], height, width)
    return coco.decode(coco.merge(runs)).astype(bool)


def test_a_rectangle_has_four_corners():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    (ring,) = rings(mask)
    assert sorted(ring.tolist()) == [[2, 1], [2, 4], [7, 1], [7, 4]]
    assert len(polygon(mask)) == 4


def test_any_mask_comes_back_from_its_polygon():
    """Blobs of several parts, with holes, touching the border and each other's corners."""
    rng = np.random.default_rng(0)
    for case in range(60):
        height, width = rng.integers(1, 14, 2)
        mask = rng.random((height, width)) < (0.3, 0.5, 0.8)[case % 3]
        if mask.any():
            assert np.array_equal(covered(polygon(mask), height, width), mask), case
    assert len(polygon(np.zeros((3, 3), bool))) == 0


@pytest.mark.parametrize("hole", [False, True])
def test_parts_and_holes_are_rings_of_their_own(hole):
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    if hole:
        mask[3:5, 3:5] = False
    assert len(rings(mask)) == 1 + hole
