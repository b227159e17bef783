"""Each remedy that reading data states is obeyed, and the data are read then.

A case makes a fault and yields how it is opened; the error's remedy has the case's words. Then it
does what they say and yields how it is opened now, once for each way that the remedy names.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import (
    NAMES,
    Picture,
    Thing,
    coco_dict,
    save_image,
    three,
    voc_xml,
    write_coco,
    write_voc,
    write_yolo,
)
from PIL import Image

import detkit
from detkit.data import open_dataset, split_name
from detkit.data.formats import BOXES, LABELS, PIXELS
from detkit.errors import DetkitError

MASKS = frozenset({"boxes", "masks"})
Opening = dict[str, Any]
Case = Callable[[Path], Iterator[Opening]]
CASES: dict[str, Case] = {}


def obeys(words: str) -> Callable[[Case], Case]:
    """The case of the remedy that has these words."""

    def add(case: Case) -> Case:
        CASES[words] = case
        return case

    return add


def read(opening: Opening) -> None:
    given = {"split": None, "needs": BOXES, **opening}
    split, needs = given.pop("split"), given.pop("needs")
    records = open_dataset(given, split or split_name(given, "train", needs), needs=needs)
    records.image(0)
    records.pixels(0)


# --- any format


@obeys("remove one of the lines")
def listed_twice(root):
    write_yolo(root, three())
    (root / "mine.txt").write_text("images/train/a.jpg\nimages/train/a.jpg\n")
    yield {"root": root, "split": "mine.txt"}
    (root / "mine.txt").write_text("images/train/a.jpg\n")
    yield {"root": root, "split": "mine.txt"}


@obeys("write one image name a line")
def empty_list(root):
    write_yolo(root, three())
    (root / "mine.txt").write_text("\n")
    yield {"root": root, "split": "mine.txt"}
    (root / "mine.txt").write_text("images/train/a.jpg\n")
    yield {"root": root, "split": "mine.txt"}


@obeys("save the file as UTF-8")
def other_encoding(root):
    write_yolo(root, three())
    (root / "classes.txt").write_bytes("Käfer\nBär\nÖl".encode("latin-1"))
    yield {"root": root}
    (root / "classes.txt").write_text("Käfer\nBär\nÖl", encoding="utf-8")
    yield {"root": root}


@obeys("write another name, or remove it")
def name_twice(root):
    write_yolo(root, three())
    (root / "classes.txt").write_text("cat\ncat\nowl")
    yield {"root": root}
    (root / "classes.txt").write_text("cat\ndog\nowl")
    yield {"root": root}


@obeys("name the values one after the other")
def value_left_out(root):
    masks(root, (0, 1))
    (root / "_classes.csv").write_text("Pixel Value, Class\n0, sea\n2, land\n")
    yield {"root": root, "needs": PIXELS}
    (root / "_classes.csv").write_text("Pixel Value, Class\n0, sea\n1, land\n")
    yield {"root": root, "needs": PIXELS}


@obeys("rename or remove one of them.")
def one_stem_twice(root):
    write_yolo(root, three())
    save_image(root / "images/train/a.png", 40, 60)
    yield {"root": root, "split": "train"}
    (root / "images/train/a.png").unlink()
    yield {"root": root, "split": "train"}


@obeys("choose one that exists")
def no_such_split(root):
    write_yolo(root, three())
    yield {"root": root, "split": "test"}
    yield {"root": root, "split": "train"}


@obeys("allow reading it, or remove it")
def link_to_nothing(root):
    write_yolo(root, three())
    (root / "labels/train/c.txt").symlink_to("nowhere")
    yield {"root": root}
    (root / "labels/train/c.txt").unlink()
    yield {"root": root}


@obeys("put it there")
def picture_missing(root):
    write_coco(root, three(), "train.json", "")
    (root / "b.jpg").unlink()
    yield {"root": root}
    yield {"root": root, "bad_images": "drop"}
    save_image(root / "b.jpg", 30, 50)
    yield {"root": root}


@obeys("fetch it again")
def picture_empty(root):
    write_coco(root, three(), "train.json", "")
    (root / "b.jpg").write_bytes(b"")
    yield {"root": root}
    save_image(root / "b.jpg", 30, 50)
    yield {"root": root}


@obeys("replace it, or convert it to PNG or JPEG")
def no_picture(root):
    write_coco(root, three(), "train.json", "")
    (root / "b.jpg").write_bytes(b"no picture")
    yield {"root": root}
    save_image(root / "b.jpg", 30, 50)
    yield {"root": root}


@obeys("fetch or save it again")
def picture_cut(root):
    write_coco(root, three(), "train.json", "")
    path = root / "b.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    yield {"root": root}
    save_image(path, 30, 50)
    yield {"root": root}


@obeys("name an image")
def picture_is_a_folder(root):
    write_coco(root, three(), "train.json", "")
    (root / "b.jpg").unlink()
    (root / "b.jpg").mkdir()
    yield {"root": root}
    (root / "b.jpg").rmdir()
    save_image(root / "b.jpg", 30, 50)
    yield {"root": root}


@obeys("convert it to 8 or 16 bits a channel")
def floating_point(root):
    write_yolo(root, three())
    (root / "images/train/a.jpg").unlink()
    pixels = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    Image.fromarray(pixels).save(root / "images/train/a.tif")
    yield {"root": root, "split": "train"}
    Image.fromarray((pixels * 255).astype(np.uint8)).save(root / "images/train/a.tif")
    yield {"root": root, "split": "train"}


@obeys("put the picture back that was annotated")
def other_size(root):
    write_voc(root, three(), {"train": "abc"})
    save_image(root / "JPEGImages/b.jpg", 60, 100)
    yield {"root": root}
    save_image(root / "JPEGImages/b.jpg", 30, 50)
    yield {"root": root}


@obeys("exchange width and height")
def sizes_exchanged(root):
    write_coco(root, three(), "train.json", "")
    data = json.loads((root / "train.json").read_text())
    for image in data["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    (root / "train.json").write_text(json.dumps(data))
    yield {"root": root}
    write_coco(root, three(), "train.json", "")
    yield {"root": root}


@obeys("remove the picture's orientation tag")
def annotated_as_stored(root):
    tall = Picture("a", 60, 40, [Thing("cat", (5, 5, 35, 58))])
    write_coco(root, [tall], "train.json", "")
    exif = Image.Exif()
    exif[274] = 6
    pixels = Image.open(root / "a.jpg")
    pixels.save(root / "a.jpg", exif=exif)
    yield {"root": root, "split": "train"}
    pixels.save(root / "a.jpg")
    yield {"root": root, "split": "train"}


@obeys("correct the box, or leave such boxes out")
def box_outside(root):
    write_coco(root, [Picture("a", things=[Thing("cat", (1, 1, 99, 20))]), *three()], "t.json", "")
    yield {"root": root, "split": "all"}
    yield {"root": root, "split": "all", "bad_boxes": "drop"}
    yield {"root": root, "split": "all", "bad_boxes": "clip"}
    write_coco(root, [Picture("a", things=[Thing("cat", (1, 1, 9, 20))]), *three()], "t.json", "")


@obeys("give the object an upright box")
def no_box(root):
    write_voc(root, three(), {"train": "abc"})
    path = root / "Annotations/b.xml"
    text = path.read_text()
    path.write_text(text.replace("<bndbox>", "<robndbox>").replace("</bndbox>", "</robndbox>"))
    yield {"root": root}
    yield {"root": root, "bad_boxes": "drop"}
    path.write_text(text)
    yield {"root": root}


@obeys("divide x and width by the image's width")
def pixels_for_fractions(root):
    write_yolo(root, three()[:1])
    (root / "labels/train/a.txt").write_text("0 300 200 40 20\n")
    yield {"root": root}
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    yield {"root": root}


@obeys("name the classes with dataset.classes")
def no_classes(root):
    write_voc(root, [Picture("a")], {"train": "a"})
    yield {"root": root}
    yield {"root": root, "classes": ["cat"]}


@obeys("add images, or name a split that has some")
def split_without_pictures(root):
    write_yolo(root, three(), names_file=None)
    (root / "images/val").mkdir()
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [cat, dog, owl]\n"
    )
    yield {"root": root, "split": "val"}
    yield {"root": root, "split": "train"}
    save_image(root / "images/val/v.jpg", 9, 9)
    (root / "labels/val").mkdir()
    (root / "labels/val/v.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    yield {"root": root, "split": "val"}


@obeys("draw its outline, or leave such objects out")
def without_a_mask(root):
    write_coco(root, three(), "train.json", "")
    data = json.loads((root / "train.json").read_text())
    outline, data["annotations"][0]["segmentation"] = data["annotations"][0]["segmentation"], []
    (root / "train.json").write_text(json.dumps(data))
    yield {"root": root, "needs": MASKS}
    yield {"root": root, "needs": MASKS, "bad_boxes": "drop"}
    data["annotations"][0]["segmentation"] = outline
    (root / "train.json").write_text(json.dumps(data))
    yield {"root": root, "needs": MASKS}


@obeys("export the objects' outlines")
def boxes_alone(root):
    write_coco(root, three(), "train.json", "")
    data = json.loads((root / "train.json").read_text())
    for thing in data["annotations"]:
        thing["segmentation"] = []
    (root / "train.json").write_text(json.dumps(data))
    yield {"root": root, "needs": MASKS}
    yield {"root": root, "needs": BOXES}
    write_coco(root, three(), "train.json", "")
    yield {"root": root, "needs": MASKS}


@obeys("give the objects' outlines")
def boxes_of_voc(root):
    write_voc(root, three(), {"train": "abc"})
    yield {"root": root, "name": "voc", "needs": MASKS}
    yield {"root": root, "needs": BOXES}


@obeys("name each class once")
def class_twice(root):
    write_voc(root, three(), {"train": "abc"})
    yield {"root": root, "classes": ["cat", "cat", "dog", "owl"]}
    yield {"root": root, "classes": ["cat", "dog", "owl"]}


@obeys("add it to dataset.classes, or leave such objects out")
def unlisted_class(root):
    write_voc(root, three(), {"train": "abc"})
    yield {"root": root, "classes": ["cat", "dog"]}
    yield {"root": root, "classes": ["cat", "dog", "owl"]}
    yield {"root": root, "classes": ["cat", "dog"], "unknown_classes": "drop"}


@obeys("correct dataset.classes")
def absent_class(root):
    write_coco(root, three(), "train.json", "")
    yield {"root": root, "classes": ["cat", "dog", "owl", "eel"]}
    yield {"root": root, "classes": ["cat", "dog", "owl"]}


@obeys("correct dataset.root")
def no_such_folder(root):
    write_yolo(root / "data", three())
    yield {"root": root / "date"}
    yield {"root": root / "data"}


@obeys("set dataset.root to its folder")
def no_root(root):
    write_yolo(root, three())
    yield {}
    yield {"root": root}


@obeys("choose with dataset=")
def two_formats(root):
    write_voc(root, three(), {"train": "abc"})
    write_coco(root, three())
    yield {"root": root}
    yield {"root": root, "name": "coco"}
    yield {"root": root, "name": "voc"}


@obeys("set dataset.root to the data set's own folder")
def nothing_there(root):
    save_image(root / "photos/a.jpg", 9, 9)
    write_yolo(root / "deep/er/and/deeper", three())
    yield {"root": root}
    yield {"root": root / "deep/er/and/deeper"}


@obeys("set it to null; a classifier")
def no_crops(root):
    write_yolo(root, three())
    yield {"root": root, "crop_context": 0.1}
    yield {"root": root, "crop_context": None}
    yield {"root": root, "crop_context": 0.1, "needs": LABELS}


@obeys("choose a split with objects, or a lower dataset.least_side")
def small_objects(root):
    write_yolo(root, [Picture("a", things=[Thing("cat", (0, 0, 6, 6))])])
    yield {"root": root, "needs": LABELS, "split": "train"}
    yield {"root": root, "needs": LABELS, "split": "train", "least_side": 4}


@obeys("take them as objects with dataset.crowds=objects")
def crowds_alone(root):
    crowd = [Thing("cat", (0, 0, 30, 30), crowd=True)]
    write_coco(root, [Picture("a", things=crowd)], "train.json", "")
    yield {"root": root, "needs": LABELS, "split": "train"}
    yield {"root": root, "needs": LABELS, "split": "train", "crowds": "objects"}
    write_coco(root, [Picture("a", things=[Thing("cat", (0, 0, 30, 30))])], "train.json", "")
    yield {"root": root, "needs": LABELS, "split": "train"}


@obeys("choose a context of 0")
def odd_context(root):
    write_yolo(root, three())
    yield {"root": root, "needs": LABELS, "crop_context": -1.0}
    yield {"root": root, "needs": LABELS, "crop_context": 0.0}


@obeys("write each picture's path from the data set's folder")
def two_pictures_fit(root):
    write_yolo(root, three()[:1], "images/x", "labels/x")
    write_yolo(root, three()[:1], "images/y", "labels/y")
    (root / "mine.txt").write_text("a.jpg\n")
    yield {"root": root, "split": "mine.txt"}
    (root / "mine.txt").write_text("images/x/a.jpg\n")
    yield {"root": root, "split": "mine.txt"}


@obeys("put the pictures into folders as the names have them")
def two_names_fit(root):
    write_yolo(root, three()[:1], "images/x", "labels/x")
    (root / "mine.txt").write_text("p/a.jpg\nq/a.jpg\n")
    yield {"root": root, "split": "mine.txt"}
    for folder in "pq":
        write_yolo(root, three()[:1], folder, folder, names_file=None)
    yield {"root": root, "split": "mine.txt"}


# --- YOLO text


def yolo_line(line: str, right: str) -> Case:
    def case(root: Path) -> Iterator[Opening]:
        write_yolo(root, three()[:1])
        (root / "labels/train/a.txt").write_text(f"{line}\n")
        yield {"root": root}
        (root / "labels/train/a.txt").write_text(f"{right}\n")
        yield {"root": root}

    return case


RIGHT = "1 0.5 0.5 0.2 0.2"
obeys("with a space between the numbers")(yolo_line("1,0.5,0.5,0.2,0.2", RIGHT))
obeys("write points in the numbers")(yolo_line("1 0,5 0,5 0,2 0,2", RIGHT))
obeys("write the number that the class has")(yolo_line("dog 0.5 0.5 0.2 0.2", RIGHT))
obeys("export upright boxes (`class x y width height`).")(
    yolo_line("1 1 9 1 9 9 1 9 plane 0", RIGHT)
)
obeys("correct or remove the line.")(yolo_line("1 0.5 0.5 nothing 0.2 0.2", RIGHT))
obeys("correct the line, or the list of names")(yolo_line("7 0.5 0.5 0.2 0.2", RIGHT))
obeys("correct or remove the line; for keypoints")(yolo_line(f"{RIGHT} 0.9", RIGHT))
obeys("where they are outlines that")(
    yolo_line("1 0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5", "1 0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5 0.5 0.2")
)


def yaml_text(text: str, *rights: str) -> Case:
    def case(root: Path) -> Iterator[Opening]:
        write_yolo(root, three(), names_file=None)
        for content in (text, *rights):
            (root / "data.yaml").write_text(content)
            yield {"root": root, "name": "yolo_text", "split": "train"}

    return case


NAMED = "names: [cat, dog, owl]\n"
obeys("correct the path; it counts from")(
    yaml_text(f"train: pictures\n{NAMED}", f"train: images/train\n{NAMED}")
)
obeys("write such as ")(yaml_text(f"train: {{a: b}}\n{NAMED}", f"train: images/train\n{NAMED}"))
obeys("write names: [cat, dog]")(
    yaml_text("train: images/train\nnames: [cat, no, owl]\n", f"train: images/train\n{NAMED}")
)
obeys("write such as kpt_shape")(
    yaml_text(
        f"train: images/train\nkpt_shape: x\n{NAMED}",
        f"train: images/train\nkpt_shape: [17, 3]\n{NAMED}",
        f"train: images/train\n{NAMED}",
    )
)
obeys("correct the file.")(yaml_text(f"train: [\n{NAMED}", f"train: images/train\n{NAMED}"))


@obeys("write train:, val: and names:")
def yaml_without_keys(root):
    write_yolo(root, three(), names_file=None)
    (root / "my.yaml").write_text("- a\n")
    yield {"root": root / "my.yaml", "name": "yolo_text", "split": "train"}
    (root / "my.yaml").write_text(f"train: images/train\nval: images/train\n{NAMED}")
    yield {"root": root / "my.yaml", "name": "yolo_text", "split": "train"}


@obeys("write the whole path of the folder that is meant")
def path_and_own(root):
    write_yolo(root / "own", three(), names_file=None)
    write_yolo(root / "other", three(), names_file=None)
    for path in ("../other", root / "other", ""):
        (root / "own/data.yaml").write_text(f"path: {path}\ntrain: images/train\n{NAMED}")
        yield {"root": root / "own", "split": "train"}


@obeys("correct the paths, which count from")
def pictures_nowhere(root):
    write_yolo(root, three(), names_file=None)
    (root / "mine.txt").write_text("x.jpg\n")
    yield {"root": root, "split": "mine.txt"}
    (root / "mine.txt").write_text("images/train/a.jpg\n")
    yield {"root": root, "split": "mine.txt"}
    (root / "mine.txt").write_text("x.jpg\n")
    save_image(root / "images/train/x.jpg", 9, 9)
    (root / "labels/train/x.txt").write_text(RIGHT)
    yield {"root": root, "split": "mine.txt"}


@obeys("put the list of class names there")
def names_nowhere(root):
    write_yolo(root, three(), names_file=None)
    (root / "obj.data").write_text("train = images/train\nnames = obj.names\n")
    yield {"root": root, "split": "train"}
    (root / "obj.names").write_text("\n".join(NAMES))
    yield {"root": root, "split": "train"}


@obeys("put labels in labels/ beside images/")
def no_labels(root):
    write_yolo(root, [Picture("a")], names_file=None)
    (root / "data.yaml").write_text(f"train: images/train\n{NAMED}")
    yield {"root": root, "split": "train"}
    (root / "labels/train/a.txt").write_text(RIGHT)
    yield {"root": root, "split": "train"}


@obeys("add the picture, or remove the file")
def orphan(root):
    write_yolo(root, three())
    (root / "labels/train/x.txt").write_text(RIGHT)
    yield {"root": root, "split": "train"}
    save_image(root / "images/train/x.jpg", 9, 9)
    yield {"root": root, "split": "train"}
    (root / "images/train/x.jpg").unlink()
    (root / "labels/train/x.txt").unlink()
    yield {"root": root, "split": "train"}


# --- COCO


def coco_fault(change: Callable[[dict], object], *rights: Callable[[dict], object]) -> Case:
    def case(root: Path) -> Iterator[Opening]:
        write_coco(root, three(), "train.json", "")
        for edit in (change, *rights):
            data = coco_dict(three())
            edit(data)
            (root / "train.json").write_text(json.dumps(data))
            yield {"root": root, "name": "coco", "split": "train", "needs": MASKS}

    return case


def nothing(data: dict) -> None:
    """The file as it should be."""


def of(group: str, n: int, **values: Any) -> Callable[[dict], object]:
    return lambda data: data[group][n].update(values)


obeys("correct the entry")(coco_fault(of("categories", 0, id="x"), nothing))
obeys("give each category an id of its own")(coco_fault(of("categories", 0, id=10), nothing))
obeys("give one of them another name, or write one id")(
    coco_fault(
        of("categories", 0, name="cat"),
        nothing,
        lambda data: [
            data["categories"].pop(0),
            [thing.update(category_id=10) for thing in data["annotations"]],
        ],
    )
)
obeys("give each image an id of its own")(coco_fault(of("images", 1, id=1), nothing))
obeys("give each annotation an id of its own")(coco_fault(of("annotations", 1, id=100), nothing))
obeys("add the image, or remove the annotation")(
    coco_fault(of("annotations", 1, image_id=9), lambda data: data["annotations"].pop(1))
)
obeys("add the category, or remove the annotation")(
    coco_fault(of("annotations", 1, category_id=9), lambda data: data["annotations"].pop(1))
)
obeys("correct the box, or remove the annotation")(
    coco_fault(of("annotations", 1, bbox=[1, 2]), lambda data: data["annotations"].pop(1))
)
obeys("write 0 or 1")(coco_fault(of("annotations", 1, iscrowd=2), nothing))
obeys("give x and y of at least three corners")(
    coco_fault(of("annotations", 1, segmentation=[[1, 2, 3]]), nothing)
)
obeys("write it anew")(coco_fault(of("categories", 0, name="\ud800"), nothing))
obeys("name a file of annotations, not of results")(
    coco_fault(lambda data: data.pop("categories"), nothing)
)


@obeys("write or fetch the file again")
def json_cut(root):
    write_coco(root, three(), "train.json", "")
    text = (root / "train.json").read_text()
    (root / "train.json").write_text(text[:-5])
    yield {"root": root, "name": "coco", "split": "train"}
    (root / "train.json").write_text(text)
    yield {"root": root, "name": "coco", "split": "train"}


@obeys("choose one with dataset.annotations")
def two_files(root):
    for name in ("one.json", "two.json"):
        write_coco(root, three(), name, "")
    yield {"root": root, "split": "train"}
    yield {"root": root, "split": "train", "annotations": "one.json"}
    yield {"root": root, "split": "one.json"}


@obeys("correct dataset.annotations")
def no_such_file(root):
    write_coco(root, three(), "train.json", "")
    yield {"root": root, "annotations": "tain.json"}
    yield {"root": root, "annotations": "train.json"}


@obeys("write the folder into each file_name")
def two_folders_hold_it(root):
    write_coco(root, three(), "all.json", "x")
    write_coco(root, three(), "all.json", "y")
    yield {"root": root, "split": "all"}
    data = coco_dict(three())
    for image in data["images"]:
        image["file_name"] = f"y/{image['file_name']}"
    (root / "all.json").write_text(json.dumps(data))
    yield {"root": root, "split": "all"}


# --- VOC


def xml_fault(old: str, new: str, *rights: tuple[str, str]) -> Case:
    def case(root: Path) -> Iterator[Opening]:
        write_voc(root, three(), {"train": "abc"})
        for before, after in ((old, new), *rights):
            text = voc_xml(three()[1])
            (root / "Annotations/b.xml").write_text(text.replace(before, after))
            yield {"root": root, "name": "voc", "split": "train"}

    return case


SAME = ("owl", "owl")
obeys("complete or remove the object")(xml_fault("<name>owl</name>", "", SAME))
obeys("correct the box, or remove the object")(xml_fault("<xmin>2</xmin>", "<xmin>x</xmin>", SAME))
obeys("correct the file, or write it anew")(xml_fault("</annotation>", "", SAME))
obeys("export it as Pascal VOC, or move the file out")(xml_fault("annotation>", "page>", SAME))
obeys("correct the size, or remove it")(
    xml_fault("<width>50</width>", "<width>1e12</width>", SAME, ("<width>50</width>", ""))
)


@obeys("correct the encoding that is declared")
def wrong_encoding(root):
    write_voc(root, three(), {"train": "abc"})
    for declared in ("no-such", "utf-8"):
        text = f'<?xml version="1.0" encoding="{declared}"?>\n{voc_xml(three()[1])}'
        (root / "Annotations/b.xml").write_text(text)
        yield {"root": root}


@obeys("add the XML file")
def listed_without_xml(root):
    write_voc(root, three(), {"train": "abc"})
    (root / "Annotations/c.xml").unlink()
    yield {"root": root}
    (root / "Annotations/c.xml").write_text("<annotation></annotation>")
    yield {"root": root}
    (root / "Annotations/c.xml").unlink()
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    yield {"root": root}


@obeys("rename or remove one of them, or move one of the two folders out of here")
def one_name_in_two_folders(root):
    for folder in "xy":
        write_voc(root / folder, three()[:1], xml="", images="")
    yield {"root": root}
    (root / "y").rename(root.with_name("out"))
    yield {"root": root}


@obeys("or name the classes of both with dataset.classes")
def two_lists_of_classes(root):
    for folder, names in (("x", "cat\ndog\nowl"), ("y", "ant\nbee\nowl")):
        write_yolo(root / folder, three())
        (root / folder / "classes.txt").write_text(names)
    yield {"root": root, "split": "train"}
    yield {"root": root, "split": "train", "classes": ["a", "b", "c"]}
    yield {"root": root / "y", "split": "train"}


@obeys("or set dataset.root to the folder of one data set")
def two_files_of_a_split(root):
    for folder in "xy":
        write_coco(root / folder, three(), "train/_annotations.coco.json", "train")
    yield {"root": root, "split": "train"}
    yield {"root": root, "split": "x/train/_annotations.coco.json"}
    yield {"root": root / "y", "split": "train"}


@obeys("or write a data.yaml here, with all folders of train and val, and names")
def two_descriptions(root):
    for folder in "xy":
        write_yolo(root / folder, three(), names_file=None)
        (root / folder / "data.yaml").write_text("train: images/train\nnames: [cat, dog, owl]\n")
    yield {"root": root, "split": "train"}
    yield {"root": root / "x", "split": "train"}
    folders = "train: [x/images/train, y/images/train]\nnames: [cat, dog, owl]\n"
    (root / "data.yaml").write_text(folders)
    yield {"root": root, "split": "train"}


@obeys("rename the category, or leave it out with dataset.classes")
def category_of_the_background(root):
    write_coco(root, three())
    path = root / "annotations/instances_train.json"
    path.write_text(path.read_text().replace('"owl"', '"background"'))
    opening = {"root": root, "needs": PIXELS}
    yield opening
    yield {**opening, "classes": ["cat", "dog"], "unknown_classes": "drop"}
    path.write_text(path.read_text().replace('"background"', '"owl"'))
    yield opening


@obeys("set it to null.")
def setting_of_a_localizer(root):
    write_yolo(root, three())
    for choice in ("drop", None):
        yield {"root": root, "more_objects": choice}


# --- masks


def masks(root: Path, values: tuple[int, ...], folder: str = "masks") -> None:
    for n in range(4):
        save_image(root / f"images/{n}.jpg", 8, 12)
        pixels = np.zeros((8, 12), np.uint8)
        pixels[2:6] = values[n % len(values)]
        (root / folder).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"{n}.png")


@obeys("make the masks anew without smoothing")
def smoothed(root):
    rng = np.random.default_rng(0)
    masks(root, (0, 1))
    for n in range(4):
        save_image(root / f"images/{n}.jpg", 48, 64)
        small = Image.fromarray((rng.random((6, 8)) < 0.5).astype(np.uint8) * 255)
        small.resize((64, 48), Image.Resampling.BILINEAR).save(root / f"masks/{n}.png")
    yield {"root": root, "needs": PIXELS}
    for path in (root / "masks").iterdir():
        values = np.asarray(Image.open(path))
        Image.fromarray(np.where(values < 128, 0, 255).astype(np.uint8)).save(path)
    yield {"root": root, "needs": PIXELS}


@obeys("say which class each is with")
def sparse_values(root):
    masks(root, (127, 254))
    yield {"root": root, "needs": PIXELS}
    yield {"root": root, "needs": PIXELS, "values": {0: 0, 127: 1, 254: 2}}


@obeys("save masks as palette or grey PNG")
def colours(root):
    masks(root, (1,))
    path = root / "masks/0.png"
    values = np.asarray(Image.open(path))
    Image.fromarray(np.stack([values, values * 0, values], -1)).save(path)
    yield {"root": root, "needs": PIXELS, "split": "all"}
    Image.fromarray(values).save(path)
    yield {"root": root, "needs": PIXELS, "split": "all"}


@obeys("make the masks again as PNG")
def jpeg_masks(root):
    masks(root, (1,))
    Image.open(root / "masks/0.png").save(root / "masks/0.jpg")
    (root / "masks/0.png").unlink()
    yield {"root": root, "needs": PIXELS, "split": "all"}
    masks(root, (1,))
    (root / "masks/0.jpg").unlink()
    yield {"root": root, "needs": PIXELS, "split": "all"}


@obeys("save the mask at the size of its image")
def mask_of_other_size(root):
    masks(root, (1,))
    Image.new("L", (10, 8)).save(root / "masks/0.png")
    yield {"root": root, "needs": PIXELS, "split": "all"}
    masks(root, (1,))
    yield {"root": root, "needs": PIXELS, "split": "all"}


@obeys("name every class in dataset.classes")
def value_beyond(root):
    masks(root, (2,))
    yield {"root": root, "needs": PIXELS, "split": "all", "classes": ["sea", "land"]}
    yield {"root": root, "needs": PIXELS, "split": "all", "classes": ["sea", "land", "ice"]}
    yield {"root": root, "needs": PIXELS, "split": "all", "values": {0: 0, 2: 1}}
    yield {"root": root, "needs": PIXELS, "split": "all", "classes": ["a", "b"], "ignore": 2}


@obeys("set it to a value of 0")
def odd_ignore(root):
    masks(root, (1,))
    yield {"root": root, "needs": PIXELS, "ignore": 300}
    yield {"root": root, "needs": PIXELS, "ignore": 1}
    yield {"root": root, "needs": PIXELS, "ignore": None}


@obeys("add the colour with its class to labelmap.txt")
def unlisted_colour(root):
    masks(root, (1,))
    for n in range(4):
        Image.new("RGB", (12, 8), (9, 0, 7)).save(root / f"masks/{n}.png")
    (root / "labelmap.txt").write_text("sea:0,0,0::\nland:9,9,9::\n")
    yield {"root": root, "needs": PIXELS, "split": "all"}
    (root / "labelmap.txt").write_text("sea:0,0,0::\nland:9,9,9::\nice:9,0,7::\n")
    yield {"root": root, "needs": PIXELS, "split": "all"}


@obeys(", remove the file, or name the pairs in a list")
def picture_without_mask(root):
    masks(root, (1,))
    save_image(root / "images/x.jpg", 8, 12)
    yield {"root": root, "needs": PIXELS, "split": "all"}
    (root / "train.txt").write_text("images/0.jpg masks/0.png\n")
    yield {"root": root, "needs": PIXELS, "split": "train"}
    (root / "train.txt").unlink()
    (root / "images/x.jpg").unlink()
    yield {"root": root, "needs": PIXELS, "split": "all"}


@obeys("write `picture mask` on each line")
def no_pair(root):
    masks(root, (1,))
    for second in ("images/1.jpg", "images/1.jpg, masks/1.png"):
        (root / "train.txt").write_text(f"images/0.jpg masks/0.png\n{second}\n")
        yield {"root": root, "needs": PIXELS, "split": "train"}


@obeys("add both, or remove the line")
def listed_without_mask(root):
    masks(root, (1,))
    for lines in ("0\nx\n", "0\n"):
        (root / "train.txt").write_text(lines)
        yield {"root": root, "needs": PIXELS, "split": "train"}


@obeys("add the mask, or unlist the image")
def voc_without_mask(root):
    masks(root, (1,), "SegmentationClass")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for lines in ("0\n1\nx\n", "0\n1\n"):
        (root / "ImageSets/Segmentation/train.txt").write_text(lines)
        yield {"root": root, "needs": PIXELS, "split": "train"}


# --- folders of classes


def class_folders(root: Path) -> None:
    for name in ("cat", "dog"):
        for n in range(3):
            save_image(root / name / f"{n}.jpg", 8, 8)


@obeys("or leave such folders out with")
def strange_folder(root):
    class_folders(root)
    opening = {"root": root, "needs": LABELS, "split": "all"}
    yield {**opening, "classes": ["cat"]}
    yield {**opening, "classes": ["cat", "dog"]}
    yield {**opening, "classes": ["cat"], "unknown_classes": "drop"}


@obeys("choose a classifier (model=classifier), or a data set with boxes or masks")
def classes_for_boxes(root):
    class_folders(root)
    yield {"root": root, "name": "image_folder", "split": "all"}
    yield {"root": root, "name": "image_folder", "split": "all", "needs": LABELS}


@obeys("lay out ")
def no_class_folders(root):
    save_image(root / "a.jpg", 8, 8)
    yield {"root": root, "name": "image_folder", "split": "all", "needs": LABELS}
    class_folders(root)
    yield {"root": root, "name": "image_folder", "split": "all", "needs": LABELS}


# --- masks in colour, stacks, bands

ROAD, SKY = [9, 0, 7], [0, 0, 0]


def coloured(root: Path) -> Opening:
    masks(root, (1,))
    for path in (root / "masks").iterdir():
        values = np.asarray(Image.open(path))
        Image.fromarray(np.where(values[..., None], ROAD, SKY).astype(np.uint8)).save(path)
    return {"root": root, "needs": PIXELS, "split": "all", "name": "mask_folder"}


def table_fault(wrong: Any, *right: Any) -> Case:
    """A case of `dataset.colours`, wrong and then right."""

    def case(root: Path) -> Iterator[Opening]:
        opening = coloured(root)
        (root / "mine.txt").write_text("road: 9,0,7\nsky: 0,0,0\n")
        (root / "wrong.txt").write_text("road: 9,0,7\nsky\n")
        for table in (wrong, *right):
            yield {**opening, "colours": table}

    return case


TABLE = {"road": ROAD, "sky": SKY}
obeys("name each class: dataset.colours=")(table_fault({"ignore": ROAD}, TABLE))
obeys("name one, or give the table")(table_fault("no.txt", "mine.txt", TABLE))
obeys("give red, green and blue")(table_fault({**TABLE, "sky": [0, 0]}, TABLE))
obeys("give each class a colour of its own")(table_fault({**TABLE, "sea": SKY}, TABLE))
obeys("write `road: 128,64,128`")(table_fault("wrong.txt", "mine.txt"))
obeys("add it to dataset.colours, as `ignore`")(
    table_fault({"road": ROAD}, TABLE, {"road": ROAD, "ignore": SKY})
)


@obeys("leave one of them out; dataset.colours names the classes")
def colours_and_values(root):
    opening = coloured(root)
    yield {**opening, "colours": TABLE, "ignore": 0}
    yield {**opening, "colours": TABLE}


def stack(path: Path, pages: int) -> None:
    first, *others = [Image.new("L", (12, 8), page % 2) for page in range(pages)]
    first.save(path, save_all=True, append_images=others)


@obeys("give each page of the pictures one of the masks")
def other_pages(root):
    masks(root, (1,))
    stack(root / "images/s.tif", 5)
    for pages in (4, 5):
        stack(root / "masks/s.tif", pages)
        yield {"root": root, "needs": PIXELS, "split": "all"}
    stack(root / "masks/s.tif", 1)
    for n in range(4):
        stack(root / f"images/{n}.tif", 5)
        (root / f"images/{n}.jpg").unlink()
    yield {"root": root, "needs": PIXELS, "split": "all", "channels": 5}


@obeys("(null for colours), or convert the picture")
def other_bands(root):
    masks(root, (1,))
    opening = {"root": root, "needs": PIXELS, "split": "all", "name": "mask_folder"}
    for channels in (4, 3, None):
        yield {**opening, "channels": channels}


@pytest.mark.parametrize("words", CASES)
def test_who_obeys_goes_on(tmp_path, words):
    case = CASES[words](tmp_path)
    opening = next(case)
    with pytest.raises(DetkitError) as caught:
        read(opening)
    assert words in caught.value.remedy
    ways = [read(opening) for opening in case]
    assert ways


ROOM = Path(detkit.__file__).parent / "data"
ELSEWHERE = {  # obeyed by tests of their own, or by a setting of another room
    "anchors.py", "balance.py", "classes.py", "contents.py", "loading.py", "order.py",
    "presets.py", "single.py", "square_presets.py", "workers.py", "formats/idx.py",
    "formats/shapes.py",
}  # fmt: skip
NOT_HERE = (  # what a test can't make or undo, or what sends to other data altogether
    "allow reading it.",  # whoever may read everything
    "scale it down or cut it into tiles",  # half a gigabyte
    "save masks as 8-bit images",
    "correct the name.",
    "give each image an id of its own.",
    "see the faults of bad_images=error",
    "choose other data, or a model that detects boxes",
    "choose a model of pixels (model=unet)",
    "write or fetch it again",
    "lay them out as ",
    "set dataset.root to their folder",
    "set dataset.root to its folder, or dataset.annotations to the file",
    "put the annotated image back",
    "values are 0 … ",
    "when training, or convert the picture",  # of the network
)


def remedies() -> Iterator[tuple[str, str]]:
    """(file, text) of each remedy that stands in the code as text, its gaps left out."""
    for file in sorted(ROOM.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                pieces = [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
                if text := "".join(piece for piece in pieces if isinstance(piece, str)):
                    yield file.relative_to(ROOM).as_posix(), text


def test_each_remedy_is_obeyed_somewhere():
    known = (*CASES, *NOT_HERE)
    left = [
        f"{file}: {text}"
        for file, text in remedies()
        if file not in ELSEWHERE and not any(words in text for words in known)
    ]
    assert not left
