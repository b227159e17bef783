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


@pytest.mark.parametrize("names", ["[cat, no, owl]", "[cat, null, owl]", "[[cat], [dog], owl]"])
def test_names_that_yaml_takes_for_something_else_are_refused(tmp_path, names):
    write_yolo(tmp_path, three(), names_file=None)
    (tmp_path / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    with pytest.raises(DetkitError, match="not one name each") as error:
        open_dataset({"root": tmp_path}, "train")
    assert "quotes" in error.value.remedy


def test_two_lists_of_names_that_differ_are_told(tmp_path):
    write_yolo(tmp_path, three(), names_file=None)
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat, dog, owl]\n")
    for lines, notes in (("cat\ndog\nowl", 0), ("dog\ncat\nowl", 1), ("cat\n\nowl", 1)):
        (tmp_path / "classes.txt").write_text(lines)
        records = open_dataset({"root": tmp_path}, "train")
        assert records.names == NAMES
        assert len([note for note in records.notes if "other class names" in note]) == notes


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
    records = open_dataset({"root": tmp_path}, "train", needs=frozenset({"boxes", "masks"}))
    assert records.annotation(1).boxes.tolist() == [[15, 10, 45, 20]]
    expected = np.zeros((40, 60), bool)
    expected[10:20, 15:45] = True
    assert (np.array(records.masks(1)) == expected).all()
    assert np.array(records.masks(0)).shape == (0, 40, 60)
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


def test_the_yaml_that_is_named_is_the_one_that_is_read(tmp_path):
    write_yolo(tmp_path, three(), names_file=None)
    write_yolo(tmp_path, three()[:1], "images/other", "labels/other", names_file=None)
    for name, train, names in (
        ("data.yaml", "images/train", "[a, b, c]"),
        ("b.yaml", "images/other", "[d, e, f]"),
    ):
        (tmp_path / name).write_text(f"train: {train}\nnames: {names}\n")
    for name in ("auto", "yolo_text"):
        records = open_dataset({"name": name, "root": tmp_path / "b.yaml"}, "train")
        assert (len(records), records.names) == (1, ("d", "e", "f"))
        assert "b.yaml" in records.source
    (tmp_path / "b.yaml").write_text("train: images/none\nnames: [d]\n")
    with pytest.raises(DetkitError, match="not there") as caught:
        yolo_text.read(tmp_path / "b.yaml", "train")
    assert caught.value.file.name == "b.yaml"
    (tmp_path / "b.yaml").write_text(f"train: {'a' * 300}\nnames: [d]\n")
    with pytest.raises(DetkitError, match="not there"):
        yolo_text.read(tmp_path / "b.yaml", "train")


def test_a_split_without_pictures_is_not_one_without_labels(tmp_path):
    root = write_yolo(tmp_path, three(), names_file=None)
    (root / "images/val").mkdir()
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b, c]\n")
    with pytest.raises(DetkitError, match="no images"):
        yolo_text.read(root, "val")


def pose(root, line, more=""):
    """One picture with one line."""
    save_image(root / "images/train/a.jpg", 40, 60)
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text(line)
    (root / "data.yaml").write_text(f"train: images/train\nnames: [cat]\n{more}")
    return root


@pytest.mark.parametrize("shape", [(3, 2), (4, 3), (5, 3)])
def test_keypoints_behind_a_box_are_left_out(tmp_path, shape):
    keypoints = " 0.9" * (shape[0] * shape[1])
    root = pose(tmp_path, f"0 0.5 0.5 0.5 0.5{keypoints}\n", f"kpt_shape: {list(shape)}\n")
    assert yolo_text.read(root, "train").boxes.tolist() == [[15, 10, 45, 30]]
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.5 0.9 0.9 0.9 0.9\n")
    with pytest.raises(DetkitError, match="kpt_shape") as caught:
        yolo_text.read(root, "train")
    assert (caught.value.file.name, caught.value.record) == ("a.txt", "line 1")


def test_numbers_that_are_neither_box_nor_polygon_are_refused(tmp_path):
    root = pose(tmp_path, "0 0.5 0.5 0.5 0.5" + " 0.9" * 9)
    with pytest.raises(DetkitError, match="it has 14 numbers") as caught:
        yolo_text.read(root, "train")
    assert caught.value.record == "line 1"
    assert "kpt_shape" in caught.value.remedy
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\nkpt_shape: 17\n")
    with pytest.raises(DetkitError, match="kpt_shape is '17'"):
        yolo_text.read(root, "train")


def test_a_text_file_that_is_a_link_to_nothing_is_told(tmp_path):
    root = write_yolo(tmp_path, three())
    (root / "labels/train/c.txt").symlink_to("nowhere")
    with pytest.raises(DetkitError, match="cannot be read") as caught:
        yolo_text.read(root, "train")
    assert caught.value.file.name == "c.txt"


def test_data_yaml_may_lie_apart_from_the_data(tmp_path):
    root = write_yolo(tmp_path / "images/data", three(), names_file=None)
    val = [Picture("v", things=[Thing("cat", (0, 0, 9, 9))])]
    write_yolo(root, val, names_file=None)
    (tmp_path / "conf").mkdir()
    (root / "train.txt").write_text("images/train/a.jpg\nimages/train/b.jpg\n")
    (tmp_path / "conf/data.yaml").write_text(
        f"path: {root}\ntrain: images/train\nval: train.txt\nnames: [cat, dog, owl]\n"
    )
    assert len(yolo_text.read(tmp_path / "conf", "train").boxes) == 4
    assert len(yolo_text.read(tmp_path / "conf", "val").boxes) == 3


def test_a_list_of_pictures_that_are_nowhere_is_told(tmp_path):
    root = write_yolo(tmp_path, three())
    (root / "train.txt").write_text("/content/images/train/x.jpg\n/content/images/train/y.jpg\n")
    with pytest.raises(DetkitError, match="picture is missing") as caught:
        yolo_text.read(root, "train.txt")
    assert str(caught.value.file) == "/content/images/train/x.jpg"
    assert "correct the paths" in caught.value.remedy


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("{0: cat, 1: dog, 2: owl}", NAMES),
        ("{'0': cat, '1': dog, '2': owl}", NAMES),
        ("[' cat ', dog, owl]", NAMES),
        ("[007, 1e3, 2020-01-01]", ("007", "1e3", "2020-01-01")),
        ("my.names", NAMES),
        ("{0: cat, 2: dog, 5: owl}", None),
        ("[cat, cat, owl]", None),
        ("['', dog, owl]", None),
        ("[no, dog, owl]", None),
        ("[null, dog, owl]", None),
    ],
)
def test_names_of_a_yaml_are_as_they_are_written(tmp_path, names, expected):
    root = write_yolo(tmp_path, three(), names_file="my.names")
    (root / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    if expected is None:
        with pytest.raises(DetkitError, match="not one name each"):
            yolo_text.read(root, "train")
        return
    assert yolo_text.read(root, "train").names == expected


def test_a_yaml_may_list_pictures_and_count_otherwise(tmp_path):
    root = write_yolo(tmp_path, three(), names_file=None)
    entries = "[images/train/a.jpg, images/train/b.jpg]"
    text = f"train: {entries}\nnc: 80\nnames: [cat, dog, owl]\n"
    (root / "DATA.YAML").write_text(text)
    records = yolo_text.read(root, "train")
    assert list(records.files) == ["images/train/a.jpg", "images/train/b.jpg"]
    assert "nc of DATA.YAML is 80" in records.notes[0]
    (root / "DATA.YAML").write_text("train: images/train\nnc: 3\n")
    records = yolo_text.read(root, "train")
    assert (len(records), records.names) == (3, ("0", "1", "2"))


def test_numbers_before_the_names_are_no_names(tmp_path):
    root = write_yolo(tmp_path, three())
    (root / "classes.txt").write_text("0: cat\n1: dog\n2: owl\n")
    assert yolo_text.read(root, "train").names == NAMES


def test_a_list_beside_the_folder_of_its_split_is_told(tmp_path):
    root = write_yolo(tmp_path, three())
    (root / "train.txt").write_text("images/train/a.jpg\n")
    records = yolo_text.read(root, "train")
    assert len(records) == 3
    assert "train.txt names another number of pictures" in records.notes[0]
    assert len(yolo_text.read(root, "train.txt")) == 1  # as the note has it


def test_a_picture_that_is_not_read_is_named_where_it_lies(tmp_path):
    root = write_yolo(tmp_path, three())
    (root / "images/train/a.jpg").rename(root / "images/train/a.avif")
    with pytest.raises(DetkitError, match="no picture") as caught:
        yolo_text.read(root, "train")
    assert "images/train/a.avif: pictures of this kind are not read" in caught.value.remedy
