"""What is said of the classes of whole images before a run learns from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detkit.commands.opening import _notes, _places, check_learnable
from detkit.data.balance import repeat_factors
from detkit.data.formats import LABELS
from detkit.data.formats.shapes import read
from detkit.errors import DetkitError

NAMES = ("circle", "square", "star", "triangle")


def labelled(*labels, names=NAMES):
    records = read(None, "train", needs=LABELS, images=True, train_images=len(labels), size=32)
    none = replace(records.keep_objects(np.zeros(len(records.labels), bool)), names=names)
    return replace(none, image_labels=np.array(labels))


@pytest.mark.parametrize(
    ("learnt", "asked", "says"),
    [
        ((0, 1, 2, 3), (3, 2, 1, 0), []),
        ((0, 1, 2), (0, 1, 2, 3), ["in no image to learn from: triangle"]),
        ((0, 1, 2, 3), (1, 2, 2), ["in no image to measure: circle, triangle"]),
        ((0, 1, 2), (0, 1, 2), ["classes without any image: triangle"]),
        ((0, 1, -1, 2, 3), (0, 1, 2, 3), ["class of 1 of the 5 images is unknown"]),
    ],
)
def test_absent_classes_are_told(learnt, asked, says):
    notes = _notes(labelled(*learnt), labelled(*asked), LABELS)
    assert len(notes) == len(says)
    for note, words in zip(notes, says, strict=True):
        assert words in note


def test_a_single_class_is_told():
    one = labelled(0, 0, names=("cat",))
    assert _notes(one, one, LABELS) == ["there is but one class, cat: nothing to tell it from"]


def test_crowds_alone_are_nothing_to_learn_from():
    boxes = frozenset({"boxes"})
    records = read(None, "train", needs=boxes, images=True, train_images=4, size=32)
    crowds = replace(records, crowd=np.ones(len(records.crowd), bool))
    check_learnable(records, boxes)
    for nothing, words in (
        (crowds, "all .* crowds"),
        (records.keep_objects(np.zeros(len(records.crowd), bool)), "none of the 4 images"),
    ):
        with pytest.raises(DetkitError, match=words):
            check_learnable(nothing, boxes)
        check_learnable(nothing, frozenset({"pixels"}))
    assert "dataset.crowds=objects" in _notes(records, crowds, boxes)[0]


def test_classes_of_images_say_nothing_to_a_detector_without_them():
    detector = frozenset({"boxes"})
    records = read(None, "train", needs=detector, images=True, train_images=6, size=32)
    assert _notes(records, records, detector) == []
    assert len(set(_places(records))) == 6


def test_an_image_of_a_rare_class_is_repeated_though_it_has_no_objects():
    factors = repeat_factors(labelled(*[0] * 15, 1), 0.25)
    assert factors.tolist() == [1] * 15 + [2]
    assert repeat_factors(labelled(0, -1, -1, -1), 1.0).tolist() == [2, 1, 1, 1]
