"""Flat arrays against the plain Python lists that they stand for."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
from folders import three, write_voc
from hypothesis import given
from hypothesis import strategies as st

from detkit.data.formats import voc
from detkit.data.records import Strings, offsets_of, ragged_take


@given(st.lists(st.text()), st.data())
def test_strings_are_the_list_that_went_in(texts, data):
    flat = Strings.of(texts)
    assert list(flat) == texts
    if texts:
        chosen = data.draw(st.lists(st.integers(0, len(texts) - 1)))
        assert list(flat.take(np.array(chosen, np.int64))) == [texts[i] for i in chosen]


@given(st.lists(st.lists(st.integers()), min_size=1), st.data())
def test_ragged_take_is_a_list_of_lists(runs, data):
    flat = [value for run in runs for value in run]
    chosen = data.draw(st.lists(st.integers(0, len(runs) - 1)))
    indices, offsets = ragged_take(offsets_of([len(r) for r in runs]), np.array(chosen, np.int64))
    taken = [flat[i] for i in indices]
    parts = [taken[a:b] for a, b in itertools.pairwise(offsets)]
    assert parts == [runs[i] for i in chosen]


def records(tmp_path: Path):
    return voc.read(write_voc(tmp_path, three(), {"train": "abc"}), "train")


def test_a_subset_has_its_images_with_their_objects(tmp_path):
    whole = records(tmp_path)
    part = whole.subset([1, 0])
    assert [part.image_id(i) for i in range(2)] == ["b", "a"]
    for i, j in ((0, 1), (1, 0)):
        for got, wanted in zip(part.annotation(i), whole.annotation(j), strict=True):
            assert np.all(got == wanted)
    assert (part.image(0) == whole.image(1)).all()


def test_the_fingerprint_is_of_the_annotations_not_of_the_place(tmp_path):
    here, there = records(tmp_path / "here"), records(tmp_path / "there")
    assert here.fingerprint() == there.fingerprint()
    for change in ("boxes", "labels", "difficult", "category_ids"):
        other = pickle.loads(pickle.dumps(here))
        array = getattr(other, change)
        array[0] = ~array[0] if array.dtype == bool else array[0] + 1
        assert other.fingerprint() != here.fingerprint(), change
    assert here.subset([0, 1]).fingerprint() != here.fingerprint()


def test_no_python_object_is_kept_per_image_or_box(tmp_path):
    """What is pickled for a worker grows by the arrays' bytes, not by objects."""
    whole = records(tmp_path)
    many = whole.subset(np.arange(30_000) % 3)
    kept = [
        value
        for holder in (many, many.files, many.image_ids)
        for value in vars(holder).values()
        if isinstance(value, (list, dict, set))
    ]
    assert not kept
    assert len(pickle.dumps(many)) < 30_000 * 120
