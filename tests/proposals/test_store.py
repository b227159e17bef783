"""The cache: what is found again, what is made anew, and damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detkit.data.open import open_dataset
from detkit.errors import DetkitError
from detkit.proposals import store
from detkit.proposals.data_set import propose
from detkit.proposals.proposer import proposers
from detkit.proposals.selective_search import selective_search
from detkit.proposals.store import SelectiveSearch, cache_folder

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
SMALL = {"width": 100, "min_side": 3}


@pytest.fixture
def search(tmp_path):
    """A proposer of small images in the test's folder, with other settings where they are named."""

    def make(**settings) -> SelectiveSearch:
        return SelectiveSearch(**{"folder": tmp_path / "cache", **SMALL, **settings})

    return make


def test_an_image_is_searched_once(search):
    first, again = search(), search()
    boxes = first(IMAGE, image_id=1, file="a.jpg")
    np.testing.assert_array_equal(boxes, selective_search(IMAGE, **SMALL))
    np.testing.assert_array_equal(again(IMAGE, image_id=2, file="b.jpg"), boxes)
    assert (first.searched, again.searched) == (1, 0)
    assert len(list(first.folder.rglob("*.npy"))) == 1


@pytest.mark.parametrize(
    "other", [{"mode": "single"}, {"seed": 1}, {"width": 90}, {"min_side": 40}, {"width": None}]
)
def test_another_setting_is_another_file(search, other):
    boxes, changed = search()(IMAGE), search(**other)
    found = changed(IMAGE)
    assert changed.searched == 1
    assert not np.array_equal(found, boxes)
    np.testing.assert_array_equal(found, selective_search(IMAGE, **{**SMALL, **other}))


def test_another_pixel_shape_or_version_is_another_file(search, monkeypatch):
    first = search()
    pixel = IMAGE.copy()
    pixel[-1, -1, -1] ^= 1
    paths = {first.path(image) for image in (IMAGE, pixel, IMAGE.reshape(60, 40, 3))}
    monkeypatch.setattr(store, "VERSION", store.VERSION + 1)
    paths.add(first.path(IMAGE))
    assert len(paths) == 4


def test_the_best_boxes_of_one_file_serve_any_number(search):
    all_boxes, few = search()(IMAGE), search(at_most=7)
    np.testing.assert_array_equal(few(IMAGE), all_boxes[:7])
    assert few.searched == 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other", "folder"])
def test_a_damaged_file_is_made_anew(search, damage):
    first = search()
    boxes = first(IMAGE)
    path = first.path(IMAGE)
    data = path.read_bytes()
    flipped = data[:200] + bytes([data[200] ^ 1]) + data[201:]
    contents = {"cut": data[:-40], "flipped": flipped, "empty": b"", "other": b"not ours" * 99}
    if damage == "folder":
        path.unlink()
        path.mkdir()
        with pytest.raises(DetkitError, match="cannot be written"):
            first(IMAGE)
        return
    path.write_bytes(contents[damage])
    np.testing.assert_array_equal(first(IMAGE), boxes)
    assert first.searched == 2
    assert path.read_bytes() == data


def test_the_folder_is_where_the_system_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert SelectiveSearch().folder == cache_folder() == tmp_path / "detkit" / "proposals"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder() == tmp_path / "me" / ".cache" / "detkit" / "proposals"


def test_a_16_bit_image_has_the_boxes_of_its_8_bits(search):
    first = search()
    np.testing.assert_array_equal(first(IMAGE.astype(np.float32) / 255), first(IMAGE))
    assert first.searched == 1


def test_processes_fill_the_cache_and_pick_up_what_is_there(search):
    records = open_dataset({"name": "shapes", "val_images": 5, "size": 64}, "val")
    alone = list(propose(search(), records.subset([3])))
    assert [one.cached for one in alone] == [False]
    both = list(propose(search(), records, workers=2))
    assert [one.cached for one in both] == [False, False, False, True, False]
    for i, one in enumerate(both):
        np.testing.assert_array_equal(one.boxes, selective_search(records.image(i), **SMALL))
    assert all(one.cached for one in propose(search(), records))
    assert not list(search().folder.rglob("*.part"))


def test_an_error_comes_out_of_a_process(search, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    records = open_dataset({"name": "shapes", "val_images": 2, "size": 64}, "val")
    with pytest.raises(DetkitError, match="cannot be written"):
        list(propose(search(), records, workers=1))


def test_proposers_have_names_and_settings():
    assert proposers.names() == ["file", "selective_search"]
    settings = {"mode", "seed", "at_most", "width", "min_side", "folder"}
    assert set(proposers.settings("selective_search")) == settings
    assert set(proposers.settings("file")) == {"path", "at_most"}
    made = proposers["selective_search"](mode="quality", folder=Path("x"))
    assert made.settings["mode"] == "quality"
