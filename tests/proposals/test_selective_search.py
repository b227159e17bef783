"""Selective search as a whole: odd images, what its boxes are, and that they repeat."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from detkit.data.open import open_dataset
from detkit.errors import DetkitError
from detkit.evaluation.proposals import proposal_figures
from detkit.proposals.graph import segment
from detkit.proposals.regions import colour_space
from detkit.proposals.selective_search import MODES, hierarchies, selective_search

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return open_dataset({"name": "shapes", "val_images": 1}, "val").image(0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((1, 900, 3), np.uint8),
        np.arange(2000, dtype=np.uint8).reshape(2000, 1, 1).repeat(3, 2),
        np.full((40, 60, 3), 77, np.uint8),
        np.random.default_rng(0).integers(0, 256, (3, 50, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (30, 50, 1), np.uint8),
        np.random.default_rng(0).integers(0, 256, (30, 50), np.uint8),
        np.random.default_rng(0).random((30, 50, 3), np.float32),
    ],
    ids=["pixel", "row", "column", "uniform", "thin", "1 channel", "grey", "float"],
)
@pytest.mark.parametrize("width", [None, 200])
def test_odd_images_have_boxes_and_these_lie_inside(image, width):
    for mode in MODES:
        boxes = selective_search(image, mode=mode, width=width)
        assert (boxes.dtype, boxes.shape[1], len(boxes) > 0) == (np.float32, 4, True)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= image.shape[1::-1]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert len(np.unique(boxes, axis=0)) == len(boxes)


def test_the_whole_image_stands_in_where_no_box_is_large_enough():
    image = np.random.default_rng(0).integers(0, 256, (12, 15, 3), np.uint8)
    assert selective_search(image, width=None).tolist() == [[0, 0, 15, 12]]
    assert len(selective_search(image, width=None, min_side=1)) > 1


def test_every_box_bounds_a_union_of_initial_segments(picture):
    wanted = set()
    strategies = MODES["fast"]
    of_each = hierarchies(picture, strategies)
    for space in strategies.colour_spaces:
        for k in strategies.ks:
            labels = segment(colour_space(picture, space), k=k, min_size=k)
            for _ in strategies.measures:
                boxes, parts = next(of_each)
                members = [{n} for n in range(labels.max() + 1)]
                for a, b in parts:
                    members.append(members[a] | members[b])
                assert len(boxes) == len(members)
                assert len(members[-1]) == labels.max() + 1
                for box, segments in zip(boxes.tolist(), members, strict=True):
                    ys, xs = np.nonzero(np.isin(labels, list(segments)))
                    assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                    if xs.max() - xs.min() >= 19 and ys.max() - ys.min() >= 19:
                        wanted.add(tuple(map(float, box)))
    assert next(of_each, None) is None
    found = selective_search(picture, width=None)
    assert set(map(tuple, found.tolist())) == wanted


def test_the_seed_changes_the_order_alone_and_threads_change_nothing(picture):
    one, same, other = (selective_search(picture, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert set(map(tuple, one.tolist())) == set(map(tuple, other.tolist()))
    threads = cv2.getNumThreads()
    try:
        for number in (1, 4):
            cv2.setNumThreads(number)
            np.testing.assert_array_equal(selective_search(picture), one)
    finally:
        cv2.setNumThreads(threads)


def test_another_process_finds_the_same(picture, tmp_path):
    np.save(tmp_path / "image.npy", picture)
    code = (
        "import sys, numpy as np; from detkit.proposals.selective_search import *;"
        "np.save(sys.argv[2], selective_search(np.load(sys.argv[1])))"
    )
    names = [str(tmp_path / name) for name in ("image.npy", "boxes.npy")]
    subprocess.run(
        [sys.executable, "-c", code, *names], check=True, env={"PYTHONPATH": str(ROOT)}, timeout=120
    )
    np.testing.assert_array_equal(np.load(names[1]), selective_search(picture))


def test_early_boxes_come_from_high_up(picture):
    boxes = selective_search(picture)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    assert np.median(areas[:50]) > 2 * np.median(areas[-200:])


def test_an_enlarged_image_has_the_same_boxes_in_its_own_pixels(picture):
    large = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    boxes = selective_search(large, width=160)  # the mean of equal pixels
    np.testing.assert_array_equal(boxes, selective_search(picture, width=160) * 4)


def test_shapes_are_found_and_more_boxes_find_more():
    records = open_dataset({"name": "shapes", "val_images": 6}, "val")
    figures = [
        proposal_figures(
            records, [selective_search(records.image(i), mode=m, width=320) for i in range(6)]
        )
        for m in MODES
    ]
    mabo = [figure["proposals/MABO"] for figure in figures]
    assert mabo == sorted(mabo)
    assert mabo[1] > 0.75
    assert figures[1]["proposals/recall@0.5"] > 0.9


def test_photos_are_covered_as_the_paper_says(shared):
    """Table 5: MABO 0.693 (single) and 0.799 (fast) on the test set of VOC 2007."""
    records = open_dataset({"name": "voc", "root": str(shared / "voc2007")}, "val")
    few = records.subset(range(0, 300, 15))
    boxes = [selective_search(few.image(i)) for i in range(len(few))]
    figures = proposal_figures(few, boxes)
    assert figures["proposals/MABO"] > 0.77
    assert figures["proposals/recall@0.5"] > 0.9
    assert 1000 < figures["proposals/boxes"] < 3500


def test_a_mode_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(DetkitError, match="Did you mean quality"):
        selective_search(np.zeros((5, 5, 3), np.uint8), mode="qualty")
