"""Which format a folder is, which split a word means, and what happens with wrong settings."""

from __future__ import annotations

import json

import pytest
from folders import (
    Picture,
    Thing,
    save_image,
    three,
    write_coco,
    write_drawn,
    write_run,
    write_voc,
    write_yolo,
)

from detkit.data import open_dataset, split_name
from detkit.data.formats import formats
from detkit.errors import DetkitError


def test_real_folders_are_recognised_with_the_reason(shared):
    for folder, name, reason in (
        ("bccd", "VOC", "364 VOC annotations"),
        ("voc2007", "VOC", "1,000 VOC annotations"),
        ("coco-mini", "COCO", "instances_train.json"),
    ):
        source = open_dataset({"name": "auto", "root": str(shared / folder)}, "val").source
        assert source.startswith(name)
        assert reason in source


@pytest.mark.parametrize("folder", ["photos", "video", "darknet"])
def test_other_folders_are_refused_with_what_was_looked_for(shared, folder):
    with pytest.raises(DetkitError) as caught:
        open_dataset({"root": shared / folder}, "train")
    for name in ("voc", "coco", "yolo_text"):
        assert f"{name}: " in str(caught.value)


def test_two_formats_in_one_folder_are_a_question_to_the_user(tmp_path):
    write_voc(tmp_path, three(), {"train": "abc"})
    write_coco(tmp_path, three())
    with pytest.raises(DetkitError, match=r"coco: .*; voc: ") as caught:
        open_dataset({"root": tmp_path}, "train")
    assert "dataset=coco" in caught.value.remedy
    assert len(open_dataset({"name": "voc", "root": tmp_path}, "train")) == 3


def test_boxes_where_masks_were_looked_for_are_told_and_the_reverse(tmp_path):
    write_voc(tmp_path / "boxes", three(), {"train": "abc"})
    with pytest.raises(DetkitError) as caught:
        open_dataset({"root": tmp_path / "boxes"}, "train", needs=frozenset({"pixels"}))
    assert "model=faster_rcnn" in caught.value.remedy
    for folder, suffix in (("images", ".jpg"), ("masks", ".png")):
        save_image(tmp_path / "pixels" / folder / f"a{suffix}", 8, 8)
    with pytest.raises(DetkitError) as caught:
        open_dataset({"root": tmp_path / "pixels"}, "train")
    assert "model=unet" in caught.value.remedy


def test_runs_in_the_folder_of_the_data_are_no_data(tmp_path):
    root = write_yolo(tmp_path, three())
    meta = {"config": {"dataset": {"annotations": None}}, "metrics": {"images": 3}}
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "meta.json").write_text(json.dumps(meta))
    assert "YOLO" in open_dataset({"root": root}, "train").source


FLAT = {  # all in one folder, without splits
    "yolo_text": lambda root: write_yolo(root, three(), "", ""),
    "voc": lambda root: write_voc(root, three(), xml="", images=""),
    "coco": lambda root: write_coco(root / "raw", three(), "../a.json", "").parent,
}


@pytest.mark.parametrize("name", FLAT)
def test_drawn_copies_in_the_folder_of_the_data_are_no_data(tmp_path, name):
    root = FLAT[name](tmp_path)
    before = open_dataset({"root": root}, "all")
    write_run(root / "runs/1")
    write_run(root / "a_run")
    write_drawn(root / "predictions", "abc")
    after = open_dataset({"root": root}, "all")
    assert list(after.files) == list(before.files)
    assert after.fingerprint() == before.fingerprint()
    assert not before.notes
    assert len(after.notes) == 1  # a run is where it is expected; what predict wrote to may be
    assert "predictions/" in after.notes[0]


@pytest.mark.parametrize("name", FLAT)
def test_links_to_nothing_stop_no_data_set(tmp_path, name):
    root = FLAT[name](tmp_path)
    (root / "below").mkdir()
    for link in ("x.json", "x.txt", "data.yaml", "obj.names", "train.txt", "below/x.json"):
        (root / link).symlink_to("nowhere")
    assert len(open_dataset({"root": root}, "all")) == 3


TAKEN = {"voc": "suffix", "yolo_text": "suffix", "coco": "an annotation file"}


@pytest.mark.parametrize("name", FLAT)
def test_what_may_stand_for_a_split_is_what_the_format_takes(tmp_path, name):
    root = FLAT[name](tmp_path)
    with pytest.raises(DetkitError, match="no split 'mine'") as caught:
        open_dataset({"root": root}, "mine")
    assert TAKEN[name] in caught.value.remedy
    assert ("list file" in caught.value.remedy) == (name != "coco")


def test_nothing_else_stands_for_train(tmp_path):
    root = write_voc(tmp_path, three(), {"trainval": "a", "test": "b"})
    assert split_name({"root": root}, "train") == "train"
    with pytest.raises(DetkitError, match="no split 'train'") as caught:
        open_dataset({"root": root}, split_name({"root": root}, "train"))
    assert "trainval" in caught.value.remedy


def test_val_is_val_else_valid_else_test(tmp_path):
    root = write_voc(tmp_path, three(), {"train": "a", "test": "b"})
    assert split_name({"root": root}, "train") == "train"
    assert split_name({"root": root}, "val") == "test"
    write_voc(tmp_path, three(), {"val": "c"})
    assert split_name({"root": root}, "val") == "val"
    assert split_name({"root": root, "val_split": "test"}, "val") == "test"


def test_shapes_need_no_folder():
    assert "shapes" in formats
    records = open_dataset({"name": "shapes"}, "val")
    assert len(records)
    assert records.image(0).ndim == 3
    assert split_name({"name": "shapes"}, "val") == "val"


def test_null_settings_are_defaults_and_unknown_ones_errors(tmp_path):
    root = write_yolo(tmp_path, three())
    assert len(open_dataset({"root": root, "annotations": None, "train_split": "x"}, "train")) == 3
    with pytest.raises(DetkitError, match="Did you mean bad_boxes"):
        open_dataset({"root": root, "bad_box": "drop"}, "train")
    with pytest.raises(DetkitError, match=r"No dataset format 'vok'\. Did you mean voc"):
        open_dataset({"name": "vok", "root": root}, "train")


@pytest.mark.parametrize("setting", ["bad_boxes", "bad_images", "unknown_classes"])
def test_a_wrong_choice_is_named(tmp_path, setting):
    root = write_voc(tmp_path, three(), {"train": "abc"})
    with pytest.raises(DetkitError, match=rf"{setting} 'skip'") as caught:
        open_dataset({"root": root, setting: "skip"}, "train")
    assert "drop" in caught.value.remedy


def test_a_root_that_is_absent_empty_or_unset_is_named(tmp_path):
    for root, words in (
        (tmp_path / "no", "no such folder"),
        (tmp_path, "empty"),
        (None, "dataset.root"),
    ):
        for name in ("auto", "voc", "coco", "yolo_text", "mask_folder"):
            with pytest.raises(DetkitError, match=words):
                open_dataset({"name": name, "root": root}, "train")


ODD = ["it's (1)", "[ab]1", "été", "0", "a.b", "my img 1", "x=y", "007"]


@pytest.mark.parametrize("write", [write_voc, write_coco, write_yolo])
def test_odd_file_names_are_file_names(tmp_path, write):
    written = [Picture(stem, things=[Thing("cat", (0, 0, 9, 9))]) for stem in ODD]
    given = {"lists": {"train": ODD}} if write is write_voc else {}
    records = open_dataset({"root": write(tmp_path / "a b [c]", written, **given)}, "train")
    assert sorted(records.path(i).stem for i in range(len(ODD))) == sorted(ODD)
    assert len(records.boxes) == len(ODD)
    if write is not write_coco:
        assert sorted(map(records.image_id, range(len(ODD)))) == sorted(ODD)
