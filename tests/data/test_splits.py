"""Lists of classes and of splits."""

import os
import unicodedata

import pytest
from folders import write_drawn, write_run

from detkit.data import splits
from detkit.errors import DetkitError


@pytest.mark.parametrize(("text", "says"), [("a\n\nb\n", "no class name"), ("a\nb\na", "twice")])
def test_class_names_are_numbered_by_their_lines(tmp_path, text, says):
    file = tmp_path / "classes.txt"
    file.write_text("\ufeffa \nb\n\n\n")
    assert splits.class_names(file) == ["a", "b"]
    file.write_text(text)
    with pytest.raises(DetkitError, match=says) as error:
        splits.class_names(file)
    assert error.value.record == f"line {2 if 'no' in says else 3}"


def test_what_detkit_wrote_is_no_folder_of_data(tmp_path):
    write_run(tmp_path / "runs/1")
    write_drawn(tmp_path / "drawn", "a")
    write_drawn(tmp_path / "ended", "a")
    (tmp_path / "ended/predictions.csv").rename(tmp_path / "ended/predictions.partial.csv")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/predictions.csv").write_text("id,label\n")
    found = [folder.name for folder in splits.folders(tmp_path)][1:]
    assert found == ["runs", "theirs"]
    assert [folder.name for folder in splits.outputs(tmp_path)] == ["drawn", "ended", "1"]
    assert list(splits.folders(tmp_path / "drawn")) == [tmp_path / "drawn"]  # it was named


def test_links_to_nothing_are_no_files(tmp_path):
    (tmp_path / "a.txt").write_text("cat")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "c.txt").symlink_to("nowhere")
    (tmp_path / "d.txt").symlink_to("d.txt")
    os.mkfifo(tmp_path / "e.txt")  # opening it would wait for ever
    assert splits.names_in(tmp_path) == ["a.txt", "b.txt"]
    with pytest.raises(DetkitError, match="cannot be read") as caught:
        splits.class_names(tmp_path / "c.txt")
    assert caught.value.file == tmp_path / "c.txt"


def test_a_name_in_the_other_unicode_form_is_told(tmp_path):
    composed, apart = (unicodedata.normalize(form, "été.jpg") for form in ("NFC", "NFD"))
    (tmp_path / apart).touch()
    absent = DetkitError("The image is missing.", file=tmp_path / composed, remedy="put it there.")
    assert "Unicode" in splits.with_twin(absent).remedy
    (tmp_path / composed).touch()
    assert splits.with_twin(absent) is absent
