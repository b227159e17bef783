"""YOLO text: layouts, names, and what is written comes back."""

from __future__ import annotations

import numpy as np
import pytest
from folders import NAMES, Picture, Thing, save_image, three, write_yolo
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.data import open_dataset, split_name
from detkit.data.formats import yolo_text
from detkit.errors import DetkitError


@st.composite
def pictures(draw):
    height, width = draw(st.integers(8, 60)), draw(st.integers(8, 60))
    things = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
        things.append(Thing(draw(st.sampled_from(NAMES)), (x1, y1, x2, y2)))
    return Picture(str(draw(st.uuids())), height, width, things)


@settings(max_examples=25, deadline=None)
@given(st.lists(pictures(), min_size=1, max_size=4).filter(lambda ps: any(p.things for p in ps)))
def test_what_is_written_comes_back(tmp_path_factory, written):
    root = write_yolo(tmp_path_factory.mktemp("yolo"), written)
    records = yolo_text.read(root, "train")
    assert records.names == NAMES
    assert len(records) == len(written)
    by_stem = {picture.stem: picture for picture in written}
    for i in range(len(records)):
        picture, found = by_stem[records.image_id(i)], records.annotation(i)
        assert np.allclose(
            found.boxes, np.reshape([t.box for t in picture.things], (-1, 4)), atol=1e-3
        )
        assert [records.names[k] for k in found.labels] == [t.name for t in picture.things]
        areas = [(t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) for t in picture.things]
        assert np.allclose(found.areas, areas, atol=0.01)
        assert records.sizes[i].tolist() == [picture.height, picture.width]


LAYOUTS = {
    "images/train": ("images/{}", "labels/{}"),
    "train/images": ("{}/images", "{}/labels"),
    "one folder a split": ("{}", "{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(tmp_path, layout):
    images, labels = LAYOUTS[layout]
    write_yolo(tmp_path, three(), images.format("train"), labels.format("train"))
    last = [Picture("a", 10, 20, [Thing("cat", (0, 0, 20, 10))])]
    write_yolo(tmp_path, last, images.format("valid"), labels.format("valid"))
    given = {"root": str(tmp_path)}
    assert split_name(given, "val") == "valid"
    train, val = (open_dataset(given, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 1)
    assert "YOLO" in train.source
    assert len(train.boxes) == 3
    assert val.boxes.tolist() == [[0, 0, 20, 10]]
    assert train.image(0).shape == (40, 60, 3)


def test_without_splits_a_fifth_is_val(tmp_path):
    written = [Picture(f"p{n}", things=[Thing("cat", (0, 0, 6, 6))]) for n in range(10)]
    write_yolo(tmp_path, written, "images", "labels")
    assert [len(open_dataset({"root": tmp_path}, s)) for s in ("train", "val")] == [8, 2]


@pytest.mark.parametrize("names", ["[cat, dog, owl]", "{2: owl, 0: cat, 1: dog}"])
@pytest.mark.parametrize("where", ["images/train", "../images/train", "list.txt"])
def test_data_yaml_names_classes_and_splits(tmp_path, names, where):
    write_yolo(tmp_path, three(), names_file=None)
    (tmp_path / "list.txt").write_text("".join(f"images/train/{p.stem}.jpg\n" for p in three()))
    (tmp_path / "data.yaml").write_text(
        f"train: {where}\nval: images/train\nnc: 3\nnames: {names}\n"
    )
    records = open_dataset({"root": tmp_path}, "train")
    assert records.names == NAMES
    assert len(records) == 3
    assert len(records.boxes) == 3


def test_an_image_without_a_text_file_is_kept_without_objects(tmp_path):
    records = yolo_text.read(write_yolo(tmp_path, three()), "train")
    empty = [records.image_id(i) for i in range(3) if not len(records.annotation(i).boxes)]
    assert empty == ["c"]


def test_polygons_give_masks_and_their_box(tmp_path):
    save_image(tmp_path / "images/train/a.jpg", 40, 60)
    save_image(tmp_path / "images/train/b.jpg", 40, 60)
    (tmp_path / "labels/train").mkdir(parents=True)
    line = "1 0.25 0.25 0.75 0.25 0.75 0.5 0.25 0.5\n"
    (tmp_path / "labels/train/b.txt").write_text(line)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    records = open_dataset({"root": tmp_path}, "train", task="segment_instances")
    assert records.annotation(1).boxes.tolist() == [[15, 10, 45, 20]]
    expected = np.zeros((40, 60), bool)
    expected[10:20, 15:45] = True
    assert (records.masks(1) == expected).all()
    assert records.masks(0).shape == (0, 40, 60)
    assert open_dataset({"root": tmp_path}, "train").instances is None


def test_without_names_the_numbers_of_all_splits_are_names(tmp_path):
    write_yolo(tmp_path, three()[:1], names_file=None)
    write_yolo(tmp_path, three()[1:], "images/val", "labels/val", names_file=None)
    for split in ("train", "val"):
        records = yolo_text.read(tmp_path, split)
        assert records.names == ("0", "1", "2")
        assert "by their numbers" in records.notes[0]


def test_without_names_a_line_that_is_none_is_told_by_its_own_check(tmp_path):
    write_yolo(tmp_path, three(), names_file=None)
    label = next(path for path in sorted(tmp_path.rglob("*.txt")) if path.stat().st_size)
    label.write_text(label.read_text() + "cat 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DetkitError) as caught:
        yolo_text.read(tmp_path, "train")
    assert caught.value.file.name == label.name


def test_equal_stems_in_several_folders_get_longer_ids(tmp_path):
    for scene in "xy":
        write_yolo(tmp_path, three()[:1], f"images/train/{scene}", f"labels/train/{scene}")
    records = yolo_text.read(tmp_path, "train")
    assert [records.image_id(i) for i in range(2)] == ["images/train/x/a", "images/train/y/a"]
