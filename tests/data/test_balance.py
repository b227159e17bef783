"""Class weights by arithmetic; repetition is tested with the order, in test_loading.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detkit.data import memory, open_dataset
from detkit.data.balance import class_weights, repeat_factors
from detkit.data.formats.shapes import read
from detkit.errors import DetkitError


def counted(*counts):
    """Records with so many objects of each class, in one image each."""
    records = memory.synthetic(sum(counts), 1)
    labels = np.repeat(np.arange(len(counts)), counts)
    return replace(records, labels=labels, names=tuple(f"{k}" for k in range(len(counts))))


def test_weights_are_inverse_to_the_root_of_the_counts_and_average_one_over_objects():
    """4 and 16 objects: 1/2 and 1/4, times s with 4 s/2 + 16 s/4 = 20, so s = 10/3."""
    weights = class_weights(counted(4, 16))
    np.testing.assert_allclose(weights, [5 / 3, 5 / 6], rtol=1e-6)
    assert weights.dtype == torch.float32


def test_a_class_that_does_not_occur_weighs_one():
    weights = class_weights(counted(5, 0, 5))
    np.testing.assert_allclose(weights, [1, 1, 1], rtol=1e-6)
    none = class_weights(counted(3).keep_objects(np.zeros(3, bool)))
    assert none.tolist() == [1]


def test_crowds_are_not_counted():
    records = counted(4, 16)
    crowd = np.arange(20) >= 8  # four of the second class are left
    np.testing.assert_allclose(class_weights(replace(records, crowd=crowd)), [1, 1], rtol=1e-6)


def test_pixel_weights_count_pixels_and_leave_out_void():
    records = read(None, "train", needs=frozenset({"pixels"}), images=True, train_images=6, size=48)
    counts = sum(np.bincount(records.pixels(i).ravel(), minlength=5) for i in range(6))
    weights = class_weights(records, needs={"pixels"}).double()
    np.testing.assert_allclose(weights, counts.sum() / counts**0.5 / (counts**0.5).sum(), rtol=1e-5)
    void = replace(records, render_pixels=lambda number: np.full((48, 48), 255, np.uint8))
    assert class_weights(void, needs={"pixels"}).tolist() == [1] * 5


def test_a_class_of_crowds_alone_is_not_repeated():
    records = counted(19, 1)
    assert repeat_factors(records, 0.5)[19] > 1
    assert (repeat_factors(replace(records, crowd=records.labels == 1), 0.5) == 1).all()


def test_an_unknown_threshold_is_refused():
    with pytest.raises(DetkitError, match="repeat_thresh is 2"):
        repeat_factors(counted(1), 2)


def test_repeating_what_has_no_objects_is_refused(shared):
    pixels = open_dataset({"root": shared / "camvid"}, "val", needs=frozenset({"pixels"}))
    with pytest.raises(DetkitError, match="these data have none"):
        repeat_factors(pixels, 0.1)
