"""VOC: the real sets' counts, layouts, class lists, splits, and what is written comes back."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from folders import Picture, Thing, three, voc_xml, write_voc
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detkit.data import open_dataset
from detkit.data.formats import voc
from detkit.errors import DetkitError


def test_bccd_has_its_published_counts(shared):
    parts = [voc.read(shared / "bccd", split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [205, 87, 72]
    whole = voc.read(shared / "bccd", "train+val+test")
    assert whole.names == ("Platelets", "RBC", "WBC")
    assert np.bincount(whole.labels).tolist() == [361, 4155, 372]
    assert whole.category_ids.tolist() == [1, 2, 3]
    assert len(whole.notes) == 1
    assert whole.notes[0].startswith("2 of 4,888 boxes are one pixel")


def test_voc2007_has_its_published_counts(shared):
    train, val = (voc.read(shared / "voc2007", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (700, 300)
    assert len(train.boxes) + len(val.boxes) == 3173
    assert train.difficult.sum() + val.difficult.sum() == 648
    assert train.names == val.names == voc.PIXEL_NAMES[1:]


def test_every_box_of_voc2007_lies_in_its_picture(shared):
    val = voc.read(shared / "voc2007", "val")
    for i in range(0, len(val), 30):
        height, width = val.image(i).shape[:2]
        boxes = val.annotation(i).boxes
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()


def test_segmentation_has_a_class_per_pixel(shared):
    for split, count in (("train", 66), ("val", 27)):
        records = open_dataset({"root": shared / "voc2007"}, split, needs=frozenset({"pixels"}))
        assert len(records) == count
        assert records.names == voc.PIXEL_NAMES
        assert not len(records.boxes)
        seen = np.unique(np.concatenate([np.unique(records.pixels(i)) for i in range(count)]))
        assert 255 in seen
        assert 0 in seen
        assert seen[-2] <= 20
        assert records.pixels(0).shape == records.image(0).shape[:2]


def test_scoring_needs_no_pictures(shared):
    records = voc.read(shared / "eval/padilla-voc-100", "val", images=False)
    assert len(records) == 100
    assert not (shared / "eval/padilla-voc-100/JPEGImages").exists()


def pictures():
    side = st.integers(8, 60)
    return st.builds(
        Picture,
        stem=st.uuids().map(str),
        height=side,
        width=side,
        things=st.lists(
            st.tuples(*[st.integers(0, 7)] * 4, st.sampled_from(["x y", "a&b", "é"]), st.booleans())
            .filter(lambda t: t[0] != t[2] and t[1] != t[3])
            .map(lambda t: Thing(t[4].replace("&", "&amp;"), _sorted(t[:4]), t[5])),
            max_size=4,
        ),
    )


def _sorted(box):
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


@settings(max_examples=25, deadline=None)
@given(st.lists(pictures(), min_size=1, max_size=4).filter(lambda ps: any(p.things for p in ps)))
def test_what_is_written_comes_back(tmp_path_factory, written):
    root = tmp_path_factory.mktemp("voc")
    write_voc(root, written, {"train": [p.stem for p in written]})
    records = voc.read(root, "train")
    assert [records.image_id(i) for i in range(len(written))] == [p.stem for p in written]
    for i, picture in enumerate(written):
        found = records.annotation(i)
        assert found.boxes.tolist() == [list(map(float, t.box)) for t in picture.things]
        names = [records.names[k].replace("&", "&amp;") for k in found.labels]
        assert names == [t.name for t in picture.things]
        assert found.difficult.tolist() == [t.difficult for t in picture.things]
        assert not found.crowd.any()
        assert records.sizes[i].tolist() == [picture.height, picture.width]
    shutil.rmtree(root)


LAYOUTS = {
    "other names": ("annotations", "images"),
    "one folder": (".", "."),
    "below a folder": ("data/xmls", "data/imgs"),
    "XML in labels": ("labels", "images"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_folder_names_are_recognised_and_split_by_hash(tmp_path, layout):
    xml, images = LAYOUTS[layout]
    written = [Picture(f"p{n}", things=[Thing("cat", (0, 0, 9, 9))]) for n in range(10)]
    write_voc(tmp_path, written, xml=xml, images=images)
    train, val = (open_dataset({"root": str(tmp_path)}, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 2)
    ids = [r.image_id(i) for r in (train, val) for i in range(len(r))]
    assert sorted(ids) == sorted(p.stem for p in written)
    assert "hash" in val.source
    place = "it" if xml == "." else f"{xml}/"
    assert f"recognised: {place} holds 10 VOC annotations (XML)" in val.source
    assert val.image(0).shape == (40, 60, 3)


@pytest.mark.parametrize("inner", [".", "labels", "Annotations"])
@pytest.mark.parametrize("word", ["val", "valid"])
def test_split_folders_are_splits(tmp_path, word, inner):
    write_voc(tmp_path, three()[:2], xml=f"train/{inner}", images="train")
    write_voc(tmp_path, [Picture("a", 20, 20)], xml=f"{word}/{inner}", images=word)
    train, val = (open_dataset({"root": tmp_path}, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (2, 1)
    assert val.sizes.tolist() == [[20, 20]]  # its own `a`, not that of train
    assert val.names == train.names == ("cat", "dog", "owl")
    inside = "" if inner == "." else f"{inner}/"
    places = f"train/{inside}, {word}/{inside}"
    assert f"recognised: {places} hold 3 VOC annotations (XML)" in train.source


def test_a_devkit_is_opened_by_its_year_or_its_years(tmp_path):
    write_voc(tmp_path / "VOC2007", three()[:1], {"trainval": "a"})
    one = voc.read(tmp_path, "trainval")
    write_voc(tmp_path / "VOC2012", three()[1:], {"trainval": "bc"})
    both = voc.read(tmp_path, "2007/trainval+VOC2012/trainval")
    assert len(one) == 1
    assert [both.image_id(i) for i in range(3)] == ["a", "b", "c"]
    with pytest.raises(DetkitError, match="VOC2012/trainval"):
        voc.read(tmp_path, "trainval")


def test_lists_join_flag_and_come_from_files(tmp_path):
    root = write_voc(tmp_path, three(), {"train": "ab", "val": "c", "dog_train": ["a  1", "b -1"]})
    assert len(voc.read(root, "train+val")) == 3
    assert [voc.read(root, "dog_train").image_id(0), len(voc.read(root, "dog_train"))] == ["a", 1]
    own = tmp_path / "own list.txt"
    own.write_text("JPEGImages/b.jpg\n\nc\n")
    assert len(voc.read(root, str(own))) == 2
    for absent in ("test", "x" * 300 + ".txt"):
        with pytest.raises(DetkitError, match=r"dog_train, train, val"):
            voc.read(root, absent)


def test_all_splits_have_the_classes_of_the_whole_data_set(tmp_path):
    root = write_voc(tmp_path, three(), {"train": "a", "val": "bc"})
    assert voc.read(root, "train").names == voc.read(root, "val").names == ("cat", "dog", "owl")


def test_a_class_list_orders_and_restricts(tmp_path):
    root = write_voc(tmp_path, three(), {"train": "abc"})
    records = voc.read(root, "train", classes=["owl", "cat", "dog"])
    assert records.labels.tolist() == [2, 1, 0]
    some = voc.read(root, "train", classes=["owl", "dog"], unknown_classes="drop")
    assert some.labels.tolist() == [1, 0]
    assert len(some) == 3
    assert some.offsets.tolist() == [0, 1, 2, 2]
    assert "cat (1)" in some.notes[0]


def test_a_part_of_an_object_is_not_an_object(tmp_path):
    """VOC's persons have <part> with name and box of its own."""
    root = write_voc(tmp_path, three()[:1], {"train": "a"})
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
    xml = voc_xml(three()[0]).replace("</object>", part)
    (root / "Annotations/a.xml").write_text(xml)
    records = voc.read(root, "train")
    assert records.names == ("cat", "dog")
    assert len(records.boxes) == 2


def test_a_missing_size_is_taken_from_the_picture(tmp_path):
    root = write_voc(tmp_path, three()[:1], {"train": "a"})
    zero = "<size><width>0</width><height>0</height></size>"
    size = "<size><width>60</width><height>40</height></size>"
    for written in (zero, ""):
        (root / "Annotations/a.xml").write_text(voc_xml(three()[0]).replace(size, written))
        assert voc.read(root, "train").sizes.tolist() == [[40, 60]]


def test_without_any_object_the_classes_have_to_be_named(tmp_path):
    root = write_voc(tmp_path, three()[2:], {"train": "c"})
    with pytest.raises(DetkitError, match="no classes"):
        voc.read(root, "train")
    assert len(voc.read(root, "train", classes=["cat"])) == 1


def test_masks_without_lists_are_split_by_hash_and_a_listed_one_must_exist(tmp_path):
    write_voc(tmp_path, [Picture(f"p{n}") for n in range(7)])
    (tmp_path / "SegmentationClass").mkdir()
    for n in range(5):
        Image.new("L", (60, 40), n).save(tmp_path / f"SegmentationClass/p{n}.png")
    sizes = [
        len(voc.read(tmp_path, s, needs=frozenset({"pixels"}))) for s in ("train", "val", "all")
    ]
    assert sizes == [4, 1, 5]
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("p1\np6\n")
    with pytest.raises(DetkitError, match=r"no mask SegmentationClass/p6\.png"):
        voc.read(tmp_path, "train", needs=frozenset({"pixels"}))


def written_anew(root, *changes):
    """The set of picture `a` with its XML changed."""
    xml = '<?xml version="1.0" encoding="utf-8"?>' + voc_xml(three()[0])
    for old, new in changes:
        assert old in xml
        xml = xml.replace(old, new)
    write_voc(root, three()[:1], {"train": "a"})
    (root / "Annotations/a.xml").write_text(xml)
    return {"name": "auto", "root": root}


@pytest.mark.parametrize(
    "change",
    [
        ("<annotation>", '<annotation xmlns="http://x.y/z">'),
        ("object>", "Object>"),
        ("annotation>", "Annotation>"),
    ],
)
def test_names_with_a_namespace_or_in_capitals_are_the_same_names(tmp_path, change):
    records = open_dataset(written_anew(tmp_path, change), "train")
    assert records.names == ("cat", "dog")
    assert len(records.boxes) == 2


def test_xml_that_is_not_vocs_is_refused(tmp_path):
    """CVAT's own export would be an image without objects."""
    written_anew(tmp_path, ("annotation>", "annotations>"))
    with pytest.raises(DetkitError, match=r"a\.xml: The XML is a <annotations>") as caught:
        voc.read(tmp_path, "train")
    assert "Pascal VOC" in caught.value.remedy


def test_xml_in_folders_below_annotations_is_told(tmp_path):
    root = write_voc(tmp_path, three(), {"train": "abc"})
    assert voc.read(root, "train").notes == ()
    (root / "Annotations/more").mkdir()
    shutil.copy(root / "Annotations/a.xml", root / "Annotations/more/d.xml")
    (note,) = voc.read(root, "train").notes
    assert note.startswith("left out XML files in folders below: 1.")
    assert note.endswith("Annotations/more/d.xml")


@pytest.mark.parametrize("encoding", ["GBK", "GB2312", "gb18030", "Shift_JIS", "big5", "UTF-16"])
def test_xml_is_read_in_the_encoding_that_it_declares(tmp_path, encoding):
    settings = written_anew(tmp_path, ("utf-8", encoding), ("cat", "山"))
    path = tmp_path / "Annotations/a.xml"
    path.write_bytes(path.read_text().encode(encoding))
    assert open_dataset(settings, "train").names == ("dog", "山")


@pytest.mark.parametrize(("declared", "content"), [("foo", "cat"), ("hex", "cat"), ("GBK", "é")])
def test_xml_that_does_not_fit_its_encoding_is_named(tmp_path, declared, content):
    settings = written_anew(tmp_path, ("utf-8", declared), ("cat", content))
    path = tmp_path / "Annotations/a.xml"
    path.write_bytes(path.read_text().encode("latin-1"))
    with pytest.raises(DetkitError, match=rf"a\.xml, .*encoding {declared}"):
        open_dataset(settings, "train")


@pytest.mark.parametrize("width", ["1e400", "99999999999", "-99999999999"])
def test_a_size_that_no_image_has_is_named(tmp_path, width):
    settings = written_anew(tmp_path, ("<width>60<", f"<width>{width}<"))
    with pytest.raises(DetkitError, match=rf"a\.xml, size: .*{width} wide"):
        open_dataset(settings, "train")


def test_an_empty_split_says_that_one_image_is_all_there_is(tmp_path):
    write_voc(tmp_path, three()[:1])
    assert len(open_dataset({"root": tmp_path}, "train")) == 1
    with pytest.raises(DetkitError, match=r"no images .*val has 0 of 1 images") as caught:
        open_dataset({"root": tmp_path}, "val")
    assert "add images" in caught.value.remedy
    assert "dataset.val_split" in caught.value.remedy
