"""Pictures and index masks: the real sets, layouts, values."""

from __future__ import annotations

import numpy as np
import pytest
from folders import save_image
from PIL import Image

from detkit.data import open_dataset, split_name
from detkit.data.formats import mask_folder
from detkit.errors import DetkitError

CAMVID = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence"]
CAMVID += ["car", "pedestrian", "cyclist"]


def test_camvid_is_recognised_by_its_lists(shared):
    given = {"root": shared / "camvid", "classes": CAMVID, "ignore": 11}
    for split, count in (("train", 184), ("val", 51), ("test", 117)):
        records = open_dataset(given, split, task="segment_pixels")
        assert len(records) == count
        assert records.names == tuple(CAMVID)
        raw = np.asarray(Image.open(records.root / records.pixel_files[0]))
        assert (records.pixels(0) == np.where(raw == 11, 255, raw)).all()
        assert records.image(0).shape == (360, 480, 3)
    unnamed = open_dataset({"root": shared / "camvid"}, "val", task="segment_pixels")
    assert unnamed.names == tuple(map(str, range(12)))


def test_membrane_has_two_classes_and_its_lists(shared):
    given = {"root": shared / "membrane"}
    assert split_name(given, "val", task="segment_pixels") == "test"
    for split, count in (("train", 24), ("test", 6)):
        records = open_dataset(given, split, task="segment_pixels")
        assert len(records) == count
        assert records.names == ("0", "1")
        raw = np.asarray(Image.open(records.root / records.pixel_files[0]))
        assert (records.pixels(0) == (raw == 255)).all()
    assert records.image_id(0) == "24"
    explicit = {**given, "values": {0: 0, 255: 1}, "classes": ["membrane", "inside"]}
    records = open_dataset(explicit, "test", task="segment_pixels")
    assert (records.pixels(0) == (raw == 255)).all()
    assert records.names == ("membrane", "inside")


def write(root, images, masks, ending="", value=2):
    for n in range(5):
        save_image(root / images / f"p{n}.jpg", 8, 12)
        mask = np.zeros((8, 12), np.uint8)
        mask[:4] = value
        (root / masks).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / masks / f"p{n}{ending}.png")


LAYOUTS = {
    "images and masks": ("images", "masks", ""),
    "image and label": ("image", "label", "_mask"),
    "split folders below": ("images/train", "masks/train", ""),
    "split folders above": ("train/images", "train/masks", "_gt"),
    "annot": ("train", "trainannot", ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(tmp_path, layout):
    images, masks, ending = LAYOUTS[layout]
    write(tmp_path, images, masks, ending)
    records = open_dataset({"root": tmp_path}, "train", task="segment_pixels")
    assert len(records) == (5 if "train" in images else 4)
    assert records.names == ("0", "1", "2")
    assert np.unique(records.pixels(0)).tolist() == [0, 2]


def test_ignore_moves_the_labels_behind_it_down(tmp_path):
    write(tmp_path, "images", "masks")
    records = mask_folder.read(tmp_path, "all", ignore=0)
    assert np.unique(records.pixels(0)).tolist() == [1, 255]
    assert records.names == ("1", "2")


def test_names_are_by_value_also_where_one_is_ignored(tmp_path):
    write(tmp_path, "images", "masks")
    (tmp_path / "classes.txt").write_text("void\nroad\ntree\n")
    records = mask_folder.read(tmp_path, "all", ignore=0)
    assert records.names == ("road", "tree")
    assert np.unique(records.pixels(0)).tolist() == [records.names.index("tree"), 255]


@pytest.mark.parametrize("values", [{300: 1}, {0: 0, 255: 2}, {0: -1}])
def test_values_that_no_mask_or_label_can_have_are_refused(tmp_path, values):
    write(tmp_path, "images", "masks")
    with pytest.raises(DetkitError, match=r"dataset\.values makes"):
        mask_folder.read(tmp_path, "all", values=values, classes=["a", "b"])


def test_a_value_beyond_the_classes_is_named_with_its_file(tmp_path):
    write(tmp_path, "images", "masks", value=7)
    (tmp_path / "classes.txt").write_text("road\ncar\n")
    records = mask_folder.read(tmp_path, "all")
    with pytest.raises(DetkitError, match=r"value 7; the 2 classes are 0 … 1") as caught:
        records.pixels(3)
    assert caught.value.file.name == "p3.png"
    assert "dataset.values" in caught.value.remedy


def test_boxes_are_not_made_of_masks(tmp_path):
    write(tmp_path, "images", "masks")
    with pytest.raises(DetkitError, match="no objects"):
        open_dataset({"name": "mask_folder", "root": tmp_path}, "all", task="detect")
