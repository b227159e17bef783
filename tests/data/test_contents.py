"""Pixels that change under the same name are noticed; a copy of the data stays the same data."""

from __future__ import annotations

import os
import shutil

import cv2
import pytest
from folders import three, write_voc

from detkit import checkpoint, ours
from detkit.data import contents, open_dataset
from detkit.errors import DetkitError


def data(root):
    records = open_dataset({"name": "voc", "root": str(root)}, "train")
    return (records, records)


@pytest.fixture
def noted(tmp_path):
    """A data set, and a folder in which it was noted."""
    root = write_voc(tmp_path / "data", three(), {"train": "abc"})
    (tmp_path / "run").mkdir()
    contents.write(tmp_path / "run", data(root))
    return root, tmp_path / "run"


def repaint(file):
    picture = cv2.imread(str(file))
    cv2.imwrite(str(file), 255 - picture)


def test_untouched_files_are_not_read(noted, monkeypatch):
    def read(file):
        raise AssertionError(file)

    monkeypatch.setattr(contents, "_digest", read)
    contents.check(noted[1], data(noted[0]))
    contents.write(noted[1], data(noted[0]))


def test_other_pixels_at_the_same_size_are_named(noted):
    root, run = noted
    before = data(root)[0].fingerprint()
    repaint(root / "JPEGImages/b.jpg")
    assert data(root)[0].fingerprint() == before  # which knows nothing of pixels
    with pytest.raises(DetkitError, match=r"1 of 3 files .*: JPEGImages/b\.jpg\.") as error:
        contents.check(run, data(root))
    assert "weights=" in error.value.remedy


def test_a_copy_a_move_and_a_touch_are_the_same_data(noted, tmp_path):
    root, run = noted
    shutil.copytree(root, tmp_path / "copy")
    for file in (tmp_path / "copy/JPEGImages").iterdir():
        os.utime(file, (1, 1))
    contents.check(run, data(tmp_path / "copy"))
    contents.write(run, data(tmp_path / "copy"))  # from now on these times are the known ones
    contents.check(run, data(root))


def test_what_changed_among_copies_is_still_found(noted, tmp_path):
    root, run = noted
    shutil.copytree(root, tmp_path / "copy")
    repaint(tmp_path / "copy/JPEGImages/a.jpg")
    with pytest.raises(DetkitError, match=r"JPEGImages/a\.jpg"):
        contents.check(run, data(tmp_path / "copy"))


def test_a_run_of_before_that_noted_nothing_goes_on(noted, tmp_path):
    contents.check(tmp_path, data(noted[0]))


def test_drawn_data_have_no_files(tmp_path):
    drawn = open_dataset({"name": "shapes", "train_images": 4, "size": 64}, "train")
    contents.write(tmp_path, (drawn, drawn))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 999_999, 1_500_000, 2_999_999])
def test_any_byte_of_a_large_file_counts(tmp_path, place):
    whole = bytearray(3_000_000)
    (tmp_path / "a").write_bytes(whole)
    whole[place] = 1
    (tmp_path / "b").write_bytes(whole)
    assert contents._digest(tmp_path / "a") != contents._digest(tmp_path / "b")


def test_it_is_a_record_that_makes_way(noted):
    assert ours.RECORDS[contents.FILE](noted[1] / contents.FILE)
    checkpoint.replace_tensors(noted[1] / contents.FILE, {})
    assert not ours.RECORDS[contents.FILE](noted[1] / contents.FILE)
