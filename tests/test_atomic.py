"""Files are whole or as they were, whatever interrupts the writing."""

import json
import os

import pytest

from detkit import atomic
from detkit.errors import DetkitError


def test_a_write_that_is_interrupted_leaves_the_old_file_and_no_other(tmp_path):
    def lines():
        yield "new"
        raise KeyboardInterrupt

    atomic.write_text(tmp_path / "r.txt", "old")
    with pytest.raises(KeyboardInterrupt):
        atomic.write_text(tmp_path / "r.txt", lines())
    assert [p.name for p in tmp_path.iterdir()] == ["r.txt"]
    assert (tmp_path / "r.txt").read_text() == "old"


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    atomic.write_bytes(tmp_path / "a", b"old")
    with atomic.replacing(tmp_path / "a") as part:
        part.write_bytes(b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    atomic.write_text(tmp_path / "a", "text")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "a" / "b", tmp_path / "folder"):  # in a file, onto a folder
        with pytest.raises(DetkitError, match=str(path)):
            atomic.write_json(path, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "folder"]


def test_text_comes_back_as_it_was_also_a_file_name_of_other_bytes(tmp_path):
    odd = os.fsdecode(b"caf\xe9.jpg")
    atomic.write_text(tmp_path / "new" / "names.txt", ["é", odd])
    assert (tmp_path / "new" / "names.txt").read_bytes() == "é\n".encode() + b"caf\xe9.jpg\n"
    atomic.write_json(tmp_path / "a.json", {"é": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, None]}
