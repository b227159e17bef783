"""The drawn data set against what it promises, measured on its masks."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from detkit.data.formats import shapes
from detkit.data.formats.shapes import read
from detkit.errors import DetkitError

SIZE = 96


def opened(split="train", count=60, needs=frozenset({"boxes"}), **settings):
    settings = {"size": SIZE, f"{split}_images": count, **settings}
    return read(None, split, needs=needs, images=True, **settings)


@pytest.fixture(scope="module")
def records():
    return opened()


def box_of(mask):
    """The extent of a mask by plain indexing."""
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_boxes_are_the_extents_of_what_is_seen(records):
    for i in range(len(records)):
        masks = records.masks(i)
        assert records.annotation(i).boxes.tolist() == [box_of(mask) for mask in masks]
        assert records.annotation(i).areas.tolist() == masks.sum((1, 2)).tolist()


def test_there_are_one_to_eight_objects_of_every_class_and_every_count_occurs(records):
    counts = np.diff(opened(count=300).offsets)
    assert set(counts.tolist()) == set(range(1, 9))
    assert set(records.labels.tolist()) == {0, 1, 2, 3}
    assert records.names == ("circle", "square", "star", "triangle")


@pytest.mark.parametrize("size", [48, 160])
def test_sides_are_8_to_50_percent_of_the_image_seen_and_whole(size):
    for number in range(80):
        scene = shapes.layout(3, number, size)
        boxes = [box_of(shape.alpha > 127) for shape in scene.shapes]
        for x0, y0, x1, y1 in [*boxes, *scene.boxes.tolist()]:
            assert 0.08 * size <= min(x1 - x0, y1 - y0)
            assert max(x1 - x0, y1 - y0) <= 0.5 * size


def test_no_object_is_hidden_by_more_than_60_percent_and_some_by_more_than_40():
    hidden = []
    for number in range(150):
        scene = shapes.layout(0, number, SIZE)
        for shape, seen in zip(scene.shapes, scene.masks, strict=True):
            whole = np.zeros((SIZE, SIZE), bool)
            whole[shape.window] = shape.alpha > 127
            assert not (seen & ~whole).any()
            hidden.append(1 - seen.sum() / whole.sum())
    assert 0.4 < max(hidden) <= 0.6


def test_pixel_classes_are_the_masks_with_background_as_class_0():
    records = opened(needs=frozenset({"pixels"}), count=10)
    assert records.names == ("background", "circle", "square", "star", "triangle")
    for i in range(len(records)):
        expected = np.zeros((SIZE, SIZE), np.uint8)
        for label, mask in zip(records.annotation(i).labels, records.masks(i), strict=True):
            expected[mask] = label  # masks do not overlap: each pixel shows one object
        np.testing.assert_array_equal(records.pixels(i), expected)
        assert records.masks(i).sum(0).max() == 1


def test_splits_number_their_images_from_ranges_that_never_meet():
    train, val = opened(count=30), opened("val", 30)
    assert [train.image_id(i) for i in range(30)] == list(range(30))
    assert [val.image_id(i) for i in range(30)] == list(range(10_000_000, 10_000_030))
    pictures = {r.image(i).tobytes() for r in (train, val) for i in range(30)}
    assert len(pictures) == 60
    with pytest.raises(DetkitError, match="Did you mean train"):
        read(None, "trian", needs=frozenset({"boxes"}), images=True)


def test_an_image_depends_on_seed_and_number_alone():
    some, more = opened(count=5), opened(count=9)
    np.testing.assert_array_equal(some.image(4), more.image(4))
    np.testing.assert_array_equal(more.subset([7, 4]).image(1), some.image(4))
    assert not np.array_equal(opened(count=5, seed=1).image(4), some.image(4))


def test_another_process_draws_the_same(records):
    script = (
        "from detkit.data.formats.shapes import read; import hashlib;"
        "boxes = frozenset(['boxes']);"
        f"r = read(None, 'train', needs=boxes, images=True, train_images=60, size={SIZE});"
        "print(r.fingerprint(), hashlib.sha256(r.image(7).tobytes()).hexdigest())"
    )
    here = f"{records.fingerprint()} {hashlib.sha256(records.image(7).tobytes()).hexdigest()}"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == here.split()


def test_colour_does_not_tell_the_class():
    """Mean colours of the classes differ by less than a tenth of the colours' own spread of 255."""
    means = [[] for _ in shapes.NAMES]
    records = opened(count=300)
    for i in range(len(records)):
        image = records.image(i)
        for label, mask in zip(records.annotation(i).labels, records.masks(i), strict=True):
            means[label].append(image[mask].mean(0))
    centres = np.array([np.mean(colours, 0) for colours in means])
    assert np.ptp(centres, axis=0).max() < 25
    assert np.std(np.concatenate(means), 0).min() > 40


def test_objects_stand_out_from_what_is_around_them(records):
    """In nine of ten objects the mean colour is 25 grey levels from the background's somewhere."""
    contrasts = []
    for i in range(len(records)):
        image, masks = records.image(i).astype(float), records.masks(i)
        background = image[~masks.any(0)].mean(0)
        contrasts += [np.abs(image[mask].mean(0) - background).max() for mask in masks]
    assert np.quantile(contrasts, 0.1) > 25


@pytest.mark.parametrize("wrong", [{"count": 0}, {"size": 8}, {"seed": -1}])
def test_settings_that_make_no_images_are_refused(wrong):
    with pytest.raises(DetkitError, match="cannot be drawn"):
        opened(**wrong)


def test_a_classifier_gets_one_object_an_image_with_its_class():
    records = opened(count=80, needs=frozenset({"image_labels"}), size=64)
    assert np.diff(records.offsets).tolist() == [1] * 80
    assert records.image_labels.tolist() == records.labels.tolist()
    assert set(records.image_labels) == {0, 1, 2, 3}
    for i in range(len(records)):
        (mask,) = records.masks(i)
        assert records.annotation(i).boxes[0].tolist() == box_of(mask)
        assert records.annotation(i).image_label == records.labels[i]
        assert records.image(i).shape == (64, 64, 3)
    sides = records.boxes[:, 2:] - records.boxes[:, :2]
    assert 0.38 * 64 <= sides.min() < 0.5 * 64  # half of an edge's pixels may not count
    assert 0.7 * 64 < sides.max() <= 0.9 * 64 + 1  # whole pixels around it


def test_what_detectors_learn_from_is_what_it_was():
    boxes = opened(count=20, size=160).fingerprint()
    pixels = opened(count=20, size=160, needs=frozenset({"pixels"})).fingerprint()
    assert boxes.startswith("9ca054cfe685390f")
    assert pixels.startswith("c90ca9b797584999")


def test_withheld_classes_are_by_themselves_without_their_boxes():
    needs = frozenset({"boxes"})
    names = ["star", "triangle"]
    records = read(None, "train", needs=needs, images=True, train_images=200, unboxed=names)
    held = {shapes.NAMES.index(name) for name in names}
    known = np.array([records.image_labels[i] for i in range(200)])
    counts = np.diff(records.offsets)
    assert not set(records.labels) & held
    assert set(known) == held | {-1}
    assert ((known >= 0) == (counts == 0)).all()
    assert 70 < (known >= 0).sum() < 130
    assert counts[known < 0].mean() > 1.5
    alone = records.image(int(np.flatnonzero(known >= 0)[0]))
    assert alone.shape == (160, 160, 3)
    val = read(None, "val", needs=needs, images=True, val_images=20, unboxed=names)
    assert set(val.labels) & held
