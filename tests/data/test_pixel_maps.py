"""Masks in colour, stacks, bands, and maps that are drawn from objects."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from detkit.data import open_dataset
from detkit.errors import DetkitError

PIXELS = frozenset({"pixels"})
COLOURS = {"road": [128, 64, 128], "sky": [70, 130, 180], "ignore": [0, 0, 0]}


def coloured(root, count=6):
    rng = np.random.default_rng(0)
    table = np.array([*COLOURS.values()], np.uint8)
    truth = rng.integers(0, 3, (count, 8, 9))
    for n, labels in enumerate(truth):
        for folder in ("images", "masks"):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(table[labels]).save(root / folder / f"{n}.png")
    return np.where(truth == 2, 255, truth)


@pytest.mark.parametrize(
    "lines",
    [
        None,
        "128 64 128\troad\n70 130 180 sky\n0 0 0 ignore\n",
        "# label:color_rgb\nroad:128,64,128::\nsky:70,130,180::\nignore:0,0,0::\n",
    ],
)
def test_colours_are_classes(tmp_path, lines):
    truth = coloured(tmp_path)
    colours = COLOURS
    if lines:
        (tmp_path / "labelmap.txt").write_text(lines)
        colours = "labelmap.txt"
    given = {"name": "mask_folder", "root": tmp_path, "colours": colours}
    records = open_dataset(given, "all", needs=PIXELS)
    assert records.names == ("road", "sky")
    for i in range(6):
        assert (records.pixels(i) == truth[int(records.image_id(i))]).all()


def test_a_palette_of_colours_is_read_by_its_colours(tmp_path):
    truth = coloured(tmp_path)
    for file in (tmp_path / "masks").glob("*.png"):
        Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=3).save(file)
    records = open_dataset({"root": tmp_path, "colours": COLOURS}, "all", needs=PIXELS)
    assert all((records.pixels(i) == truth[int(records.image_id(i))]).all() for i in range(6))


def test_what_is_wrong_with_colours_is_named(tmp_path):
    coloured(tmp_path)
    given = {"name": "mask_folder", "root": tmp_path}
    fewer = {key: COLOURS[key] for key in ("road", "sky")}
    records = open_dataset({**given, "colours": fewer}, "all", needs=PIXELS)
    with pytest.raises(DetkitError, match=r"colour \[0, 0, 0\] \(\d+ pixels\)") as caught:
        [records.pixels(i) for i in range(6)]
    assert "masks" in str(caught.value.file)
    for table, words in (
        ({"road": [1, 2]}, "red, green and blue"),
        ({"road": [1, 2, 3], "sky": [1, 2, 3]}, "same colour"),
        ({"ignore": [1, 2, 3]}, "names no class"),
        ("no.txt", "no such file"),
    ):
        with pytest.raises(DetkitError, match=words):
            open_dataset({**given, "colours": table}, "all", needs=PIXELS)
    with pytest.raises(DetkitError, match=r"dataset.ignore is for masks of values"):
        open_dataset({**given, "colours": COLOURS, "ignore": 0}, "all", needs=PIXELS)
    with pytest.raises(DetkitError, match=r"colour image") as caught:
        open_dataset(given, "all", needs=PIXELS).pixels(0)
    assert "dataset.colours" in caught.value.remedy


def stack(path, pages):
    path.parent.mkdir(exist_ok=True)
    done, data = cv2.imencodemulti(".tif", list(pages))
    assert done
    path.write_bytes(data.tobytes())


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_each_page_of_a_stack_is_a_picture(tmp_path, depth):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, np.iinfo(depth).max, (10, 8, 9)).astype(depth)
    masks = (rng.random((10, 8, 9)) < 0.5).astype(np.uint8) * 255
    stack(tmp_path / "images/volume.tif", pictures)
    stack(tmp_path / "masks/volume.tif", masks)
    parts = [open_dataset({"root": tmp_path}, s, needs=PIXELS) for s in ("train", "val", "all")]
    assert [len(part) for part in parts] == [8, 2, 10]
    whole = parts[2]
    assert whole.image_id(3) == "volume_003"
    largest = 1 if depth == np.uint8 else np.float32(65535)
    for i in (0, 3, 9):
        assert np.allclose(whole.image(i)[..., 1], pictures[i] / largest)
        assert (whole.pixels(i) == masks[i] // 255).all()
    some = whole.subset([7, 2])
    assert (some.pixels(1) == masks[2] // 255).all()
    assert whole.fingerprint() != some.fingerprint()
    stack(tmp_path / "masks/volume.tif", masks[:4])
    with pytest.raises(DetkitError, match=r"4 pages, its pictures volume.tif have 10"):
        open_dataset({"root": tmp_path}, "all", needs=PIXELS)


def test_bands_are_taken_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    bands = rng.integers(0, 256, (5, 8, 9), dtype=np.uint8)
    stack(tmp_path / "images/a.tif", bands)
    (tmp_path / "masks").mkdir()
    Image.fromarray(bands[0] % 2).save(tmp_path / "masks/a.png")
    given = {"name": "mask_folder", "root": tmp_path}
    records = open_dataset({**given, "channels": 5}, "all", needs=PIXELS)
    assert records.channels == 5
    assert (records.image(0) == bands.transpose(1, 2, 0)).all()
    assert (records.pixels(0) == bands[0] % 2).all()
    rgba = rng.integers(0, 256, (8, 9, 4), dtype=np.uint8)
    (tmp_path / "images/a.tif").unlink()
    Image.fromarray(rgba).save(tmp_path / "images/a.png")
    assert (open_dataset({**given, "channels": 4}, "all", needs=PIXELS).image(0) == rgba).all()
    records = open_dataset({**given, "channels": 6}, "all", needs=PIXELS)
    with pytest.raises(DetkitError, match=r"has 4 bands, not 6"):
        records.image(0)


def test_a_map_is_drawn_from_coco_objects(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")

    def thing(n, category, box, crowd=0):
        x, y, w, h = box
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        mask = {"size": [10, 20], "counts": [0, 200]} if crowd else [corners]
        return {
            "id": n,
            "image_id": 1,
            "category_id": category,
            "bbox": box,
            "iscrowd": crowd,
            "area": w * h,
            "segmentation": mask,
        }

    data = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 7, "name": "cell"}, {"id": 3, "name": "dirt"}],
        "annotations": [
            thing(1, 3, [4, 4, 2, 2]),
            thing(2, 7, [2, 2, 8, 6]),
            thing(3, 7, [12, 0, 8, 4]),
        ],
    }
    (tmp_path / "train.json").write_text(json.dumps(data))
    records = open_dataset({"root": tmp_path}, "train", needs=PIXELS)
    assert records.names == ("background", *records.names[1:])
    cell, dirt = records.names.index("cell"), records.names.index("dirt")
    wanted = np.zeros((10, 20), np.uint8)
    wanted[2:8, 2:10] = wanted[0:4, 12:20] = cell
    wanted[4:6, 4:6] = dirt  # the smaller one lies over the larger one
    assert (records.pixels(0) == wanted).all()
    data["annotations"].append(thing(4, 7, [0, 0, 20, 10], crowd=1))
    (tmp_path / "train.json").write_text(json.dumps(data))
    records = open_dataset({"root": tmp_path}, "train", needs=PIXELS)
    assert (records.pixels(0) == np.where(wanted == 0, 255, wanted)).all()
