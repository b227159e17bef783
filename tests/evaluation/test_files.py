"""Result files: there and back, ids that meet, and rows that are wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.data.records import Strings
from detkit.errors import DetkitError
from detkit.evaluation import files
from detkit.evaluation.comp4_files import class_of, write_comp4
from detkit.evaluation.files import read, write_coco
from detkit.evaluation.results import find_label


def same(a, b):
    for name in ("images", "boxes", "scores", "labels"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=1e-9)


corner = st.floats(-50, 500, allow_nan=False)
row = st.tuples(
    st.integers(0, 2), st.integers(0, 1), st.floats(0, 1), corner, corner, corner, corner
)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(row, max_size=8))
def test_what_is_written_is_read_again(rows, make_records, make_results, tmp_path_factory):
    rows = [(*r[:5], r[3] + abs(r[5]), r[4] + abs(r[6])) for r in rows]
    records = make_records([[], [], []], ids=["2007_1", "a b", "000012"])
    results = make_results(*rows)
    folder = tmp_path_factory.mktemp("results")
    write_coco(results, records, folder / "results.json")
    same(read(folder / "results.json", records), results)
    write_comp4(results, records, folder / "comp4")
    by_class = results.select(np.argsort(results.labels, kind="stable"))
    same(read(folder / "comp4", records), by_class)


def test_comp4_pixels_become_continuous_like_the_xml(make_records, tmp_path):
    (tmp_path / "comp4_det_test_cat.txt").write_text("000000 0.5 1 1 10 20\n\n")
    result = read(tmp_path, make_records([[]]))
    assert result.boxes.tolist() == [[0, 0, 10, 20]]
    assert result.scores.tolist() == [0.5]
    write_comp4(result, make_records([[]]), tmp_path)
    assert (tmp_path / "comp4_det_test_cat.txt").read_text() == "000000 0.5 1.0 1.0 10.0 20.0\n"
    assert (tmp_path / "comp4_det_test_dog.txt").read_text() == ""


@pytest.mark.parametrize("image", ["000007", "7", 7, 7.0, "00007"])
def test_ids_of_digits_meet_as_numbers(make_records, tmp_path, image):
    detection = {"image_id": image, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 1}
    (tmp_path / "r.json").write_text(json.dumps([detection]))
    results = read(tmp_path / "r.json", make_records([[], []], ids=["000005", "000007"]))
    assert results.images.tolist() == [1]
    assert results.boxes.tolist() == [[1, 2, 4, 6]]
    assert results.labels.tolist() == [1]


def test_two_ids_that_are_one_number_meet_only_as_they_are(make_records):
    index = files.image_index(make_records([[], []], ids=["07", "007"]))
    assert [files.find_image(index, image) for image in ("07", "007", 7)] == [0, 1, -1]


def test_what_predict_wrote_meets_by_file_and_class_name(make_records, tmp_path):
    """Its ids are stems, and its categories the model's own; the data's may be numbers of COCO."""
    records = make_records([[], []], ids=["7", "3"])
    records = replace(records, files=Strings.of(["images/3.jpg", "images/b.jpg"]))
    row = {"category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}
    name = {"category": records.names[1]}
    rows = [
        {**row, **name, "image_id": 3, "file_name": "/some/where/3.jpg"},
        {**row, **name, "image_id": "b", "file_name": "b.jpg"},
        {**row, "image_id": "0003", "file_name": "unknown.jpg", "category": "unknown"},
        {**row, "image_id": "9" * 5000},
    ]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    results = read(tmp_path / "r.json", records)
    assert results.images.tolist() == [0, 1, 1]
    assert results.labels.tolist() == [1, 1, find_label({1: 0}, 1)]
    assert results.unknown_images == {"9" * 5000: 1}


def test_of_files_with_one_name_the_path_decides(make_records, tmp_path):
    records = make_records([[], []], ids=["1", "2"])
    records = replace(records, files=Strings.of(["cam1/a.jpg", "cam2/b.jpg"]))
    names = ["/x/cam1/a.jpg", "/x/cam2/a.jpg", "/x/cam9/b.jpg", "/y/cam8/b.jpg", ["a.jpg"]]
    rows = [
        {"category_id": 1, "bbox": [1, 2, 3, 4], "score": 1, "image_id": "?", "file_name": name}
        for name in names
    ]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    results = read(tmp_path / "r.json", records)
    assert results.images.tolist() == [0]  # that of cam2 is another picture, and which b.jpg?
    assert results.unknown_images == {"?": 4}


def test_a_category_that_is_a_number_is_no_name(make_records, tmp_path):
    records = make_records([[]], names=("1", "2"))
    row = {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}
    rows = [{**row, "category": 2}, {**row, "category": "2"}]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    assert read(tmp_path / "r.json", records).labels.tolist() == [0, 0]


def test_strangers_are_left_out_and_counted(make_records, tmp_path):
    rows = [
        {"image_id": image, "category_id": category, "bbox": [0, 0, 1, 1], "score": 1}
        for image, category in [(0, 1), (9, 1), (9, 1), (0, 77), (0, "x")]
    ]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    results = read(tmp_path / "r.json", make_records([[]]))
    assert len(results) == 1
    assert results.unknown_images == {"9": 2}
    assert results.unknown_classes == {"77": 1, "x": 1}


def test_files_of_other_classes_are_left_out_and_counted(make_records, tmp_path):
    (tmp_path / "comp4_det_test_cat.txt").write_text("000000 0.5 1 1 10 20\n")
    (tmp_path / "comp4_det_test_emu.txt").write_text("000000 0.5 1 1 10 20\n" * 3)
    (tmp_path / "README.txt").write_text("These are\n\nour results.\n")
    results = read(tmp_path, make_records([[]]))
    assert len(results) == 1
    assert results.unknown_classes == {"comp4_det_test_emu": 3, "README": 2}


def test_masks_come_with_their_boxes(make_records, tmp_path):
    from pycocotools import mask

    picture = np.zeros((200, 200), np.uint8, order="F")
    picture[10:20, 30:70] = 1
    rle = mask.encode(picture)
    rle["counts"] = rle["counts"].decode()
    detection = {"image_id": 0, "category_id": 1, "segmentation": rle, "score": 1}
    (tmp_path / "r.json").write_text(json.dumps([detection]))
    results = read(tmp_path / "r.json", make_records([[]]))
    assert results.boxes.tolist() == [[30, 10, 70, 20]]
    write_coco(results, make_records([[]]), tmp_path / "again.json")
    assert read(tmp_path / "again.json", make_records([[]])).masks == [rle]


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("comp4_det_test_cat", "cat"),
        ("comp4_det_test_sea_cat", "sea_cat"),
        ("comp4_det_test_big cat", "big cat"),
        ("cat", "cat"),
        ("comp4_a-b", "a/b"),
        ("comp4_det_test_bobcat", None),
    ],
)
def test_a_file_belongs_to_the_longest_class_that_ends_its_name(stem, name):
    names = ("cat", "sea_cat", "big cat", "a/b", "t")
    assert class_of(stem, names) == (names.index(name) if name else -1)


good = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("text", "no object"),
        ({"category_id": 1, "bbox": [0, 0, 1, 1]}, "no image_id and no score"),
        ({"image_id": 0, "category_id": 1, "score": 1}, "neither bbox nor segmentation"),
        ({**good, "bbox": [0, 0, 1]}, "not a number and four"),
        ({**good, "bbox": [0, 0, -1, 1]}, "negative side"),
        ({**good, "bbox": [0, 0, float("nan"), 1]}, "not all finite"),
        ({**good, "score": None}, "not a number and four"),
        ({**good, "score": True}, "not a number and four"),
        ({**good, "score": "0.5"}, "not a number and four"),
        ({**good, "bbox": None, "segmentation": "rubbish"}, "no run-length mask"),
        ({**good, "bbox": None}, "neither bbox nor segmentation"),
        ({**good, "bbox": []}, "neither bbox nor segmentation"),
    ],
)
def test_a_bad_row_of_json_is_named(make_records, tmp_path, bad, says):
    file = tmp_path / "r.json"
    file.write_text(json.dumps([good, bad]))
    with pytest.raises(DetkitError, match=says) as error:
        read(file, make_records([[]]))
    assert error.value.file == file
    assert error.value.record == "result 1 (from 0)"
    assert error.value.remedy


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("000000 0.5 1 1 10", "not a detection"),
        ("000000 high 1 1 10 10", "not a detection"),
        ("000000 0.5 nan 1 10 10", "not finite"),
        ("000000 0.5 30 1 10 10", "inverted"),
    ],
)
def test_a_bad_line_of_comp4_is_named(make_records, tmp_path, line, says):
    file = tmp_path / "comp4_det_test_cat.txt"
    file.write_text(f"000000 0.5 1 1 10 10\n{line}\n")
    with pytest.raises(DetkitError, match=says) as error:
        read(tmp_path, make_records([[]]))
    assert (error.value.file, error.value.record) == (file, "line 2")


@pytest.mark.parametrize("text", ["[{", '{"annotations": []}'])
def test_json_of_another_kind_is_named(make_records, tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DetkitError, match=r"r\.json"):
        read(tmp_path / "r.json", make_records([[]]))


def test_a_missing_file_and_an_empty_folder_are_named(make_records, tmp_path):
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(DetkitError, match=str(path)):
            read(path, make_records([[]]))


def test_byte_order_marks_are_no_part_of_the_first_detection(make_records, tmp_path):
    records, mark = make_records([[]]), b"\xef\xbb\xbf"
    (tmp_path / "comp4_det_test_cat.txt").write_bytes(mark + b"000000 0.5 1 1 10 20\r\n")
    found = read(tmp_path, records)
    assert (len(found), found.unknown_images.total()) == (1, 0)
    write_coco(found, records, tmp_path / "results.json")
    (tmp_path / "results.json").write_bytes(mark + (tmp_path / "results.json").read_bytes())
    same(read(tmp_path / "results.json", records), found)


def test_two_files_of_one_class_are_not_mixed(make_records, tmp_path):
    for name in ("comp3_det_test_cat.txt", "comp4_det_test_cat.txt"):
        (tmp_path / name).write_text("000000 0.5 1 1 10 20\n")
    with pytest.raises(DetkitError, match=r"comp3_det_test_cat\.txt and comp4_"):
        read(tmp_path, make_records([[]]))


def test_half_a_category_is_none():
    assert find_label({1: 0}, 1.0) == 0
    assert [find_label({1: 0}, odd) for odd in (1.7, float("inf"), None)] == [-1, -1, -1]


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [100, 100], "counts": "P137000000000l0"},  # of 10 × 12 pixels
        {"size": [10, 12], "counts": [0, 119]},
        {"size": [10], "counts": "P137000000000l0"},
        {"size": [10, 12]},
    ],
)
def test_a_mask_that_would_be_decoded_to_chance_is_named(make_records, tmp_path, mask):
    row = {"image_id": "000000", "category_id": 1, "score": 0.5, "bbox": [1, 1, 5, 5]}
    good = {"size": [10, 12], "counts": "P137000000000l0"}
    rows = [{**row, "segmentation": good}, {**row, "segmentation": mask}]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(DetkitError, match="run lengths") as error:
        read(path, make_records([[(0, 1, 1, 6, 6)]]))
    assert error.value.record == "result 1 (from 0)"
