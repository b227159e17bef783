"""What tools really write: read as it was meant, or refused with the file and the place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

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

from detkit.data import images, open_dataset, split_name
from detkit.data.formats import BOXES, PIXELS
from detkit.errors import DetkitError

HARBOURED = "https://files.example.org"


def opened(root, which="train", needs=BOXES, **settings):
    given = {"root": root, **settings}
    return open_dataset(given, split_name(given, which, needs), needs=needs)


def refusal(root, which="train", needs=BOXES, **settings):
    with pytest.raises(DetkitError) as caught:
        opened(root, which, needs, **settings)
    return caught.value


def notes_of(records):
    return "\n".join(records.notes)


REAL = {  # images, objects
    "yolo_decimal_ids": (4, 11),
    "class_names/utf16": (4, 11),
    "coco_paths/old": (4, 9),
    "coco_paths/new": (4, 12),
    "coco_paths/linux": (4, 12),
    "yolo_folder_above/second": (2, 5),
}


@pytest.mark.parametrize("folder", REAL)
def test_real_exports_are_read_as_they_were_meant(shared, folder):
    records = opened(shared / "exports" / folder)
    assert records.names == ("car", "dog", "person")
    assert (len(records), len(records.boxes)) == REAL[folder]
    paths, home = [records.path(i).resolve() for i in range(len(records))], shared / "exports"
    assert all(path.is_relative_to((home / folder).resolve()) for path in paths)
    if "coco_paths" in folder or "above" in folder:
        assert records.notes


def test_a_grouping_category_of_the_same_name_is_left_out(shared):
    for which in ("train", "val"):
        records = opened(shared / "exports/coco_category_twice", which)
        assert records.names == ("person",)
        assert records.category_ids.tolist() == [1]
        assert "left out category 0" in notes_of(records)


def test_real_exports_that_say_nothing_sure_are_refused_with_the_place(shared):
    fault = refusal(shared / "exports/yolo_commas")
    assert (fault.file.name, fault.record) == ("000000000790.txt", "line 1")
    assert "space" in fault.remedy
    fault = refusal(shared / "exports/class_names/gbk")
    assert (fault.file.name, fault.record) == ("classes.txt", "line 1")
    assert "save the file as UTF-8" in fault.remedy
    fault = refusal(shared / "exports/masks_with_edges", needs=PIXELS)
    assert "smoothed" in fault.problem
    assert "exchange width and height" in refusal(shared / "exports/coco_swapped_size").remedy


# --- recognition


def cvat_yolo(root):
    """CVAT's YOLO 1.1 with its one subset: paths begin with a folder that is not there."""
    for picture in three():
        save_image(root / f"obj_train_data/{picture.stem}.jpg", picture.height, picture.width)
    write_yolo(root, three(), "obj_train_data", "obj_train_data", None)
    (root / "obj.names").write_text("\n".join(NAMES))
    (root / "obj.data").write_text(
        "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    lines = (f"data/obj_train_data/{picture.stem}.jpg\n" for picture in three())
    (root / "train.txt").write_text("".join(lines))
    return root


def test_cvats_yolo_export_is_read_as_it_is(tmp_path):
    records = open_dataset({"root": cvat_yolo(tmp_path)}, "train")
    assert records.names == NAMES
    assert sorted(records.files) == [f"obj_train_data/{stem}.jpg" for stem in "abc"]
    assert len(records.boxes) == 3
    train, val = (set(opened(tmp_path, which).files) for which in ("train", "val"))
    assert train | val == set(records.files)
    assert not train & val
    assert len(val) == 1
    named = open_dataset({"root": tmp_path / "obj.data"}, "train")
    assert named.names == NAMES


def test_a_folder_more_around_an_export_is_looked_through(tmp_path):
    root = write_yolo(tmp_path / "download/birds.v3", three(), names_file=None)
    (root / "data.yaml").write_text("train: ../images/train\nnames: [cat, dog, owl]\n")
    assert open_dataset({"root": tmp_path / "download"}, "train").names == NAMES


@pytest.mark.parametrize(
    ("first", "says"),
    [
        ("1.0e+00 0.5 0.5 0.2 0.2", None),
        ("cat 0.5 0.5 0.2 0.2", "begins with 'cat'"),
        ("1;0.5;0.5;0.2;0.2", "other signs than spaces"),
        ("1 0,5 0,5 0,2 0,2", "decimal commas"),
        ("# made by x\n1 0.5 0.5 0.2 0.2", "not all numbers"),
        ("10 10 20 10 20 20 10 20 plane 0", "oriented box"),
        ("1 0.5 0.5 0.2 0.2 0.9", "it has 6 numbers"),
    ],
)
@pytest.mark.parametrize("described", [False, True])
def test_an_odd_line_makes_no_other_format(tmp_path, first, says, described):
    root = write_yolo(tmp_path, three()[:1], names_file=None if described else "classes.txt")
    if described:
        (root / "data.yaml").write_text("train: images/train\nnames: [cat, dog, owl]\n")
    (root / "labels/train/a.txt").write_text(f"{first}\n")
    if says is None:
        assert open_dataset({"root": root}, "train").labels.tolist() == [1]
        return
    fault = refusal(root)
    assert says in fault.problem
    assert fault.file.name == "a.txt"


def test_text_files_that_meet_no_picture_are_named(tmp_path):
    root = write_yolo(tmp_path, three())
    for label in (root / "labels/train").iterdir():
        label.rename(label.with_name(f"x{label.name}"))
    fault = refusal(root)
    assert "no picture for this text file" in fault.problem
    assert fault.file.parent == root / "labels/train"


def test_percent_signs_in_the_name_of_a_text_file(tmp_path):
    root = write_yolo(tmp_path, [Picture("a b", things=three()[0].things), *three()])
    (root / "labels/train/a b.txt").rename(root / "labels/train/a%20b.txt")
    assert len(open_dataset({"root": root}, "train").boxes) == 5


def test_oriented_boxes_are_refused_by_that_name(tmp_path):
    root = write_yolo(tmp_path, three())
    turned = "0 0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5\n"
    for label in (root / "labels/train").iterdir():
        label.write_text(turned)
    for needs in (BOXES, frozenset({"boxes", "masks"})):
        assert "oriented boxes" in refusal(root, needs=needs).problem
    outlined = turned.replace("\n", " 0.5 0.2\n")  # as the remedy has it
    for label in (root / "labels/train").iterdir():
        label.write_text(outlined)
    assert len(open_dataset({"root": root}, "train", needs=frozenset({"boxes", "masks"}))) == 3


STRANGERS = {
    "a.json": '{"version": "5.0", "shapes": [{"label": "cat"}], "imagePath": "a.jpg"}',
    "b.json": '[{"id": 1, "data": {"image": "/data/x.jpg"}, "annotations": [{"result": []}]}]',
    "annotations.xml": '<?xml version="1.0"?>\n<annotations><version>1.1</version></annotations>',
    "_annotations.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n",
    "labels.csv": "cat,10,20,30,40,a.jpg,640,480\n",
    "via.json": '{"_via_settings": {}, "_via_img_metadata": {}}',
    "x.tfrecord": "",
    "c.json": f'{{"imageData": "{"A" * 200_000}", "shapes": [], "imagePath": "a.jpg"}}',
    "d.json": '{"tags": [], "size": {"height": 4, "width": 6}, "objects": []}',
    "captions_val.json": '{"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]}',
    "panoptic.json": '{"images": [], "categories": [], "annotations": [{"segments_info": []}]}',
    "train.csv": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n",
    "via.csv": "filename,file_size,region_count,region_shape_attributes\n",
    "000001.txt": "Car 0.00 0 -1.57 10.0 12.0 30.0 35.0 1.5 1.6 3.9 1.0 1.6 30.0 -1.5\n",
    "P0001.txt": "imagesource:GoogleEarth\ngsd:0.1\n1 1 2 1 2 2 1 2 plane 0\n",
    "_annotations.txt": "a.jpg 1,1,5,5,0 2,2,9,9,1\n",
    "metadata.jsonl": '{"file_name": "a.jpg", "objects": {"bbox": []}}',
    "train.parquet": "PAR1",
}
OTHER_REMEDIES = {  # what the remedy names
    "_classes.csv": ("filename, cat, dog\na.jpg, 1, 0\n", "named by their class"),
    "labels.csv": ("id,label\na,cat\n", "named by their class"),
    "export.zip": ("PK", "unpack it"),
    "a_gtFine_polygons.json": ('{"imgHeight": 4, "objects": [{"polygon": []}]}', "train.txt"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_annotations_that_are_not_read_are_named(tmp_path, name):
    save_image(tmp_path / "a.jpg", 40, 60)
    (tmp_path / name).write_text(STRANGERS[name])
    fault = refusal(tmp_path)
    assert name in fault.problem
    assert "COCO" in fault.remedy


@pytest.mark.parametrize("name", OTHER_REMEDIES)
def test_what_is_no_export_of_boxes_has_a_remedy_of_its_own(tmp_path, name):
    save_image(tmp_path / "a.jpg", 40, 60)
    (tmp_path / name).write_text(OTHER_REMEDIES[name][0])
    for root in (tmp_path, tmp_path / name):
        fault = refusal(root)
        assert f"({name} is " in fault.problem
        assert OTHER_REMEDIES[name][1] in fault.remedy


def test_cocos_other_files_are_no_objects(tmp_path):
    root = write_coco(tmp_path, three(), "annotations/train.json")
    (root / "annotations/captions_train.json").write_text(STRANGERS["captions_val.json"])
    (root / "annotations/panoptic_train.json").write_text(STRANGERS["panoptic.json"])
    assert len(open_dataset({"root": root}, "train").boxes) == 3


def test_roboflows_group_of_all_categories_is_left_out(tmp_path):
    data = coco_dict(three())
    data["categories"] = [
        {"id": 0, "name": "birds", "supercategory": "none"},
        *({**category, "supercategory": "birds"} for category in data["categories"]),
    ]
    save_image(tmp_path / "a.jpg", 40, 60)
    save_image(tmp_path / "b.jpg", 30, 50)
    save_image(tmp_path / "c.jpg", 40, 60)
    (tmp_path / "train.json").write_text(json.dumps(data))
    records = open_dataset({"root": tmp_path}, "train")
    assert set(records.names) == set(NAMES)
    assert "left out category 0, 'birds'" in notes_of(records)
    data["annotations"][0]["category_id"] = 0  # it has an object: it is a class
    (tmp_path / "train.json").write_text(json.dumps(data))
    assert "birds" in open_dataset({"root": tmp_path}, "train").names


# --- splits of classes, masks beside pictures, two data sets


@pytest.mark.parametrize("flags", [(1, -1), (1, None)])
def test_the_lists_of_all_classes_are_a_split(tmp_path, flags):
    write_voc(tmp_path, three())
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    for name in NAMES:
        for split, members in (("train", three()[:1] + three()[2:]), ("val", three()[1:2])):
            lines = (
                f"{p.stem} {flag:2d}\n"
                for p in members
                if (flag := flags[name not in [thing.name for thing in p.things]]) is not None
            )
            (lists / f"{name}_{split}.txt").write_text("".join(lines) or "c -1\n")
    records = opened(tmp_path)
    assert sorted(records.image_ids) == ["a", "c"]
    assert len(records.boxes) == 2
    assert "b" in opened(tmp_path, "val").image_ids
    assert list(opened(tmp_path, train_split="cat_train").image_ids) == ["a"]
    (lists / "train.txt").write_text("a\nb\nc\n")  # a list of its own comes first
    assert len(opened(tmp_path)) == 3


@pytest.mark.parametrize("ends", [("jpg", "_mask.png"), ("png", "_mask.png"), ("jpg", ".png")])
def test_masks_beside_their_pictures_are_read(tmp_path, ends):
    for split, count in (("train", 3), ("valid", 2)):
        for n in range(count):
            stem = tmp_path / split / f"{n}_jpg.rf.0a{n}"
            save_image(Path(f"{stem}.{ends[0]}"), 8, 12)
            Image.fromarray(np.full((8, 12), 1 + n % 2, np.uint8)).save(f"{stem}{ends[1]}")
        text = "Pixel Value, Class\n0, background\n1, cat\n2, dog\n"
        (tmp_path / split / "_classes.csv").write_text(text)
    for which, count in (("train", 3), ("val", 2)):
        records = opened(tmp_path, which, PIXELS)
        assert records.names == ("background", "cat", "dog")
        assert [int(records.pixels(n)[0, 0]) for n in range(len(records))] == [1, 2, 1][:count]
    assert "model=unet" in refusal(tmp_path).remedy
    (tmp_path / "valid/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, dog\n")
    assert "The class 1 is" in refusal(tmp_path, needs=PIXELS).problem


def test_two_data_sets_in_one_root_are_a_question(tmp_path):
    yolo, text = tmp_path / "yolo", "train: images/train\nnames: {}\n"
    for name, names in (("a", "[cat, dog, owl]"), ("b", "[x, y, z]")):
        write_yolo(yolo / name, three(), names_file=None)
        (yolo / name / "data.yaml").write_text(text.format(names))
    fault = refusal(yolo)
    assert "a/data.yaml and b/data.yaml describe a data set each" in fault.problem
    assert len(opened(yolo / "a", train_split="train")) == 3  # as the remedy has it
    folders = "train: [a/images/train, b/images/train]\nnames: [cat, dog, owl]\n"
    (yolo / "data.yaml").write_text(folders)
    assert len(opened(yolo, train_split="train")) == 6
    (yolo / "data.yaml").unlink()
    for name in "ab":
        (yolo / name / "data.yaml").unlink()
        (yolo / name / "classes.txt").write_text("cat\ndog\nowl" if name == "a" else "x\ny\nz")
    assert "The class 0 is" in refusal(yolo).problem
    (yolo / "b/classes.txt").write_text("cat\ndog\nowl\nrat")
    records = opened(yolo, train_split="train")
    assert records.names == (*NAMES, "rat")
    assert "2 folders are read as one data set" in notes_of(records)

    coco = tmp_path / "coco"
    for name in "ab":
        write_coco(coco / name, three(), "train/_annotations.coco.json", "train")
    fault = refusal(coco, train_split="train")
    assert "could both be the split 'train'" in fault.problem
    chosen = fault.remedy.partition("train_split=")[2].partition(" ")[0]
    assert opened(coco, train_split=chosen).files[0].startswith("a/train/")

    voc = tmp_path / "voc"
    for name in "ab":
        pictures = [Picture(name + p.stem, p.height, p.width, p.things) for p in three()]
        write_voc(voc / name, pictures)
    assert "2 folders are read as one data set" in notes_of(open_dataset({"root": voc}, "all"))


# --- encodings


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gbk", "latin-1"]
)
def test_every_text_is_utf_8_or_says_what_it_is(tmp_path, encoding):
    names = ["Käfer", "Bär", "Öl"] if encoding == "latin-1" else ["汽车", "狗", "人"]
    mark = "\ufeff" if encoding == "utf-16-be" else ""

    def write(path, text):
        path.write_bytes((mark + text).encode(encoding))

    yolo, voc, coco = (tmp_path / name for name in ("yolo", "voc", "coco"))
    write_yolo(yolo, three())
    write(yolo / "classes.txt", "\n".join(names))
    write_yolo(tmp_path / "yaml", three(), names_file=None)
    write(tmp_path / "yaml/data.yaml", f"train: images/train\nnames: {names}\n".replace("'", ""))
    write_voc(voc, three(), {"train": "abc"})
    write(voc / "Annotations/b.xml", voc_xml(three()[1]).replace("owl", names[0]))
    write(voc / "ImageSets/Main/train.txt", "a\nb\nc\n")
    write_coco(coco, three())
    text = json.dumps(coco_dict(three(), NAMES), ensure_ascii=False).replace("owl", names[0])
    write(coco / "annotations/instances_train.json", text)
    read_as_it_is = encoding not in ("gbk", "latin-1")
    for root in (yolo, tmp_path / "yaml", voc, coco):
        if read_as_it_is:
            assert names[0] in open_dataset({"root": root}, "train").names
        else:
            fault = refusal(root)
            assert "UTF-8" in fault.remedy
            assert ", line " in str(fault)


# --- paths


PREFIXES = {
    "backslashes": lambda p: p.replace("/", "\\"),
    "drive": lambda p: "D:\\project\\" + p.replace("/", "\\"),
    "other folders": lambda p: f"/content/drive/My Drive/{p}",
    "a leading folder": lambda p: f"export/{p}",
    "above": lambda p: f"../../upload/4/{Path(p).name}",
    "percent signs": lambda p: p.replace(" ", "%20"),
    "server": lambda p: f"{HARBOURED}/{p.replace(' ', '%20')}",
    "label studio": lambda p: f"/data/local-files/?d=work/{p}",
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("kind", ["coco", "yolo", "masks", "voc"])
def test_paths_of_another_machine_are_found_by_their_end(tmp_path, prefix, kind):
    change, pictures = PREFIXES[prefix], [*three(), Picture("d e", things=three()[0].things)]
    needs = BOXES
    if kind == "coco":
        write_coco(tmp_path, pictures, "result.json", "images")
        data = json.loads((tmp_path / "result.json").read_text())
        for image in data["images"]:
            image["file_name"] = change(f"images/{image['file_name']}")
        (tmp_path / "result.json").write_text(json.dumps(data))
        records = open_dataset({"root": tmp_path}, "all")
    elif kind == "yolo":
        write_yolo(tmp_path, pictures, "images", "labels")
        lines = (change(f"images/{p.stem}.jpg") + "\n" for p in pictures)
        (tmp_path / "train.txt").write_text("".join(lines))
        records = open_dataset({"root": tmp_path}, "train")
    elif kind == "voc":
        write_voc(tmp_path, pictures)
        lines = (change(f"JPEGImages/{p.stem}.jpg") + "\n" for p in pictures)
        (tmp_path / "ImageSets/Main").mkdir(parents=True)
        (tmp_path / "ImageSets/Main/train.txt").write_text("".join(lines))
        records = open_dataset({"root": tmp_path}, "train")
    else:
        needs = PIXELS
        for picture in pictures:
            save_image(tmp_path / f"seen/{picture.stem}.jpg", 8, 12)
            (tmp_path / "painted").mkdir(exist_ok=True)
            Image.new("L", (12, 8), 1).save(tmp_path / f"painted/{picture.stem}.png")
        pairs = ((change(f"seen/{p.stem}.jpg"), change(f"painted/{p.stem}.png")) for p in pictures)
        (tmp_path / "train.txt").write_text("".join(f"{a},{b}\n" for a, b in pairs))
        records = open_dataset({"root": tmp_path}, "train", needs=needs)
    assert sorted(Path(file).stem for file in records.files) == ["a", "b", "c", "d e"]
    assert all(records.path(i).is_file() for i in range(4))
    if kind != "voc":
        assert "not where" in notes_of(records) or (prefix == "percent signs")


def test_a_name_that_two_pictures_fit_is_a_question(tmp_path):
    write_yolo(tmp_path, three()[:2], "images/x", "labels/x")
    write_yolo(tmp_path, three()[:2], "images/y", "labels/y")
    (tmp_path / "mine.txt").write_text("/elsewhere/a.jpg\n")
    with pytest.raises(DetkitError, match="could both be meant"):
        open_dataset({"root": tmp_path}, "mine.txt")
    (tmp_path / "mine.txt").write_text("/elsewhere/y/a.jpg\n")
    assert open_dataset({"root": tmp_path}, "mine.txt").files[0] == "images/y/a.jpg"
    (tmp_path / "mine.txt").write_text("/p/y/a.jpg\n/q/y/a.jpg\n")
    with pytest.raises(DetkitError, match="would both be the picture"):
        open_dataset({"root": tmp_path}, "mine.txt")


def test_a_picture_that_is_nowhere_is_wanted_where_it_can_be_put(tmp_path):
    write_coco(tmp_path, three(), "result.json", "images")
    data = json.loads((tmp_path / "result.json").read_text())
    data["images"][1]["file_name"] = "C:\\media\\lost.jpg"
    (tmp_path / "result.json").write_text(json.dumps(data))
    with pytest.raises(DetkitError, match="missing") as caught:
        open_dataset({"root": tmp_path}, "all")
    assert "\\" not in str(caught.value.file)
    shutil.copy(tmp_path / "images/b.jpg", caught.value.file)
    assert len(open_dataset({"root": tmp_path}, "all")) == 3


def test_path_and_the_own_folder_are_a_question(tmp_path):
    write_yolo(tmp_path / "own", three(), names_file=None)
    write_yolo(tmp_path / "other", three()[:1], names_file=None)
    text = "path: {}\ntrain: images/train\nnames: [cat, dog, owl]\n"
    (tmp_path / "own/data.yaml").write_text(text.format("../other"))
    with pytest.raises(DetkitError, match="which could be"):
        open_dataset({"root": tmp_path / "own"}, "train")
    for path, count in ((tmp_path / "other", 1), ("", 3)):
        (tmp_path / "own/data.yaml").write_text(text.format(path))
        assert len(open_dataset({"root": tmp_path / "own"}, "train")) == count


# --- names, values and bands of pixels


def segmented(root, values, names=None, masks="SegmentationClass", stems="abcde"):
    for n, stem in enumerate(stems):
        save_image(root / f"JPEGImages/{stem}.jpg", 8, 12)
        mask = np.zeros((8, 12), np.uint8)
        mask[2:6] = values[n % len(values)]
        (root / masks).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / masks / f"{stem}.png")
    for name, text in (names or {}).items():
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("class_names.txt", "sea\nland\nice\n"),
        ("classes.txt", "sea\nland\nice\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsea:0,0,0::\nland:9,0,0::\nice:0,9,0::"),
        ("_classes.csv", "Pixel Value, Class\n0, sea\n1, land\n2, ice\n"),
    ],
)
def test_the_classes_of_anyones_masks_have_their_own_names(tmp_path, file, text):
    assert opened(segmented(tmp_path, (1, 2), {file: text}), needs=PIXELS).names == (
        "sea",
        "land",
        "ice",
    )


def test_vocs_names_are_for_vocs_own_pictures(tmp_path, shared):
    own = opened(segmented(tmp_path / "a", (1, 2)), needs=PIXELS)
    assert own.names == ("0", "1", "2")
    assert "not VOC's own" in notes_of(own)
    listed = segmented(tmp_path / "b", (1, 2), stems=["000001", "000002", "000003"])
    (listed / "ImageSets/Segmentation").mkdir(parents=True)
    (listed / "ImageSets/Segmentation/train.txt").write_text("000001\n000002\n")
    assert open_dataset({"root": listed}, "train", needs=PIXELS).names == ("0", "1", "2")
    devkit = open_dataset({"root": shared / "voc2007"}, "train", needs=PIXELS)
    assert devkit.names[:2] == ("background", "aeroplane")


def test_cvats_colours_are_the_classes_of_its_labelmap(tmp_path):
    root = segmented(tmp_path, (1,))
    (root / "labelmap.txt").write_text("# label:color_rgb\nsea:0,0,0::\nland:250,50,83::\n")
    for path in (root / "SegmentationClass").iterdir():
        pixels = np.zeros((8, 12, 3), np.uint8)
        pixels[2:6] = 250, 50, 83
        pixels[0] = 224, 224, 192
        Image.fromarray(pixels).save(path)
    records = opened(root, needs=PIXELS)
    found = records.pixels(0)
    assert records.names == ("sea", "land")
    assert (found[0] == 255).all()
    assert (found[2:6] == 1).all()
    assert (found[6:] == 0).all()
    pixels[7, 3] = 1, 2, 3
    Image.fromarray(pixels).save(records.mask_path(0))
    with pytest.raises(DetkitError, match=r"colour \[1, 2, 3\] \(1 pixel\), which labelmap.txt"):
        records.pixels(0)


@pytest.mark.parametrize("layout", ["masks", "SegmentationClass"])
@pytest.mark.parametrize("named", [False, True])
def test_smoothed_masks_are_refused(tmp_path, layout, named):
    rng = np.random.default_rng(0)
    folder = "images" if layout == "masks" else "JPEGImages"
    if named:
        (tmp_path / "classes.txt").write_text("sea\nland\n")
    for n in range(6):
        save_image(tmp_path / f"{folder}/{n}.jpg", 60, 80)
        small = (rng.random((6, 8)) < 0.5).astype(np.uint8) * 255
        (tmp_path / layout).mkdir(exist_ok=True)
        Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC).save(
            tmp_path / layout / f"{n}.png"
        )
    assert "smoothed" in refusal(tmp_path, needs=PIXELS).problem
    for path in (tmp_path / layout).iterdir():  # as the remedy has it
        values = np.asarray(Image.open(path))
        Image.fromarray(np.where(values < 128, 0, 255).astype(np.uint8)).save(path)
    assert len(opened(tmp_path, needs=PIXELS).names) == 2


def save_bands(path, pixels, extra):
    """A TIFF of four bands, by hand: no library at hand writes undeclared ones of 16 bits."""
    import struct

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, bands = pixels.shape
    data, bits = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), pixels.itemsize * 8
    entries = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * bands), (259, 3, [1]),
        (262, 3, [2]), (273, 4, [8]), (277, 3, [bands]), (278, 4, [height]), (279, 4, [len(data)]),
        *([] if extra is None else [(338, 3, [extra])]),
    ]  # fmt: skip
    start = 8 + len(data)
    behind, table = b"", b""
    for tag, kind, values in entries:
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place = start + 2 + 12 * len(entries) + 4 + len(behind)
            behind += packed
            packed = struct.pack("<I", place)
        table += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", start)
    path.write_bytes(head + data + struct.pack("<H", len(entries)) + table + b"\0" * 4 + behind)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("extra", "alpha"), [(None, False), (0, False), (2, True), (1, True)])
def test_only_declared_alpha_is_transparency(tmp_path, bits, extra, alpha):
    most = 2**bits - 1
    pixels = np.random.default_rng(0).integers(0, most // 8, (6, 8, 4)).astype(f"u{bits // 8}")
    save_bands(tmp_path / "a.tif", pixels, extra)
    found, scale = images.read(tmp_path / "a.tif"), (255 if bits == 8 else 1.0)
    colours, opaque = pixels[..., :3] / most, pixels[..., 3:] / most
    if alpha:
        colours = (colours if extra == 1 else colours * opaque) + 1 - opaque
    assert np.allclose(found / scale, colours.clip(0, 1), atol=0.03)
    assert bool(images.remark(tmp_path / "a.tif")) != alpha


def test_dark_pictures_of_16_bits_are_told(tmp_path):
    root = write_yolo(tmp_path, three())
    for path in (root / "images/train").iterdir():
        width, height = Image.open(path).size
        dark = np.random.default_rng(0).integers(0, 4096, (height, width)).astype(np.uint16)
        Image.fromarray(dark).save(path.with_suffix(".png"))
        path.unlink()
    assert "under a tenth of their range" in notes_of(open_dataset({"root": root}, "train"))


# --- pictures that nobody names, objects without a box


@pytest.mark.parametrize("layout", [("Annotations", "JPEGImages"), ("xml", "images"), ("", "")])
def test_pictures_without_xml_are_kept_and_told(tmp_path, layout):
    root = write_voc(tmp_path, three(), xml=layout[0], images=layout[1])
    (root / layout[0] / "c.xml").unlink()
    save_image(root / "more/other.jpg", 10, 10)
    records = open_dataset({"root": root}, "all")
    assert sorted(records.image_ids) == ["a", "b", "c"]
    assert len(records.boxes) == 3
    assert "1 of 3 pictures have no XML" in notes_of(records)


def test_pictures_left_out_are_told(tmp_path):
    write_coco(tmp_path, three(), "result.json", "images")
    save_image(tmp_path / "images/unlisted.jpg", 10, 10)
    (tmp_path / "images/phone.HEIC").write_bytes(b"heic")
    notes = notes_of(open_dataset({"root": tmp_path}, "all"))
    assert "left out 1 pictures that result.json does not name" in notes
    assert ".heic" in notes


def test_objects_without_a_box_are_bad_boxes(tmp_path):
    voc, coco = tmp_path / "voc", tmp_path / "coco"
    write_voc(voc, three(), {"train": "abc"})
    path = voc / "Annotations/a.xml"
    turned = "<object><name>cat</name><robndbox><cx>9</cx></robndbox></object></annotation>"
    path.write_text(path.read_text().replace("</annotation>", turned))
    write_coco(coco, three(), "train.json", "")
    data = json.loads((coco / "train.json").read_text())
    data["annotations"][0]["bbox"] = []
    del data["annotations"][1]["bbox"]
    (coco / "train.json").write_text(json.dumps(data))
    for root, left in ((voc, 3), (coco, 1)):
        with pytest.raises(DetkitError, match="has no box") as caught:
            open_dataset({"root": root}, "train")
        assert "bad_boxes=drop" in caught.value.remedy
        records = open_dataset({"root": root, "bad_boxes": "drop"}, "train")
        assert len(records.boxes) == left


def test_crowds_may_be_taken_as_objects(tmp_path):
    pictures = [Picture(p.stem, p.height, p.width, p.things) for p in three()]
    crowds = [Thing(t.name, t.box, crowd=True) for t in pictures[0].things]
    root = write_coco(tmp_path, [Picture("a", things=crowds)], "train.json", "")
    assert opened(root, train_split="train").crowd.all()
    assert not opened(root, train_split="train", crowds="objects").crowd.any()
    with pytest.raises(DetkitError, match="crowds"):
        opened(root, train_split="train", crowds="all")
