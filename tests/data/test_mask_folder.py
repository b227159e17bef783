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
        records = open_dataset(given, split, needs=frozenset({"pixels"}))
        assert len(records) == count
        assert records.names == tuple(CAMVID)
        raw = np.asarray(Image.open(records.root / records.pixel_files[0]))
        assert (records.pixels(0) == np.where(raw == 11, 255, raw)).all()
        assert records.image(0).shape == (360, 480, 3)
    unnamed = open_dataset({"root": shared / "camvid"}, "val", needs=frozenset({"pixels"}))
    assert unnamed.names == tuple(map(str, range(12)))


def test_membrane_has_two_classes_and_its_lists(shared):
    given = {"root": shared / "membrane"}
    assert split_name(given, "val", needs=frozenset({"pixels"})) == "test"
    for split, count in (("train", 24), ("test", 6)):
        records = open_dataset(given, split, needs=frozenset({"pixels"}))
        assert len(records) == count
        assert records.names == ("0", "1")
        raw = np.asarray(Image.open(records.root / records.pixel_files[0]))
        assert (records.pixels(0) == (raw == 255)).all()
    assert records.image_id(0) == "24"
    explicit = {**given, "values": {0: 0, 255: 1}, "classes": ["membrane", "inside"]}
    records = open_dataset(explicit, "test", needs=frozenset({"pixels"}))
    assert (records.pixels(0) == (raw == 255)).all()
    assert records.names == ("membrane", "inside")


def write(root, images, masks, ending="", value=2):
    for n in range(5):
        save_image(root / images / f"p{n}.jpg", 8, 12)
        mask = np.zeros((8, 12), np.uint8)
        mask[:4] = value
        (root / masks).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / masks / f"p{n}{ending}.png")


def test_a_list_means_the_picture_of_the_folder_that_it_names(tmp_path):
    for folder, value in (("a", 1), ("b", 2)):
        write(tmp_path, f"images/{folder}", f"masks/{folder}", value=value)
    (tmp_path / "train.txt").write_text("a/p0.jpg\nimages/b/p1.jpg\n/else/where/images/a/p2.jpg\n")
    given = {"name": "mask_folder", "root": tmp_path}
    records = open_dataset(given, "train", needs=frozenset({"pixels"}))
    assert list(records.files) == ["images/a/p0.jpg", "images/b/p1.jpg", "images/a/p2.jpg"]
    assert [records.pixels(i).max() for i in range(3)] == [1, 2, 1]
    for line, told in (("p0.jpg", "could be"), ("c/p0.jpg", "is not there"), ("/", "no picture")):
        (tmp_path / "train.txt").write_text(line)
        with pytest.raises(DetkitError, match=told):
            open_dataset(given, "train", needs=frozenset({"pixels"}))


LAYOUTS = {
    "images and masks": ("images", "masks", ""),
    "image and label": ("image", "label", "_mask"),
    "split folders below": ("images/train", "masks/train", ""),
    "split folders above": ("train/images", "train/masks", "_gt"),
    "annot": ("train", "trainannot", ""),
    "any name beside masks": ("meine Bilder", "masks", "_mask"),
    "any name with splits": ("photos/train", "gt/train", ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(tmp_path, layout):
    images, masks, ending = LAYOUTS[layout]
    write(tmp_path, images, masks, ending)
    records = open_dataset({"root": tmp_path}, "train", needs=frozenset({"pixels"}))
    assert len(records) == (5 if "train" in images else 4)
    assert records.names == ("0", "1", "2")
    assert np.unique(records.pixels(0)).tolist() == [0, 2]


def test_a_folder_without_masks_is_told_what_is_looked_for(tmp_path):
    write(tmp_path, "a", "b")
    with pytest.raises(DetkitError, match="No pictures with masks") as caught:
        mask_folder.read(tmp_path, "train")
    assert "masks/" in caught.value.remedy


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
    with pytest.raises(
        DetkitError, match=r"value 7 \(48 pixels\); the 2 classes are 0 … 1"
    ) as caught:
        records.pixels(3)
    assert caught.value.file.name == "p3.png"
    assert "dataset.values" in caught.value.remedy


def test_boxes_are_not_made_of_masks(tmp_path):
    write(tmp_path, "images", "masks")
    with pytest.raises(DetkitError, match="no objects"):
        open_dataset({"name": "mask_folder", "root": tmp_path}, "all", needs=frozenset({"boxes"}))


def of_values(root, *values, name="masks/p0.png"):
    """Five pictures; their masks hold these values."""
    write(root, "images", "masks", value=0)
    mask = np.resize(np.array(values, np.uint8), (8, 12))
    Image.fromarray(mask).save(root / name)
    return {"name": "auto", "root": root}


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ((0, 127, 254), {0: 0, 127: 1, 254: 2}),
        ((0, 128, 255), {0: 0, 128: 1, 255: 2}),
        ((0, 17, 34, 51), {0: 0, 17: 1, 34: 2, 51: 3}),
    ],
)
def test_values_that_are_no_indices_stop_with_the_setting_that_reads_them(
    tmp_path, values, setting
):
    settings = of_values(tmp_path, *values)
    with pytest.raises(DetkitError, match=", ".join(map(str, values))) as caught:
        open_dataset(settings, "all", needs=frozenset({"pixels"}))
    assert f"dataset.values={setting}" in caught.value.remedy
    records = open_dataset({**settings, "values": setting}, "all", needs=frozenset({"pixels"}))
    assert np.unique(records.pixels(0)).tolist() == list(range(len(values)))


@pytest.mark.parametrize("values", [(0, 1, 2), (1, 2), (0, 3, 5, 255), (0, 255), (255,), (0,)])
def test_indices_of_which_some_are_absent_are_read(tmp_path, values):
    records = open_dataset(of_values(tmp_path, *values), "all", needs=frozenset({"pixels"}))
    assert set(np.unique(records.pixels(0))) <= {*values, 1}
    assert len(records.names) <= 6


def test_named_classes_may_be_absent(tmp_path):
    settings = {**of_values(tmp_path, 0, 200), "classes": list(map(str, range(201)))}
    assert open_dataset(settings, "all", needs=frozenset({"pixels"})).pixels(0).max() == 200


def test_masks_as_jpeg_are_refused(tmp_path):
    settings = of_values(tmp_path, 0, 255)
    Image.open(tmp_path / "masks/p1.png").convert("L").save(tmp_path / "masks/p1.jpg")
    (tmp_path / "masks/p1.png").unlink()
    with pytest.raises(DetkitError, match=r"p1\.jpg.* is a JPEG") as caught:
        open_dataset(settings, "all", needs=frozenset({"pixels"}))
    assert "PNG" in caught.value.remedy


@pytest.mark.parametrize("ignore", [300, 256, -1])
def test_a_value_to_ignore_that_no_mask_can_hold_is_refused(tmp_path, ignore):
    write(tmp_path, "images", "masks")
    with pytest.raises(DetkitError, match=rf"dataset\.ignore is {ignore}") as caught:
        mask_folder.read(tmp_path, "all", ignore=ignore)
    assert "0 … 255" in caught.value.remedy


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path):
    write(tmp_path, "images", "masks")
    lines = "images/p1.jpg masks/p1.png\nimages/p2.jpg masks/p2.png\n"
    (tmp_path / "train.txt").write_text(lines, encoding="utf-8-sig")
    records = open_dataset({"root": tmp_path}, "train", needs=frozenset({"pixels"}))
    assert [records.image_id(i) for i in range(2)] == ["p1", "p2"]
    with pytest.raises(DetkitError, match="no split"):  # a name too long for a file
        mask_folder.read(tmp_path, "x" * 300)


def test_a_broken_list_is_told_where_the_format_is_looked_for(tmp_path):
    write(tmp_path, "images", "masks")
    (tmp_path / "train.txt").write_text("images/p1.jpg masks/p1.png\nimages/p2.jpg\n")
    with pytest.raises(DetkitError, match=r"'images/p2\.jpg' is not a picture and a mask"):
        open_dataset({"root": tmp_path}, "train", needs=frozenset({"pixels"}))


def test_a_link_to_nothing_is_no_list(tmp_path):
    write(tmp_path, "images", "masks")
    (tmp_path / "notes.txt").symlink_to(tmp_path / "gone.txt")
    assert len(open_dataset({"root": tmp_path}, "all", needs=frozenset({"pixels"}))) == 5
