"""Objects as pictures: the pixels of their boxes, in every format with boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from folders import Picture, Thing, save_image, write_coco, write_voc, write_yolo

from detkit.data import open_dataset
from detkit.data import records as data_records
from detkit.data.crops import crops_of
from detkit.data.formats import LABELS
from detkit.data.loading import Dataset
from detkit.data.order import evaluation_batches
from detkit.data.transforms import build
from detkit.errors import DetkitError

WRITERS = {
    "voc": lambda root, pictures: write_voc(root, pictures, {"train": [p.stem for p in pictures]}),
    "coco": lambda root, pictures: write_coco(root, pictures),
    "yolo_text": lambda root, pictures: write_yolo(root, pictures),
}


def pictures():
    first = [
        Thing("dog", (0, 0, 60, 40)),
        Thing("cat", (10, 5, 17, 25)),  # 7 pixels wide
        Thing("owl", (7, 3, 40, 19)),
    ]
    return [Picture("a", things=first), Picture("b", 30, 50, [Thing("owl", (1, 2, 9, 30))])]


@pytest.mark.parametrize("name", WRITERS)
def test_each_object_is_the_part_of_its_picture(tmp_path, name):
    WRITERS[name](tmp_path, pictures())
    whole = open_dataset({"root": tmp_path}, "train")
    crops = open_dataset({"root": tmp_path}, "train", needs=LABELS)
    assert [crops.names[label] for label in crops.image_labels] == ["dog", "owl", "owl"]
    boxes = [(0, 0, 60, 40), (7, 3, 40, 19), (1, 2, 9, 30)]
    for i, (photo, (x1, y1, x2, y2)) in enumerate(zip((0, 0, 1), boxes, strict=True)):
        assert np.array_equal(crops.image(i), whole.image(photo)[y1:y2, x1:x2])
        assert crops.sizes[i].tolist() == [y2 - y1, x2 - x1]
        assert crops.path(i) == whole.path(photo)
    first = whole.image_id(0)
    assert [crops.image_id(i) for i in range(3)][:2] == [f"{first}_1", f"{first}_3"]
    assert "1 narrower or lower than 8 pixels" in crops.notes[-1]
    assert "its objects cut out" in crops.source
    every = open_dataset({"root": tmp_path, "least_side": 7}, "train", needs=LABELS)
    assert len(every) == 4


def test_crowds_and_difficult_ones_are_left_out_and_counted(tmp_path):
    crowd = [Thing("dog", (0, 0, 30, 30)), Thing("cat", (5, 5, 30, 25), crowd=True)]
    write_coco(tmp_path / "coco", [Picture("a", things=crowd)])
    hard = [Thing("dog", (0, 0, 30, 30)), Thing("cat", (5, 5, 30, 25), difficult=True)]
    write_voc(tmp_path / "voc", [Picture("a", things=hard)], {"train": "a"})
    for folder, note in (("coco", "1 crowds"), ("voc", "1 difficult")):
        crops = open_dataset({"root": tmp_path / folder}, "train", needs=LABELS)
        assert len(crops) == 1
        assert note in crops.notes[-1]
        assert "cat" in crops.names  # a class of the data all the same


def test_rounding_and_context_equal_the_loop(tmp_path):
    records = open_dataset({"root": WRITERS["voc"](tmp_path, pictures())}, "train")
    rng = np.random.default_rng(0)
    for _ in range(200):
        corner = rng.uniform(-1, 40, 2)
        box = np.concatenate([corner, corner + rng.uniform(1, 40, 2)])
        context = rng.choice([0, 0.1, 0.7])
        boxes = records.boxes.copy()
        boxes[0] = box
        moved = data_records.replace(records, boxes=boxes)
        x1, y1, x2, y2 = crops_of(moved, context, 1).crops[0]
        w, h = (box[2:] - box[:2]) * context
        slow = (
            min(max(0, math.floor(box[0] - w + 0.01)), 59),
            min(max(0, math.floor(box[1] - h + 0.01)), 39),
            min(60, math.ceil(box[2] + w - 0.01)),
            min(40, math.ceil(box[3] + h - 0.01)),
        )
        assert (x1, y1) == slow[:2]
        assert (x2, y2) == (max(slow[2], x1 + 1), max(slow[3], y1 + 1))


def test_a_subset_keeps_its_crops_and_the_fingerprint_knows_them(tmp_path):
    root = WRITERS["voc"](tmp_path, pictures())
    crops = open_dataset({"root": root}, "train", needs=LABELS)
    part = crops.subset([2, 0])
    assert np.array_equal(part.image(0), crops.image(2))
    assert part.image_labels.tolist() == crops.image_labels[[2, 0]].tolist()
    wider = open_dataset({"root": root, "crop_context": 0.2}, "train", needs=LABELS)
    assert wider.fingerprint() != crops.fingerprint()


def test_a_picture_that_became_smaller_is_named(tmp_path):
    root = WRITERS["voc"](tmp_path, pictures())
    crops = open_dataset({"root": root}, "train", needs=LABELS)
    save_image(root / "JPEGImages/b.jpg", 20, 50)
    with pytest.raises(DetkitError, match=r"8x18 now, .* 8x28") as caught:
        crops.image(2)
    assert caught.value.file.name == "b.jpg"


def test_no_object_to_cut_out_is_an_error(tmp_path):
    root = WRITERS["voc"](tmp_path, [Picture("a", things=[Thing("cat", (0, 0, 5, 5))])])
    with pytest.raises(DetkitError, match="1 narrower or lower than 8") as caught:
        open_dataset({"root": root}, "train", needs=LABELS)
    assert "least_side" in caught.value.remedy
    for wrong in ({"crop_context": -0.1}, {"least_side": 0}):
        with pytest.raises(DetkitError, match="crop_context is"):
            open_dataset({"root": root, **wrong}, "train", needs=LABELS)
    with pytest.raises(DetkitError, match=r"dataset.crop_context is for objects"):
        open_dataset({"root": root, "crop_context": 0.1}, "train")


def test_evaluation_reads_each_photo_once(tmp_path, monkeypatch):
    things = [Thing("cat", (n, n, 20 + 3 * n % 13, 30)) for n in range(6)]
    root = WRITERS["voc"](tmp_path, [Picture(stem, things=things) for stem in "abc"])
    crops = open_dataset({"root": root}, "train", needs=LABELS)
    read, whole = [], data_records.images.read
    monkeypatch.setattr(data_records.images, "read", lambda path: read.append(path) or whole(path))
    dataset = Dataset(crops, build({"name": "square", "long_side": 32}, train=False), needs=LABELS)
    seen = [f.index for batch in evaluation_batches(dataset, batch_size=4) for f in batch.frames]
    assert sorted(seen) == list(range(18))
    assert len(read) == 3


def test_a_broken_photo_is_dropped_with_its_objects(tmp_path):
    root = WRITERS["voc"](tmp_path, pictures())
    (root / "JPEGImages/a.jpg").write_bytes(b"no picture")
    crops = open_dataset({"root": root, "bad_images": "drop"}, "train", needs=LABELS)
    assert list(crops.image_ids) == ["b_1"]
    assert "left out 1 of 2 images" in crops.notes[0]


def test_crops_have_a_class_and_no_objects_or_masks(tmp_path):
    root = WRITERS["coco"](tmp_path, pictures())
    crops = open_dataset({"root": root}, "train", needs=LABELS)
    assert crops.instances is None
    assert crops.masks(0) is None
    assert len(crops.boxes) == 0
    assert crops.annotation(1).image_label == 2
