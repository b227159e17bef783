"""Names in other cases or Unicode forms: one file on Windows and macOS, two here."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from folders import Picture, save_image, three, write_coco, write_voc, write_yolo
from PIL import Image

from detkit.data import alike, open_dataset
from detkit.data.formats import PIXELS
from detkit.errors import DetkitError

STEM = "Été"
OTHERS = {
    "case": STEM.upper(),
    "NFD": unicodedata.normalize("NFD", STEM),
    "both": unicodedata.normalize("NFD", STEM).lower(),
}


def pictures():
    return [Picture(STEM, things=three()[0].things), *three()]


def respell(folder, other):
    for path in list(folder.glob(f"{STEM}*")):
        path.rename(path.with_name(path.name.replace(STEM, other)))


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("kind", ["voc", "voc list", "coco", "yolo", "yolo list", "masks", "pairs"])
def test_what_looks_alike_is_found(tmp_path, kind, other):
    needs, which = frozenset({"boxes"}), "all"
    if kind.startswith("voc"):
        write_voc(tmp_path, pictures(), {"mine": [other, "a"]} if "list" in kind else {})
        which = "mine" if "list" in kind else "all"
        if which == "all":
            respell(tmp_path / "JPEGImages", other)
    elif kind == "coco":
        write_coco(tmp_path, pictures(), "result.json", "images")
        respell(tmp_path / "images", other)
    elif kind.startswith("yolo"):
        write_yolo(tmp_path, pictures(), "images", "labels")
        (tmp_path / "mine.txt").write_text(f"images/{other}.jpg\nimages/a.jpg\n")
        which = "mine.txt" if "list" in kind else "all"
        if which == "all":
            respell(tmp_path / "labels", other)
    else:
        needs = PIXELS
        for stem in (STEM, "a"):
            save_image(tmp_path / f"images/{stem}.jpg", 8, 12)
            (tmp_path / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.ones((8, 12), np.uint8)).save(tmp_path / f"masks/{stem}.png")
        (tmp_path / "mine.txt").write_text(f"images/{other}.jpg masks/a.png\n")
        which = "mine.txt" if kind == "pairs" else "all"
        if which == "all":
            (tmp_path / "mine.txt").unlink()
            respell(tmp_path / "masks", other)
    records = open_dataset({"root": tmp_path}, which, needs=needs)
    n = next(i for i, file in enumerate(records.files) if alike.form(STEM) in alike.form(file))
    assert records.path(n).is_file()
    if needs == PIXELS:
        assert (records.pixels(n) == 1).all()
        return
    assert records.offsets[n + 1] - records.offsets[n] == 2
    told = "\n".join(records.notes)
    assert which == "mine" or "spelt otherwise" in told or "not where" in told


def test_the_own_spelling_comes_first_and_two_likenesses_are_none(tmp_path):
    write_voc(tmp_path, [Picture("a"), Picture("A", 30, 50)], {"mine": ["A"]})
    records = open_dataset({"root": tmp_path, "classes": ["cat"]}, "mine")
    assert records.sizes.tolist() == [[30, 50]]
    assert alike.respelt({"IMG": 1, "Img": 2}, ["img"]) == {"IMG": 1, "Img": 2}
    assert alike.respelt({"IMG": 1}, ["img", "Img"]) == {"IMG": 1}
    (tmp_path / "train.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "aA.jpg", "width": 9, "height": 9}],
                "annotations": [],
                "categories": [{"id": 1, "name": "cat"}],
            }
        )
    )
    for stem in ("aa", "AA"):
        save_image(tmp_path / f"{stem}.jpg", 9, 9)
    with pytest.raises(DetkitError, match="could both be meant"):
        open_dataset({"root": tmp_path, "name": "coco"}, "train")


def test_folders_of_another_spelling_are_found(tmp_path):
    root = write_yolo(tmp_path, three(), "Images/Train", "Labels/Train", None)
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, dog, owl]\n")
    records = open_dataset({"root": root}, "train")
    assert len(records.boxes) == 3
    assert "Images/Train is read" in records.notes[0]
    for path in (root / "Labels/Train").iterdir():
        path.rename(path.with_suffix(".TXT"))
    assert len(open_dataset({"root": root}, "train").boxes) == 3


def test_classes_that_look_alike_are_told(tmp_path):
    things = [three()[0].things[0], three()[0].things[1]]
    things[0].name, things[1].name = "Cat", "cat"
    write_voc(tmp_path, [Picture("a", things=things)], {"train": "a"})
    records = open_dataset({"root": tmp_path}, "train")
    assert records.names == ("Cat", "cat")
    assert "'Cat' and 'cat' are 2" in records.notes[-1]
