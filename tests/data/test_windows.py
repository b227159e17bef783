"""The part of a picture that SSD trains on: its rules, and where the picture comes to lie."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from detkit.data.records import Annotation
from detkit.data.transforms import FILL, build
from detkit.data.windows import RATIO, SIDES, placed, ssd_window
from detkit.errors import DetkitError

HEIGHT, WIDTH = 120, 200
BOXES = np.array([[20.0, 20, 80, 90], [100, 30, 190, 110]])


def windows(zoom_out=0.0, crop=1.0, overlaps=(), boxes=BOXES, count=300, canvas=4.0):
    rng = np.random.default_rng(0)
    return [
        ssd_window(zoom_out, crop, canvas, overlaps, rng, boxes, HEIGHT, WIDTH)
        for _ in range(count)
    ]


def iou(window, box) -> float:
    wide = max(0.0, min(window[2], box[2]) - max(window[0], box[0]))
    high = max(0.0, min(window[3], box[3]) - max(window[1], box[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (window, box)]
    return wide * high / (sum(areas) - wide * high)


def centred(window, box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return window[0] < x < window[2] and window[1] < y < window[3]


WHOLE = (0, 0, WIDTH, HEIGHT)


def test_a_zoomed_out_picture_lies_anywhere_on_a_canvas_up_to_four_times_as_wide():
    found = np.array(windows(zoom_out=1.0, crop=0.0))
    size = found[:, 2:] - found[:, :2]
    factor = size / [WIDTH, HEIGHT]
    assert np.abs(factor[:, 0] - factor[:, 1]).max() < 0.02
    assert 1 <= factor.min() < 1.05
    assert 3.9 < factor.max() <= 4
    assert (found[:, :2] <= 0).all()
    assert (found[:, 2:] >= [WIDTH, HEIGHT]).all()
    share = -found[:, :2] / np.maximum(1, size - [WIDTH, HEIGHT])  # of the room on its left, above
    assert share.min() < 0.05
    assert share.max() > 0.95


def test_a_patch_overlaps_an_object_as_asked_and_holds_a_centre():
    for least in (0.1, 0.5, 0.7):
        cut = [w for w in windows(overlaps=(least,) * 20) if w != WHOLE]
        assert len(cut) > 200
        enough = [max(iou(w, box) for box in BOXES) >= least for w in cut]
        assert np.mean(enough) > 0.8  # at times no patch does, and any is taken
        assert all(any(centred(w, box) for box in BOXES) for w in cut)


def test_a_patch_has_the_papers_sizes_and_shapes_inside_the_picture():
    cut = np.array([w for w in windows() if w != WHOLE])
    size = (cut[:, 2:] - cut[:, :2]) / [WIDTH, HEIGHT]
    assert (cut >= 0).all()
    assert (cut[:, 2:] <= [WIDTH, HEIGHT]).all()
    area, ratio = size.prod(1), size[:, 0] / size[:, 1]
    assert SIDES[0] ** 2 * 0.95 < area.min() < 0.2
    assert area.max() > 0.8
    assert 1 / RATIO * 0.95 < ratio.min() < 0.7
    assert 1.4 < ratio.max() < RATIO * 1.05


def test_all_choices_are_taken():
    """The whole picture, any patch, and those of two overlaps: about a quarter is whole."""
    counts = Counter(window == WHOLE for window in windows(overlaps=(0.1, 0.2), count=800))
    assert 0.2 < counts[True] / 800 < 0.3


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), np.array([[5.0, 5, 5, 9]])])
def test_without_an_object_the_picture_stays_whole(boxes):
    assert set(windows(boxes=boxes)) == {WHOLE}


def test_where_a_picture_comes_to_lie():
    """A canvas of 400 × 240 with the picture at (100, 60), shown on 100 × 60: a quarter of it."""
    rows, columns, inner, around = placed((-100, -60, 300, 180), (HEIGHT, WIDTH), (60, 100))
    assert (rows, columns) == (slice(0, HEIGHT), slice(0, WIDTH))
    assert inner == (30, 50)
    assert around == ((15, 15), (25, 25))
    rows, columns, inner, around = placed((50, -20, 250, 100), (HEIGHT, WIDTH), (60, 100))
    assert (rows, columns) == (slice(0, 100), slice(50, 200))
    assert inner == (50, 75)
    assert around == ((10, 0), (0, 25))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (700, 2)])
def test_a_picture_of_any_shape_keeps_a_pixel(shape):
    transform = build({"name": "ssd", "long_side": 16, "zoom_out": 1.0, "canvas": 16.0}, True)
    image = np.full((*shape, 3), 255, np.uint8)
    none = np.zeros(1, bool)
    box = np.array([[0, 0, shape[1], shape[0]]], np.float32)
    for i in range(30):
        annotation = Annotation(box, np.zeros(1, np.int64), none, none, np.zeros(1))
        sample = transform(image, annotation, seed=(0, 0, i))
        assert sample.image.shape == (16, 16, 3)


def test_around_a_zoomed_out_picture_is_the_mean_colour_and_boxes_lie_on_it():
    settings = {"long_side": 100, "zoom_out": 1.0, "crop": 0.0, "colour": 0.0, "flip": 0.0}
    transform = build({"name": "ssd", **settings}, True)
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    none = np.zeros(1, bool)
    box = np.array([[0, 0, WIDTH, HEIGHT]], np.float32)
    annotation = Annotation(box, np.zeros(1, np.int64), none, none, np.zeros(1))
    for i in range(20):
        sample = transform(image, annotation, seed=(0, 0, i))
        content = (sample.image == 255).all(2)
        y, x = np.nonzero(content)
        extent = torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]])
        assert (sample.targets.boxes - extent).abs().max() <= 1
        assert (sample.image[~content] == FILL).all()


def test_a_crowd_stays_whatever_is_left_of_it_and_other_objects_by_their_centre():
    """A patch sees a corner of either at most where neither's centre is in it."""
    settings = {"long_side": 100, "colour": 0.0, "zoom_out": 0.0, "overlaps": []}
    transform = build({"name": "ssd", **settings}, True)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    boxes = np.array([[60, 40, 64, 44], [0, 0, 200, 120], [0, 0, 200, 120]], np.float32)
    crowd = np.array([False, False, True])
    annotation = Annotation(boxes, np.arange(3), crowd, np.zeros(3, bool), np.zeros(3))
    dropped = 0
    for i in range(200):
        targets = transform(image, annotation, seed=(0, 0, i)).targets
        assert 2 in targets.labels
        dropped += 1 not in targets.labels
    assert dropped > 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"canvas": 0.5}, "canvas is 0.5"),
        ({"overlaps": [2]}, "overlaps is 2"),
        ({"crop": -1}, "crop"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(DetkitError, match=message):
        build({"name": "ssd", **settings}, train=True)
