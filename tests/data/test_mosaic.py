"""Four pictures as one: where each lands, what comes along, that a key gives one mosaic."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from detkit.data.formats.shapes import read
from detkit.data.loading import Dataset, Key, collate
from detkit.data.mosaic import Picture, companions, mosaic
from detkit.data.records import Annotation
from detkit.data.transforms import build
from detkit.errors import DetkitError

PLAIN = {"flip": 0.0, "jitter": 0.0, "colour": 0.0}
SEED = (0, 1, 2)


def picture(number: int, height: int, width: int, objects: int = 6) -> Picture:
    """Objects are filled rectangles of a colour each, so that pixels tell whose they are."""
    rng = np.random.default_rng(number)
    image = np.zeros((height, width, 3), np.uint8)
    masks = np.zeros((objects, height, width), bool)
    boxes = np.zeros((objects, 4), np.float32)
    pixels = np.full((height, width), number, np.uint8)
    for n in range(objects):
        x, y = rng.integers(0, width - 12), rng.integers(0, height - 12)
        boxes[n] = x, y, x + 12, y + 12
        masks[n, y : y + 12, x : x + 12] = True
        image[y : y + 12, x : x + 12] = 20 + 50 * number + n, 0, 0
    labels = np.full(objects, number)
    crowd = np.arange(objects) == 0
    notes = Annotation(boxes, labels, crowd, ~crowd, np.full(objects, 144.0))
    return Picture(image, notes, masks, pixels, boxes + 1)


def test_each_picture_fills_its_quarter_and_objects_lie_where_their_pixels_do():
    pictures = [picture(n, 60 + 40 * n, 150 - 20 * n) for n in range(4)]
    seen, crowds = set(), 0
    for seed in range(20):
        found = mosaic(pictures, (80, 120), (seed,))
        assert found.image.shape == (80, 120, 3)
        corners = found.pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.tolist() == [0, 1, 2, 3]
        y = int((found.pixels[:, 0] == 0).sum())
        x = int((found.pixels[0] == 0).sum())
        assert (found.pixels[:y, :x] == 0).all()
        assert (found.pixels[y:, x:] == 3).all()
        assert 0.3 * 80 - 1 <= y <= 0.7 * 80 + 1
        notes = found.annotation
        assert len(found.masks) == len(notes.boxes) == len(notes.areas)
        assert len(notes.difficult) == len(notes.labels)
        crowds += int(notes.crowd.sum())
        for box, label, mask in zip(notes.boxes, notes.labels, found.masks, strict=True):
            seen.add(int(label))
            rows, columns = np.nonzero(mask)
            extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box == pytest.approx(extent, abs=1.01)
            # its own picture's quarter, and its own colour but for the blurred rim and neighbours
            assert (found.pixels[mask] == label).all()
            assert np.median(found.image[mask][:, 0]) >= 18 + 50 * label
        assert (found.proposals[:, :2] >= 0).all()
        assert (found.proposals[:, 2:] <= (120, 80)).all()
    assert seen == {0, 1, 2, 3}
    assert crowds


def test_an_object_whose_centre_is_not_seen_is_dropped_and_nothing_else():
    one = picture(0, 90, 90, objects=30)
    for seed in range(20):
        found = mosaic([one] * 4, (90, 90), (seed,))
        count = len(found.annotation.boxes)
        assert 0 < count < 120
        assert (found.annotation.boxes[:, 2:] > found.annotation.boxes[:, :2]).all()


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1), (2, 3)])
def test_pictures_and_canvases_of_a_pixel_are_no_problem(size):
    narrow = Picture(np.zeros((50, 1, 3), np.uint8), picture(0, 20, 20)[1], proposals=None)
    for seed in range(5):
        found = mosaic([narrow, picture(1, 20, 20), narrow, narrow], size, (seed,))
        assert found.image.shape[:2] == (size if min(size) > 1 else (50, 1))


def dataset(share: float, name: str = "square", **settings) -> Dataset:
    records = read(None, "train", needs=frozenset({"boxes", "masks"}), images=True, train_images=9)
    made = build({"name": name, **settings, "mosaic": share}, train=True)
    return Dataset(records, made, needs=frozenset({"boxes", "masks"}))


@pytest.mark.parametrize("name", ["square", "stretched", "detection", "ssd", "darknet"])
def test_every_preset_has_it_and_a_key_gives_one_mosaic(name):
    one, other = dataset(1.0, name), dataset(1.0, name)
    keys = [Key(0, 3), Key(1, 3)]
    first, again, later = one[keys[0]], other[keys[0]], one[keys[1]]
    assert torch.equal(first.image, again.image)
    for field in fields(first.targets):
        values = [getattr(sample.targets, field.name) for sample in (first, again)]
        assert values[0] is None or torch.equal(*values)
    assert not torch.equal(first.image, later.image)
    assert len(first.targets.masks) == len(first.targets.boxes)
    collate([first, later])


def test_it_is_off_unless_asked_for_and_as_often_as_asked_for():
    without, never = dataset(0.0, **PLAIN), build({"name": "square"}, train=False)
    assert not never.mosaic
    half = dataset(0.5, **PLAIN)
    keys = [Key(epoch, image) for epoch in range(5) for image in range(9)]
    changed = [not torch.equal(half[key].image, without[key].image) for key in keys]
    assert 10 < sum(changed) < 35


def test_pictures_of_which_only_the_class_is_known_stay_alone():
    labels = np.array([-1, 2, -1, 0])
    drawn = {n for seed in range(50) for n in companions(1.0, (seed,), 0, labels, 4)}
    assert drawn == {0, 2}
    assert companions(1.0, SEED, 1, labels, 4) == []


def test_a_probability_beyond_1_is_refused():
    with pytest.raises(DetkitError, match=r"transforms\.mosaic"):
        build({"name": "square", "mosaic": 2}, train=True)
