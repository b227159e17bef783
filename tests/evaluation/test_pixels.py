"""Pixel metrics beside a loop over pixels and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detkit.errors import DetkitError
from detkit.evaluation.pixels import count, pixels


def test_random_masks_equal_the_loop():
    rng = np.random.default_rng(1)
    for _ in range(20):
        classes = int(rng.integers(2, 5))
        masks = [rng.integers(0, classes, (2, *rng.integers(1, 9, 2))) for _ in range(3)]
        masks = [m.astype(np.uint8) for m in masks]
        for truth, _ in masks:
            truth[rng.random(truth.shape) < 0.2] = 255
        counts = sum(count(truth, predicted, classes) for truth, predicted in masks)
        got = pixels(counts, [str(k) for k in range(classes)])
        pairs = [
            (int(t), int(p))
            for truth, predicted in masks
            for t, p in zip(truth.ravel(), predicted.ravel(), strict=True)
            if t != 255
        ]
        values = []
        for k in range(classes):
            both = sum(t == p == k for t, p in pairs)
            either = sum(k in pair for pair in pairs)
            if any(t == k for t, _ in pairs):
                values.append(both / either)
                assert got[f"pixels/IoU/{k}"] == pytest.approx(both / either)
            else:
                assert got[f"pixels/IoU/{k}"] is None
        assert got["pixels/mIoU"] == pytest.approx(np.mean(values) if values else None)
        right = sum(t == p for t, p in pairs)
        assert got["pixels/accuracy"] == pytest.approx(right / len(pairs) if pairs else None)


def test_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, 255, 255, 1]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [1, 0, 1, 0]], np.uint8)
    result = pixels(count(truth, predicted, 2), ["a", "b"])
    assert result["pixels/IoU/a"] == 2 / 4  # 2 right, 1 missed, 1 of class b taken for it
    assert result["pixels/IoU/b"] == 2 / 4
    assert result["pixels/accuracy"] == 4 / 6


def test_only_ignored_pixels_measure_nothing():
    void = np.full((2, 2), 255, np.uint8)
    result = pixels(count(void, np.zeros((2, 2), np.uint8), 2), ["a", "b"])
    assert set(result.values()) == {None}


def test_a_class_that_does_not_exist_is_named():
    with pytest.raises(DetkitError, match="class 7, but there are 3"):
        count(np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.uint8), 3)


def test_masks_of_another_size_are_named():
    with pytest.raises(DetkitError, match="3×2"):
        count(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 3)
