"""Folders of classes: layouts, splits, classes, and what is not taken for them."""

from __future__ import annotations

import numpy as np
import pytest
from folders import save_image, three, write_coco, write_drawn, write_voc, write_yolo

from detkit.data import open_dataset, split_name
from detkit.data.formats import LABELS, image_folder
from detkit.errors import DetkitError

LAYOUTS = {  # (pattern of a picture's path, whether there are splits)
    "splits": ("{split}/{name}/{n}.jpg", True),
    "below": ("pictures/{split}/{name}/{n}.jpg", True),
    "deeper": ("{split}/{name}/old/{n}.jpg", True),
    "turned": ("{name}/{split}/{n}.jpg", True),
    "synonyms": ("{other}/{name}/{n}.jpg", True),
    "plain": ("{name}/{split}{n}.jpg", False),
    "plain_below": ("all_of_them/{name}/{split}{n}.jpg", False),
}
OTHER = {"train": "Training", "val": "valid"}


def write(root, pattern="{split}/{name}/{n}.jpg", names=("dog", "cat", "owl"), each=5):
    """As many pictures of each class and split, each of a height of its own."""
    for k, name in enumerate(names):
        for split in ("train", "val"):
            for n in range(each):
                place = pattern.format(split=split, other=OTHER[split], name=name, n=n)
                save_image(root / place, 10 + k, 20 + n)
    return root


def opened(root, split="train", **settings):
    return open_dataset({"root": root, **settings}, split, needs=LABELS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(tmp_path, layout):
    pattern, has_splits = LAYOUTS[layout]
    write(tmp_path, pattern)
    settings = {"root": tmp_path}
    train, val = (opened(tmp_path, split_name(settings, w, LABELS)) for w in ("train", "val"))
    assert "3 folders of classes with pictures: cat, dog, owl" in train.source
    assert train.names == val.names == ("cat", "dog", "owl")
    assert (len(train), len(val)) == ((15, 15) if has_splits else (24, 6))
    for records in (train, val):
        heights = np.array([11, 10, 12])[records.image_labels]  # dogs are 10 pixels high
        assert records.sizes[:, 0].tolist() == heights.tolist()
    assert not set(train.files) & set(val.files)
    assert len(opened(tmp_path, "all")) == len(opened(tmp_path, "train+val")) == 30


def test_without_splits_a_fifth_of_each_class_is_val_wherever_they_lie(tmp_path):
    one, other = (write(tmp_path / p, "{name}/{split}{n}.jpg", each=7) for p in "ab")
    val = opened(one, "val")
    assert np.bincount(val.image_labels).tolist() == [3, 3, 3]
    assert "a fifth of each class" in val.source
    assert val.fingerprint() == opened(other, "val").fingerprint()
    save_image(one / "rare/1.jpg", 8, 8)
    assert np.bincount(opened(one, "val").image_labels, minlength=4).tolist() == [3, 3, 3, 0]


@pytest.mark.parametrize("write_other", [write_voc, write_coco, write_yolo])
def test_data_with_boxes_are_no_folders_of_classes(tmp_path, write_other):
    given = {"lists": {"train": "abc"}} if write_other is write_voc else {}
    write_other(tmp_path, three(), **given)
    for name in ("cat", "dog"):  # though there are also two folders of pictures
        save_image(tmp_path / "more" / name / "1.jpg", 8, 8)
    assert image_folder.recognises(tmp_path, LABELS) is None
    assert opened(tmp_path).crops is not None


def test_pictures_with_masks_or_without_classes_are_none(tmp_path):
    for folder in ("images", "masks"):
        save_image(tmp_path / "pixels" / folder / "a.png", 8, 8)
    for folder in ("images/train", "images/val"):
        save_image(tmp_path / "bare" / folder / "a.png", 8, 8)
    for folder in ("train", "val", "test"):
        save_image(tmp_path / "flat" / folder / "a.png", 8, 8)
    for folder in ("pixels", "bare", "flat"):
        assert image_folder.recognises(tmp_path / folder, LABELS) is None
        with pytest.raises(DetkitError, match="No data set with image_labels"):
            opened(tmp_path / folder)


def test_a_class_may_be_called_as_a_split(tmp_path):
    for folder in ("train", "car", "bus"):
        save_image(tmp_path / folder / "1.jpg", 8, 8)
    assert opened(tmp_path, "all").names == ("bus", "car", "train")
    write(tmp_path / "split", names=("train", "val"))
    assert opened(tmp_path / "split", "val").names == ("train", "val")


def test_every_split_has_the_classes_of_all(tmp_path):
    write(tmp_path)
    save_image(tmp_path / "val/emu/1.jpg", 8, 8)
    assert opened(tmp_path).names == ("cat", "dog", "emu", "owl")
    assert opened(tmp_path).image_labels.max() == 3


def test_a_class_list_orders_and_restricts(tmp_path):
    write(tmp_path)
    assert opened(tmp_path, classes=["owl", "cat", "dog"]).names == ("owl", "cat", "dog")
    with pytest.raises(DetkitError, match="'dog' is no class") as caught:
        opened(tmp_path, classes=["owl", "cat"])
    assert "unknown_classes=drop" in caught.value.remedy
    two = opened(tmp_path, classes=["owl", "cat"], unknown_classes="drop")
    assert np.bincount(two.image_labels).tolist() == [5, 5]
    assert "other classes: dog" in two.notes[0]
    with pytest.raises(DetkitError, match=r"No class 'cta'. Did you mean cat"):
        opened(tmp_path, classes=["owl", "cta", "dog"])
    with pytest.raises(DetkitError, match="unknown_classes 'skip'"):
        opened(tmp_path, classes=["owl", "cat"], unknown_classes="skip")


def test_what_is_in_no_class_is_told(tmp_path):
    write(tmp_path)
    save_image(tmp_path / "test/1.jpg", 8, 8)
    save_image(tmp_path / "extra/cat/1.jpg", 8, 8)
    (tmp_path / "train/emu").mkdir()
    notes = "\n".join(opened(tmp_path).notes)
    assert f"left out 1 pictures of {tmp_path / 'test'}" in notes
    assert f"left out 1 pictures of {tmp_path / 'extra/cat'}" in notes
    assert "folders without pictures: train/emu" in notes
    assert opened(tmp_path).names == ("cat", "dog", "owl")


def test_a_broken_picture_is_named_or_dropped_with_its_class(tmp_path):
    write(tmp_path)
    (tmp_path / "train/dog/3.jpg").write_bytes(b"no picture")
    with pytest.raises(DetkitError, match=r"3\.jpg.*not an image") as caught:
        opened(tmp_path)
    assert "bad_images=drop" in caught.value.remedy
    records = opened(tmp_path, bad_images="drop")
    assert np.bincount(records.image_labels).tolist() == [5, 4, 5]
    assert "left out 1 of 15 images" in records.notes[-1]


def test_a_split_that_is_not_there_and_boxes_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(DetkitError, match="no split 'tset'") as caught:
        opened(tmp_path, "tset")
    assert "train, val" in caught.value.remedy
    with pytest.raises(DetkitError, match="No data set with boxes") as caught:
        open_dataset({"root": tmp_path}, "train")
    assert "model=classifier" in caught.value.remedy
    with pytest.raises(DetkitError, match="hold no boxes"):
        open_dataset({"name": "image_folder", "root": tmp_path}, "train")
    (tmp_path / "none/at/all").mkdir(parents=True)
    with pytest.raises(DetkitError, match="no folders of classes"):
        opened(tmp_path / "none", name="image_folder")


def test_one_name_with_two_suffixes_is_two_pictures(tmp_path):
    write(tmp_path)
    save_image(tmp_path / "train/dog/3.png", 8, 8)
    records = opened(tmp_path)
    assert {"train/dog/3.png", "train/dog/3.jpg"} <= set(records.image_ids)


def test_what_detkit_drew_is_left_out(tmp_path):
    write(tmp_path)
    before = opened(tmp_path)
    write_drawn(tmp_path / "predictions", "abc")
    assert opened(tmp_path).fingerprint() == before.fingerprint()
    assert "predictions/" in opened(tmp_path).notes[0]
