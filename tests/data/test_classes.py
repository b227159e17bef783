"""Records under another class list, and images of a class alone beside boxed ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from detkit.data.classes import joined, placed
from detkit.data.formats import BOXES, LABELS
from detkit.data.open import open_dataset
from detkit.errors import DetkitError
from detkit.structures import Classes

SHAPES = {"name": "shapes", "train_images": 40, "val_images": 8, "size": 64}


@pytest.fixture
def boxed(tmp_path):
    """Two pictures with boxes of cat and dog, as YOLO text."""
    root = tmp_path / "boxed"
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (40, 30), (i * 50, 0, 0)).save(root / f"images/train/{i}.png")
        (root / f"labels/train/{i}.txt").write_text(f"{i} 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    return open_dataset({"name": "yolo_text", "root": str(root)}, "train", needs=BOXES)


@pytest.fixture
def labelled(tmp_path):
    """Three pictures in the folders cat and zebra."""
    for i, name in enumerate(("cat", "zebra", "zebra")):
        folder = tmp_path / "labelled/train" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 24), (0, i * 50, 9)).save(folder / f"{i}.png")
    chosen = {"name": "image_folder", "root": str(tmp_path / "labelled")}
    return open_dataset(chosen, "train", needs=LABELS)


def test_images_of_a_class_alone_come_behind_those_with_boxes(boxed, labelled):
    both = joined(boxed, labelled)
    assert both.names == ("cat", "dog", "zebra")
    assert len(set(both.category_ids.tolist())) == 3
    assert [len(both.annotation(i).boxes) for i in range(5)] == [1, 1, 0, 0, 0]
    assert [both.annotation(i).image_label for i in range(5)] == [-1, -1, 0, 2, 2]
    assert both.image(0).shape == (30, 40, 3)
    assert both.image(4)[0, 0].tolist() == [0, 100, 9]
    assert len(set(both.image_ids)) == 5
    assert both.fingerprint() != boxed.fingerprint()


def test_drawn_images_have_no_folder_beside_them(labelled):
    with pytest.raises(DetkitError, match="Drawn images have no folder"):
        joined(open_dataset(SHAPES, "train"), labelled)


def test_labels_become_places_in_a_tree():
    records = open_dataset({**SHAPES, "unboxed": ["star"]}, "train")
    tree = Classes(("a", "b", "circle", "square", "star", "triangle"), tuple(range(1, 7)))
    found = placed(records, tree, np.array([2, 3, 4, 5]))
    assert found.names == tree.names
    assert (found.labels == records.labels + 2).all()
    known = records.image_labels >= 0
    assert (found.image_labels[known] == 4).all()
    assert (found.image_labels[~known] == -1).all()


def test_shapes_withhold_the_boxes_of_a_class_in_training_alone():
    plain = open_dataset(SHAPES, "train")
    records = open_dataset({**SHAPES, "unboxed": ["star"]}, "train")
    star = records.names.index("star")
    counts = np.diff(records.offsets)
    alone = records.image_labels >= 0
    assert star not in records.labels
    assert (records.image_labels[alone] == star).all()
    assert (counts[alone] == 0).all()
    assert 0 < alone.sum() < len(records)
    for i in range(len(records)):
        labels = set(plain.annotation(i).labels)
        same = star not in labels or labels == {star}
        assert np.array_equal(plain.image(i), records.image(i)) == same
    val = open_dataset({**SHAPES, "unboxed": ["star"]}, "val")
    assert val.image_labels is None
    assert star in val.labels
    with pytest.raises(DetkitError, match="No shape 'stars'"):
        open_dataset({**SHAPES, "unboxed": ["stars"]}, "train")
