"""One fault planted in a sound data set at a time: the error names file, record and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folders import save_image, three, write_coco, write_voc, write_yolo
from PIL import Image

from detkit.data import open_dataset
from detkit.errors import DetkitError


def voc(root: Path) -> Path:
    return write_voc(root, three(), {"train": "abc"})


def coco(root: Path) -> Path:
    return write_coco(root, three())


def yolo(root: Path) -> Path:
    return write_yolo(root, three())


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Damage by exchanging text; it is a fault of the test if nothing changes."""

    def plant(root: Path) -> None:
        text = (root / file).read_text()
        changed = re.sub(old, new, text, count=1, flags=re.S)
        assert changed != text
        (root / file).write_text(changed)

    return plant


def edit(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Damage by changing the COCO dictionary."""

    def plant(root: Path) -> None:
        file = root / "annotations/instances_train.json"
        data = json.loads(file.read_text())
        change(data)
        file.write_text(json.dumps(data))

    return plant


def thing(**changed: object) -> Callable[[Path], None]:
    """Damage to the second COCO annotation, number 101."""
    return edit(lambda data: data["annotations"][1].update(changed))


def remove(file: str) -> Callable[[Path], None]:
    return lambda root: (root / file).unlink()


def write(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / file).write_bytes(content) and None


def cut(file: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        (root / file).write_bytes((root / file).read_bytes()[:-200])

    return plant


def resize(file: str, height: int = 8, width: int = 9) -> Callable[[Path], None]:
    return lambda root: save_image(root / file, height, width)


def turned(file: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        exif = Image.Exif()
        exif[274] = 6
        Image.open(root / file).save(root / file, exif=exif)

    return plant


XML, LIST, JSON = (
    "Annotations/a.xml",
    "ImageSets/Main/train.txt",
    "annotations/instances_train.json",
)
VOC_IMAGE, COCO_IMAGE, TEXT = "JPEGImages/a.jpg", "images/train/a.jpg", "labels/train/a.txt"
NAN = float("nan")

# what writes the set, what damages it, and the words that the message must hold
FAULTS: dict[str, tuple[Callable, Callable, list[str]]] = {
    # VOC
    "voc: inverted box": (
        voc,
        replace(XML, r"<xmin>11</xmin>(.*)<xmax>30<", r"<xmin>48</xmin>\1<xmax>12<"),
        [XML, "object 2 (cat)", "xmax 12 is not beyond xmin 48", "bad_boxes=drop", "1 of 3"],
    ),
    "voc: flat box": (
        voc,
        replace(XML, "<ymax>25<", "<ymax>5<"),
        [XML, "object 2 (cat)", "ymax 5 is not beyond ymin 6"],
    ),
    "voc: box of NaN": (
        voc,
        replace(XML, "<xmin>11<", "<xmin>nan<"),
        [XML, "object 2 (cat)", "not all finite", "bad_boxes=drop"],
    ),
    "voc: box outside": (
        voc,
        replace(XML, "<xmax>30<", "<xmax>600<"),
        [XML, "object 2 (cat)", "xmax 600 lies outside", "width 60", "bad_boxes=clip"],
    ),
    "voc: word for a number": (
        voc,
        replace(XML, "<xmax>30<", "<xmax>thirty<"),
        [XML, "object 2 (cat)", "xmax is 'thirty'"],
    ),
    "voc: no corner": (
        voc,
        replace(XML, "<ymin>6</ymin>", ""),
        [XML, "object 2 (cat)", "<bndbox/ymin> is missing"],
    ),
    "voc: no box": (
        voc,
        replace(XML, "<bndbox>.*?</bndbox>", ""),
        [XML, "object 1 (dog)", "the object has no box"],
    ),
    "voc: no name": (
        voc,
        replace(XML, "<name>cat</name>", ""),
        [XML, "object 2", "<name> is missing"],
    ),
    "voc: broken XML": (
        voc,
        replace(XML, "</annotation>", ""),
        [XML, "line 4", "column", "XML is broken"],
    ),
    "voc: no XML": (voc, remove(XML), ["no annotation a.xml", "list train", "unlist"]),
    "voc: listed twice": (
        voc,
        replace(LIST, "c\n", "a\n"),
        [LIST, "'a' is listed twice, in lines 1 and 3", "remove"],
    ),
    "voc: empty list": (voc, write(LIST, b"\n"), [LIST, "list is empty"]),
    "voc: no image": (voc, remove(VOC_IMAGE), [VOC_IMAGE, XML, "missing", "bad_images=drop"]),
    "voc: empty image": (voc, write(VOC_IMAGE, b""), [VOC_IMAGE, XML, "0 bytes"]),
    "voc: text for an image": (voc, write(VOC_IMAGE, b"hello"), [VOC_IMAGE, "not an image"]),
    "voc: cut image": (
        voc,
        cut(VOC_IMAGE),
        [VOC_IMAGE, "cut off", "bad_images=drop (image 1 of 3)"],
    ),
    "voc: image of another size": (
        voc,
        resize(VOC_IMAGE),
        [VOC_IMAGE, XML, "60x40", "9x8", "put the picture back"],
    ),
    "voc: image turned by EXIF": (
        voc,
        turned(VOC_IMAGE),
        [VOC_IMAGE, XML, "60x40", "40x60", "EXIF", "orientation tag"],
    ),
    # COCO
    "coco: broken JSON": (
        coco,
        replace(JSON, r'"annotations": \[', '"annotations": [,'),
        [JSON, "line 1, column", "JSON is broken"],
    ),
    "coco: no categories": (
        coco,
        edit(lambda data: data.pop("categories")),
        [JSON, "'categories' is missing"],
    ),
    "coco: image id twice": (
        coco,
        edit(lambda data: data["images"][2].update(id=1)),
        [JSON, "image 1", "a.jpg and c.jpg have the same id"],
    ),
    "coco: annotation id twice": (coco, thing(id=100), [JSON, "annotation 100", "twice"]),
    "coco: category id twice": (
        coco,
        edit(lambda data: data["categories"][1].update(id=30)),
        [JSON, "categories[1]", "30", "twice"],
    ),
    "coco: absent image id": (
        coco,
        thing(image_id=99),
        [JSON, "annotation 101", "image_id 99 is not among the images", "remove the annotation"],
    ),
    "coco: absent category": (
        coco,
        thing(category_id=7),
        [JSON, "annotation 101", "category_id 7 is not among the categories"],
    ),
    "coco: three numbers": (
        coco,
        thing(bbox=[1, 2, 3]),
        [JSON, "annotation 101", "[1, 2, 3]", "four numbers"],
    ),
    "coco: no box": (coco, thing(bbox=None), [JSON, "annotation 101", "the object has no box"]),
    "coco: box of NaN": (
        coco,
        thing(bbox=[1, 2, NAN, 4]),
        [JSON, "annotation 101 (cat)", "not all finite"],
    ),
    "coco: negative width": (
        coco,
        thing(bbox=[30, 2, -10, 4]),
        [JSON, "annotation 101 (cat)", "xmax 20 is not beyond xmin 30", "1 of 3"],
    ),
    "coco: no width": (coco, thing(bbox=[30, 2, 0, 4]), ["annotation 101 (cat)", "xmax 30"]),
    "coco: box outside": (
        coco,
        thing(bbox=[-20, 2, 30, 4]),
        ["annotation 101 (cat)", "xmin -20 lies outside", "bad_boxes=clip"],
    ),
    "coco: no file name": (
        coco,
        edit(lambda data: data["images"][1].pop("file_name")),
        [JSON, "images[1]", "file_name"],
    ),
    "coco: an image id that is a list": (
        coco,
        edit(lambda data: data["images"][0].update(id=[1])),
        [JSON, "images[0]", "[1]"],
    ),
    "coco: an annotation that is a number": (
        coco,
        edit(lambda data: data["annotations"].append(3)),
        [JSON, "annotations[", "'3'"],
    ),
    "coco: of an image whose id is a list": (
        coco,
        thing(image_id=[1]),
        [JSON, "annotation 101", "[1]"],
    ),
    "coco: nested without end": (
        coco,
        write(JSON, b'{"images": ["annotations"], "categories": ' + b"[" * 200_000),
        [JSON, "recursion"],
    ),
    "coco: no image": (coco, remove(COCO_IMAGE), [COCO_IMAGE, JSON, "missing"]),
    "coco: cut image": (coco, cut(COCO_IMAGE), [COCO_IMAGE, JSON, "cut off"]),
    "coco: image of another size": (coco, resize(COCO_IMAGE), [COCO_IMAGE, "60x40", "9x8"]),
    # YOLO text
    "yolo: unknown class": (
        yolo,
        replace(TEXT, "^1 ", "3 "),
        [TEXT, "line 1", "class is 3", "3 classes are 0 … 2"],
    ),
    "yolo: class between two": (yolo, replace(TEXT, "^1 ", "1.5 "), [TEXT, "line 1", "1.5"]),
    "yolo: four numbers": (yolo, replace(TEXT, "^1 ", ""), [TEXT, "line 1", "it has 4 numbers"]),
    "yolo: a word": (
        yolo,
        replace(TEXT, "^1 ", "dog "),
        [TEXT, "line 1", "not with the number of a class"],
    ),
    "yolo: NaN": (
        yolo,
        replace(TEXT, r"^1 \S+", "1 nan"),
        [TEXT, "line 1 (dog)", "not all finite"],
    ),
    "yolo: no size": (
        yolo,
        replace(TEXT, r"1\.0+ 1\.0+\n", "0 1\n"),
        [TEXT, "line 1 (dog)", "is not beyond xmin"],
    ),
    "yolo: pixels for fractions": (
        yolo,
        replace(TEXT, r"0\.5\S+ 0\.5\S+ 1\S+ 1\S+", "30 20 60 40"),
        [TEXT, "line 1 (dog)", "no fractions of the image's sides"],
    ),
    "yolo: text without image": (
        yolo,
        remove(COCO_IMAGE),
        [TEXT, "no picture", "remove the file"],
    ),
    "yolo: no text at all": (
        yolo,
        lambda root: [f.unlink() for f in (root / "labels/train").iterdir()],
        ["No picture of this split has a text file", "labels/"],
    ),
    "yolo: cut image": (yolo, cut(COCO_IMAGE), [COCO_IMAGE, TEXT, "cut off"]),
    "yolo: broken YAML": (
        yolo,
        write("data.yaml", b"names: [a, b"),
        ["data.yaml", "YAML is broken"],
    ),
    "yolo: one name for all": (yolo, write("data.yaml", b"names: cat"), ["data.yaml", "cat"]),
    "yolo: a name twice": (yolo, write("data.yaml", b"names: [a, b, a]"), ["data.yaml", "'a'"]),
    "yolo: names numbered from 1": (
        yolo,
        write("data.yaml", b"names: {1: a, 2: b, 3: c}"),
        ["data.yaml", "from 0 on"],
    ),
    "yolo: YAML that is no text": (yolo, write("data.yaml", b"names: [\xe4]"), ["data.yaml"]),
    "yolo: absent folder in YAML": (
        yolo,
        write("data.yaml", b"names: [a, b, c]\ntrain: imgs"),
        ["data.yaml", "train names 'imgs'"],
    ),
}
FORMAT = {voc: "voc", coco: "coco", yolo: "yolo_text"}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_error_names_file_record_and_remedy(tmp_path, fault):
    build, plant, words = FAULTS[fault]
    root = build(tmp_path)
    settings = {"name": FORMAT[build], "root": root}
    assert len(open_dataset(settings, "train")) == 3  # sound before
    plant(root)
    with pytest.raises(DetkitError) as caught:
        open_dataset(settings, "train")
    message = str(caught.value)
    for word in [*words, "Remedy: "]:
        assert word in message, message


NO_MASK = ["(cat)", "no mask: no outline, or one without an area", "bad_boxes=drop", "1 of 3"]
# of the second object: COCO's segmentation, or YOLO's numbers behind the class
MASKS: dict[str, tuple[object, list[str]]] = {
    "two corners": ([[1, 2, 3, 4]], ["annotation 101", "a polygon has 4 numbers", "three corners"]),
    "an odd number": ([[1, 2, 3, 4, 5, 6, 7]], ["annotation 101", "a polygon has 7 numbers"]),
    "corners that are no place": ([[1, 2, NAN, 4, 5, 6]], ["annotation 101", "no place"]),
    "no polygon": ([], ["annotation 101", *NO_MASK]),
    "a line": ([[1, 1, 5, 5, 9, 9]], ["annotation 101", *NO_MASK]),
    "beside the image": ([[70, 5, 90, 5, 90, 20]], ["annotation 101", *NO_MASK]),
    "no pixel": ({"size": [40, 60], "counts": [2400]}, ["annotation 101", *NO_MASK]),
    "another size": ({"size": [8, 9], "counts": [72]}, ["of size [8, 9], not [40, 60]"]),
    "exchanged sides": ({"size": [60, 40], "counts": [0, 2400]}, ["of size [60, 40]"]),
    "too few pixels": ({"size": [40, 60], "counts": [5]}, ["annotation 101", "do not add up"]),
    "no counts": ({"size": [40, 60]}, ["annotation 101", "have no counts"]),
    "yolo: a box": (".1 .1 .2 .2", ["line 2", *NO_MASK]),
    "yolo: five numbers": (".1 .1 .2 .2 .3", ["line 2", "it has 6 numbers", "three corners"]),
    "yolo: a line": (".1 .1 .2 .2 .3 .3", ["line 2", *NO_MASK]),
    "yolo: NaN": (".1 .1 .2 .1 .3 nan", ["line 2", "no finite number"]),
}


@pytest.mark.parametrize("fault", MASKS)
def test_the_error_of_a_mask_names_file_and_record(tmp_path, fault):
    """What has no mask at all may be left out, and is counted."""
    shape, words = MASKS[fault]
    if isinstance(shape, str):
        (yolo(tmp_path) / TEXT).write_text(f"1 0 0 0 1 1 1 1 0\n0 {shape}\n")
        (tmp_path / "labels/train/b.txt").write_text("2 0 0 0 1 1 1\n")
    else:
        thing(segmentation=shape)(coco(tmp_path))
    settings = {"name": "yolo_text" if isinstance(shape, str) else "coco", "root": tmp_path}
    needs = frozenset({"boxes", "masks"})
    with pytest.raises(DetkitError) as caught:
        open_dataset(settings, "train", needs=needs)
    for word in [*words, "Remedy: "]:
        assert word in str(caught.value), str(caught.value)
    if words[1:] == NO_MASK:
        records = open_dataset({**settings, "bad_boxes": "drop"}, "train", needs=needs)
        assert len(records.labels) == 2
        assert any("left out 1 of 3 objects without a mask" in note for note in records.notes)


@pytest.mark.parametrize(
    "fault", [name for name, (*_, words) in FAULTS.items() if "cut off" in words]
)
def test_a_bad_image_can_be_left_out_and_is_counted(tmp_path, fault):
    build, plant, _ = FAULTS[fault]
    root = build(tmp_path)
    plant(root)
    records = open_dataset({"name": FORMAT[build], "root": root, "bad_images": "drop"}, "train")
    assert [Path(file).stem for file in records.files] == ["b", "c"]
    assert len(records.boxes) == 1
    assert "1 of 3 images" in records.notes[-1]


BOXES = ["inverted box", "flat box", "box of NaN", "box outside", "negative width", "no size"]
BOXES += ["NaN", "no width", "pixels for fractions"]


@pytest.mark.parametrize("choice", ["drop", "clip"])
@pytest.mark.parametrize("fault", [name for name in FAULTS if name.split(": ")[1] in BOXES])
def test_a_bad_box_can_be_left_out_or_cut_and_is_counted(tmp_path, fault, choice):
    build, plant, _ = FAULTS[fault]
    root = build(tmp_path)
    plant(root)
    records = open_dataset({"name": FORMAT[build], "root": root, "bad_boxes": choice}, "train")
    cuttable = choice == "clip" and fault.endswith(("box outside", "pixels for fractions"))
    assert len(records) == 3
    assert len(records.boxes) == (3 if cuttable else 2)
    assert records.notes[-1].startswith("1 of 3 boxes are bad")
    height, width = records.sizes[0]
    boxes = records.annotation(0).boxes
    assert (boxes >= 0).all()
    assert (boxes <= [width, height, width, height]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    area = (boxes[0, 2:] - boxes[0, :2]).prod() if len(boxes) else 0.0
    assert (records.annotation(0).areas <= area).all()  # what was cut off counts no longer


@pytest.mark.parametrize("build", [voc, coco])
def test_an_unknown_class_is_an_error_or_left_out(tmp_path, build):
    settings = {"name": FORMAT[build], "root": build(tmp_path), "classes": ["dog", "owl"]}
    with pytest.raises(DetkitError, match="No class 'cat'") as caught:
        open_dataset(settings, "train")
    assert "unknown_classes=drop (1 of 3)" in str(caught.value)
    records = open_dataset({**settings, "unknown_classes": "drop"}, "train")
    assert len(records.boxes) == 2
    assert len(records) == 3


def test_a_picture_that_changed_since_is_named_when_it_is_read(tmp_path):
    records = open_dataset({"name": "voc", "root": voc(tmp_path)}, "train")
    save_image(tmp_path / VOC_IMAGE, 8, 9)
    with pytest.raises(DetkitError, match="9x8 now, it was 60x40"):
        records.image(0)


def test_nothing_left_is_an_error_too(tmp_path):
    root = voc(tmp_path)
    for image in (root / "JPEGImages").iterdir():
        image.write_bytes(b"")
    with pytest.raises(DetkitError, match="No image is left"):
        open_dataset({"name": "voc", "root": root, "bad_images": "drop"}, "train")


def test_a_picture_without_mask_and_a_mask_of_another_size_are_named(tmp_path):
    for n in range(3):
        save_image(tmp_path / f"images/{n}.jpg", 8, 9)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.new("L", (9, 8), n).save(tmp_path / f"masks/{n}.png")
    settings = {"name": "mask_folder", "root": tmp_path}
    Image.new("L", (5, 5), 1).save(tmp_path / "masks/1.png")
    with pytest.raises(DetkitError, match=r"masks/1.png.*5x5.*9x8"):
        open_dataset(settings, "all", needs=frozenset({"pixels"}))
    (tmp_path / "masks/1.png").unlink()
    with pytest.raises(DetkitError, match=r"images/1.jpg.*no mask"):
        open_dataset(settings, "all", needs=frozenset({"pixels"}))


@pytest.mark.parametrize(
    "shape",
    [
        [[1, 2, 3, 4, 5, NAN]],  # the rasteriser would ask for all the memory there is
        [[1, 2, 3, 4, 5, 1e12]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4]],
        {"size": [40, 60], "counts": [0, 999_999_999]},
        {"size": [40, 60], "counts": [-1, 2401]},
        {"size": [4, 6], "counts": [0, 24]},
        {
            "size": [40, 60],
            "counts": "P137000000000l0",
        },  # of 10 × 12 pixels: what follows is chance
        {"size": [40, 60], "counts": "cut sh\u00f6rt"},
        {"size": [40, 60], "counts": 7},
        "polygon",
        None,
        [],
        [[5, 5, 20, 5, 40, 5]],  # without an area
        {"size": [40, 60], "counts": [2400]},
    ],
)
def test_a_mask_that_is_none_is_named(tmp_path, shape):
    root = coco(tmp_path)
    thing(segmentation=shape)(root)
    with pytest.raises(DetkitError, match="annotation 101"):
        open_dataset({"name": "coco", "root": root}, "train", needs=frozenset({"boxes", "masks"}))


def test_objects_without_a_mask_are_left_out_and_counted(tmp_path):
    root = coco(tmp_path)
    thing(segmentation=[])(root)
    needs = frozenset({"boxes", "masks"})
    settings = {"name": "coco", "root": root}
    whole = open_dataset(settings, "train")
    records = open_dataset({**settings, "bad_boxes": "drop"}, "train", needs=needs)
    assert len(records.labels) == len(whole.labels) - 1
    assert not records.instances.empty().any()
    (note,) = [note for note in records.notes if "without a mask" in note]
    assert f"1 of {len(whole.labels)}" in note
    assert "annotation 101" in note


def test_a_yolo_line_of_a_box_among_polygons_is_named_or_left_out(tmp_path):
    root, needs = yolo(tmp_path), frozenset({"boxes", "masks"})
    lines = "0 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.6 0.2 0.6 0.9 0.2 0.9\n"
    (root / TEXT).write_text(lines)
    for other in (root / TEXT).parent.glob("*.txt"):
        if other != root / TEXT:
            other.write_text("")
    settings = {"name": "yolo_text", "root": root}
    with pytest.raises(DetkitError, match="has no mask") as error:
        open_dataset(settings, "train", needs=needs)
    assert (error.value.record or "").startswith("line 2 ")
    records = open_dataset({**settings, "bad_boxes": "drop"}, "train", needs=needs)
    (i,) = np.flatnonzero(np.diff(records.offsets))
    areas = np.array(records.masks(i)).sum((1, 2)) / np.prod(records.sizes[i])
    assert areas == pytest.approx([0.08, 0.28], abs=0.02)


@pytest.mark.parametrize(
    ("name", "build", "said"),
    [
        ("voc", voc, "no instance masks"),
        ("yolo_text", yolo, "these are boxes alone"),
        ("auto", voc, "No data set with boxes and masks"),
    ],
)
def test_boxes_alone_are_refused_where_masks_are_learned(tmp_path, name, build, said):
    settings = {"name": name, "root": build(tmp_path)}
    with pytest.raises(DetkitError, match=said) as error:
        open_dataset(settings, "train", needs=frozenset({"boxes", "masks"}))
    assert "model=faster_rcnn" in str(error.value)


@pytest.mark.parametrize("file", [XML, LIST, JSON, TEXT, "classes.txt"])
def test_windows_line_ends_and_byte_order_marks_change_nothing(tmp_path, file):
    build = {XML: voc, LIST: voc, JSON: coco}.get(file, yolo)
    settings = {"name": "auto", "root": build(tmp_path)}
    before = open_dataset(settings, "train").fingerprint()
    path = tmp_path / file
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert open_dataset(settings, "train").fingerprint() == before


def test_capital_suffixes_and_links_to_themselves_do_no_harm(tmp_path):
    root = voc(tmp_path)
    before = open_dataset({"name": "auto", "root": root}, "train")
    for file in [*root.rglob("*.xml"), *root.rglob("*.jpg")]:
        file.rename(file.with_suffix(file.suffix.upper()))
    for folder in (root, root / "JPEGImages", root / "Annotations"):
        (folder / "loop").symlink_to("loop")
    after = open_dataset({"name": "auto", "root": root}, "train")
    assert (after.boxes == before.boxes).all()
