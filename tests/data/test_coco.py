"""COCO: pycocotools as the reference, layouts, order, ids, and what is written comes back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from folders import NAMES, Picture, Thing, coco_dict, save_image, three, write_coco
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from detkit.data import open_dataset, split_name
from detkit.data.formats import coco
from detkit.errors import DetkitError
from detkit.ops.run_lengths import unpacked


@pytest.mark.parametrize(("split", "objects", "crowds"), [("train", 1048, 8), ("val", 1104, 12)])
def test_coco_mini_is_what_pycocotools_reads(shared, split, objects, crowds):
    records = coco.read(shared / "coco-mini", split, needs=frozenset({"boxes", "masks"}))
    assert (len(records), len(records.boxes), records.crowd.sum()) == (120, objects, crowds)
    reference = COCO(str(shared / f"coco-mini/annotations/instances_{split}.json"))
    assert len(records.names) == 80
    assert records.category_ids.tolist() == sorted(reference.cats)
    for i in range(len(records)):
        image_id, found = records.image_id(i), records.annotation(i)
        wanted = reference.imgToAnns[image_id]
        assert records.files[i].endswith(reference.imgs[image_id]["file_name"])
        assert records.category_ids[found.labels].tolist() == [w["category_id"] for w in wanted]
        assert found.areas.tolist() == [w["area"] for w in wanted]
        assert found.crowd.tolist() == [bool(w["iscrowd"]) for w in wanted]
        boxes = np.array([w["bbox"] for w in wanted]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert np.allclose(found.boxes, boxes, atol=1e-4)
        for mask, thing in zip(records.masks(i), wanted, strict=True):
            assert (mask == reference.annToMask(thing)).all()


def test_masks_follow_their_objects_into_a_subset(shared):
    whole = coco.read(shared / "coco-mini", "val", needs=frozenset({"boxes", "masks"}))
    part = whole.subset([7, 3])
    assert (np.array(part.masks(0)) == np.array(whole.masks(7))).all()
    assert (np.array(part.masks(1)) == np.array(whole.masks(3))).all()


def test_the_three_ways_to_write_a_mask_are_one(tmp_path):
    """A rectangle as polygon, run lengths and compressed run lengths."""
    from pycocotools import mask

    data = coco_dict([Picture("a", things=[Thing("cat", (10, 5, 30, 25))] * 3)])
    grid = np.zeros((40, 60), np.uint8, order="F")
    grid[5:25, 10:30] = 1
    packed = mask.encode(grid)
    runs = [10 * 40 + 5, *[20, 20] * 19, 20, 30 * 40 - 5 - 10]
    runs[-1] = 40 * 60 - sum(runs[:-1])
    data["annotations"][1]["segmentation"] = {"size": [40, 60], "counts": runs}
    data["annotations"][2]["segmentation"] = {
        "size": [40, 60],
        "counts": packed["counts"].decode(),
    }
    (tmp_path / "train.json").write_text(json.dumps(data))
    save_image(tmp_path / "a.jpg", 40, 60)
    masks = coco.read(tmp_path, "train", needs=frozenset({"boxes", "masks"})).masks(0)
    assert np.array(masks).shape == (3, 40, 60)
    assert all((m == grid).all() for m in masks)


def test_compressed_run_lengths_unpack_as_pycocotools_packed_them():
    from pycocotools import mask

    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 60, 2)
        grid = np.asfortranarray(rng.random((height, width)) < rng.random(), np.uint8)
        changes = np.flatnonzero(np.diff(np.concatenate([[0], grid.T.ravel()]))).tolist()
        wanted = np.diff([0, *changes, height * width]).tolist()
        assert unpacked(mask.encode(grid)["counts"].decode()) == wanted


CORNER, SIDE = st.floats(0, 7, width=32), st.floats(0.5, 9, width=32)
THINGS = st.tuples(st.tuples(CORNER, CORNER, SIDE, SIDE), st.sampled_from(NAMES), st.booleans())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(THINGS, max_size=4), min_size=1, max_size=4))
def test_what_is_written_comes_back(tmp_path_factory, written):
    root = tmp_path_factory.mktemp("coco")
    data = coco_dict([Picture(f"p{n}") for n in range(len(written))])
    for n, group in enumerate(written):
        for box, name, crowd in group:
            entry = {"id": len(data["annotations"]), "image_id": n + 1, "bbox": list(box)}
            entry |= {"category_id": 10 + 10 * NAMES.index(name), "iscrowd": int(crowd)}
            data["annotations"].append(entry)
    (root / "instances_val.json").write_text(json.dumps(data))
    records = coco.read(root, "val", images=False)
    assert records.names == NAMES
    assert records.category_ids.tolist() == [10, 20, 30]
    for i, group in enumerate(written):
        found = records.annotation(i)
        boxes = np.array([box for box, _, _ in group]).reshape(-1, 4)
        assert np.allclose(found.areas, boxes[:, 2] * boxes[:, 3])
        boxes[:, 2:] += boxes[:, :2]
        assert np.array_equal(records.boxes[records.offsets[i] : records.offsets[i + 1]], boxes)
        assert [records.names[k] for k in found.labels] == [name for _, name, _ in group]
        assert found.crowd.tolist() == [crowd for _, _, crowd in group]


LAYOUTS = {
    "official": ("annotations/instances_{}2017.json", "{}2017"),
    "images below a folder": ("annotations/instances_{}.json", "images/{}2017"),
    "json beside the pictures": ("{}/_annotations.coco.json", "{}"),
    "one folder of pictures": ("{}.json", "images"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(tmp_path, layout):
    file, images = LAYOUTS[layout]
    write_coco(tmp_path, three(), file.format("train"), images.format("train"))
    write_coco(tmp_path, [Picture("z")], file.format("valid"), images.format("valid"))
    settings = {"root": str(tmp_path)}
    assert split_name(settings, "val") == "valid"
    train, val = (open_dataset(settings, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 1)
    assert "COCO" in train.source
    assert train.image(1).shape == (30, 50, 3)
    assert train.image_id(1) == 2
    assert train.integer_ids


def test_one_file_is_split_by_hash_beside_pictures_and_whole_without(tmp_path):
    written = [Picture(f"p{n}") for n in range(10)]
    root = write_coco(tmp_path / "with", written, "labels.json", "pictures")
    assert [len(coco.read(root, split)) for split in ("train", "val", "all")] == [8, 2, 10]
    bare = write_coco(tmp_path / "without", written, "labels.json", None)
    assert len(coco.read(bare, "val", images=False)) == 10


def test_an_annotation_file_is_a_split_or_a_setting(tmp_path):
    root = write_coco(tmp_path, three(), "annotations/mine.json", "images")
    file = str(root / "annotations/mine.json")
    for records in (
        coco.read(root, file),
        coco.read(root, "mine.json"),
        coco.read(root, "val", annotations=file),
        open_dataset({"name": "coco", "annotations": file}, "val", images=False),
        open_dataset({"name": "auto", "root": file}, "all", images=False),
    ):
        assert len(records) == 3


def test_the_order_of_the_file_is_kept(tmp_path):
    data = coco_dict(three())
    data["images"].reverse()
    data["annotations"].reverse()
    (tmp_path / "val.json").write_text(json.dumps(data))
    records = coco.read(tmp_path, "val", images=False)
    assert [records.image_id(i) for i in range(3)] == [3, 2, 1]
    assert records.annotation(2).areas.tolist() == [200.0, 1200.0]


def test_classes_choose_and_order_categories(tmp_path):
    root = write_coco(tmp_path, three())
    records = coco.read(root, "train", classes=["owl", "dog"], unknown_classes="drop")
    assert records.names == ("owl", "dog")
    assert records.category_ids.tolist() == [30, 20]
    assert records.labels.tolist() == [1, 0]
    with pytest.raises(DetkitError, match="Did you mean owl"):
        coco.read(root, "train", classes=["oowl"])


def test_string_ids_stay_strings(tmp_path):
    data = coco_dict(three())
    for image in data["images"]:
        image["id"] = f"n{image['id']}"
    for thing in data["annotations"]:
        thing["image_id"] = f"n{thing['image_id']}"
    (tmp_path / "val.json").write_text(json.dumps(data))
    assert coco.read(tmp_path, "val", images=False).image_id(0) == "n1"


def test_pictures_may_lie_elsewhere(tmp_path):
    data = coco_dict(three())
    for image in data["images"]:
        image["file_name"] = str(tmp_path / "far" / image["file_name"])
        save_image(tmp_path / "far" / image["file_name"], image["height"], image["width"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train.json").write_text(json.dumps(data))
    records = coco.read(tmp_path / "set", "train")
    assert records.path(1) == tmp_path / "far/b.jpg"
    assert records.image(1).shape == (30, 50, 3)


@pytest.mark.parametrize("word", ["val", "rgb"])
def test_a_picture_in_two_folders_is_a_question_unless_one_is_the_splits(tmp_path, word):
    write_coco(tmp_path, three(), "instances_val.json", "depth")
    for picture in three():
        save_image(tmp_path / word / f"{picture.stem}.jpg", picture.height, picture.width)
    if word == "val":
        assert coco.read(tmp_path, "val").files[0] == "val/a.jpg"
        return
    with pytest.raises(DetkitError, match=r"depth/a\.jpg and rgb/a\.jpg") as caught:
        coco.read(tmp_path, "val")
    assert "file_name" in caught.value.remedy
    assert len(coco.read(tmp_path, "val", images=False)) == 3
    (tmp_path / "rgb/a.jpg").unlink()
    (tmp_path / "rgb/a.jpg").symlink_to("../depth/a.jpg")  # the same picture twice
    assert coco.read(tmp_path, "val").files[0] == "depth/a.jpg"


def test_the_split_may_be_named_by_a_folder_above_the_pictures(tmp_path):
    for split in ("train", "valid"):
        write_coco(tmp_path, three(), f"annotations/{split}.json", f"{split}/images")
    assert coco.read(tmp_path, "val").files[0] == "valid/images/a.jpg"


def written(root, change):
    """A file of three images, changed, without pictures."""
    data = coco_dict(three())
    change(data)
    (root / "val.json").write_text(json.dumps(data))
    return coco.read(root, "val", images=False)


def test_ids_that_are_whole_floats_are_integers(tmp_path):
    def change(data):
        for entry in (*data["images"], *data["annotations"], *data["categories"]):
            for key in {"id", "image_id", "category_id"} & entry.keys():
                entry[key] = float(entry[key])

    records = written(tmp_path, change)
    assert records.integer_ids
    assert [records.image_id(i) for i in range(3)] == [1, 2, 3]
    assert records.category_ids.tolist() == [10, 20, 30]


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, False, True, None])
def test_a_crowd_is_0_or_1(tmp_path, value):
    records = written(tmp_path, lambda data: data["annotations"][1].update(iscrowd=value))
    assert records.crowd.tolist() == [False, bool(value), False]


WRONG = {
    "crowd as text": ("annotations", {"iscrowd": "0"}, "iscrowd is '0'"),
    "crowd of two": ("annotations", {"iscrowd": 2}, "iscrowd is 2"),
    "image id": ("images", {"id": 1.5}, "id is '1.5'"),
    "image id of nothing": ("images", {"id": float("nan")}, "id is 'nan'"),
    "image id of truth": ("images", {"id": True}, "id is 'True'"),
    "image of a box": ("annotations", {"image_id": 1.5}, "image_id is '1.5'"),
    "category of a box": ("annotations", {"category_id": 10.5}, "category_id is '10.5'"),
    "huge box": ("annotations", {"bbox": [10**400, 1, 2, 2]}, "four numbers"),
    "huge area": ("annotations", {"area": 10**400}, "area has 401 digits"),
    "half a character": ("images", {"file_name": "\ud800.jpg"}, r"'\\ud800\.jpg'"),
    "half a character, id": ("images", {"id": "\ud800"}, "half a character"),
    "half a character, class": ("categories", {"name": "\ud800"}, "half a character"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_number_id_or_name_is_told_with_its_place(tmp_path, fault):
    key, values, says = WRONG[fault]
    with pytest.raises(DetkitError, match=says) as caught:
        written(tmp_path, lambda data: data[key][1].update(values))
    assert caught.value.file == tmp_path / "val.json"
    assert caught.value.record in (f"{key}[1]", "annotation 101")


def test_a_number_too_long_for_python_is_told_with_its_place(tmp_path):
    text = json.dumps(coco_dict(three()), indent=0)
    (tmp_path / "val.json").write_text(text.replace('"id": 1,', f'"id": {"9" * 5000},', 1))
    with pytest.raises(DetkitError, match="digits") as caught:
        coco.read(tmp_path, "val", images=False)
    assert caught.value.record == "line 4, column 7"
