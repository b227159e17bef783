"""Files of proposals: round trips, MATLAB's coordinates, and each fault with its place."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detkit.errors import DetkitError
from detkit.proposals.files import ProposalsFile, write_json, write_npz

IMAGE = np.zeros((50, 80, 3), np.uint8)
RANDOM = np.random.default_rng(0)


def some_boxes(number: int) -> np.ndarray:
    low, extent = RANDOM.random((number, 2)) * (40, 25), RANDOM.random((number, 2)) * 24 + 1
    return np.concatenate([low, low + extent], 1).astype(np.float32)


@pytest.mark.parametrize("write", [write_json, write_npz])
def test_what_is_written_is_read(tmp_path, write):
    written = {"000005": some_boxes(9), "file": some_boxes(1), 7: some_boxes(300)}
    path = tmp_path / f"proposals.{write.__name__.removeprefix('write_')}"
    write(path, written)
    proposals = ProposalsFile(path)
    for image_id, boxes in written.items():
        np.testing.assert_array_equal(proposals(IMAGE, image_id=image_id, file=""), boxes)
    few = ProposalsFile(path, at_most=4)(IMAGE, image_id=7, file="")
    np.testing.assert_array_equal(few, written[7][:4])
    assert (proposals.clipped, proposals.dropped) == (0, 0)


def test_no_boxes_are_no_proposals_in_npz(tmp_path):
    write_npz(tmp_path / "p.npz", {1: np.zeros((0, 4))})
    assert ProposalsFile(tmp_path / "p.npz")(IMAGE, image_id=1, file="").shape == (0, 4)
    write_json(tmp_path / "p.json", {})
    with pytest.raises(DetkitError, match="no proposals for the image 1"):
        ProposalsFile(tmp_path / "p.json")(IMAGE, image_id=1, file="")


def test_scores_sort_and_equal_ones_stay_as_they_are(tmp_path):
    scores = [0.5, 0.9, 0.5, 0.1, 0.9]
    rows = [
        {"image_id": 3 - i % 2, "bbox": [i, 0, 5, 5], "score": score}
        for i, score in enumerate(np.repeat(scores, 2))
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    proposals = ProposalsFile(tmp_path / "p.json")
    assert proposals(IMAGE, image_id=3, file="")[:, 0].tolist() == [2, 8, 0, 4, 6]
    assert proposals(IMAGE, image_id=2, file="")[:, 0].tolist() == [3, 9, 1, 5, 7]
    for row in rows:
        del row["score"]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    assert ProposalsFile(tmp_path / "p.json")(IMAGE, image_id=3, file="")[:, 0].tolist() == [
        *(0, 2, 4, 6, 8)
    ]


def test_images_are_found_by_id_then_by_name_and_by_number(tmp_path):
    boxes = [some_boxes(1) for _ in range(3)]
    np.savez(tmp_path / "p.npz", **dict(zip(["000012", "cat", "7"], boxes, strict=True)))
    proposals = ProposalsFile(tmp_path / "p.npz")
    for image_id, file, n in [
        (12, "cat.jpg", 0),
        ("000012", "", 0),
        ("012", "", 0),
        (99, "a/cat.jpg", 1),
        (99, "b/7.png", 2),
    ]:
        np.testing.assert_array_equal(proposals(IMAGE, image_id=image_id, file=file), boxes[n])
    with pytest.raises(DetkitError, match="no proposals for the image 99 or dog") as error:
        proposals(IMAGE, image_id=99, file="dog.jpg")
    assert "the file has 3: 000012, cat, 7." in error.value.remedy
    np.savez(tmp_path / "p.npz", **{"012": boxes[0], "12": boxes[1], "0012": boxes[2]})
    proposals = ProposalsFile(tmp_path / "p.npz")
    np.testing.assert_array_equal(proposals(IMAGE, image_id=12, file=""), boxes[1])
    with pytest.raises(DetkitError, match="no proposals"):
        proposals(IMAGE, image_id="00012", file="")  # which of three is not known


def test_json_is_found_by_id_alone(tmp_path):
    write_json(tmp_path / "p.json", {1: some_boxes(1)})
    with pytest.raises(DetkitError, match="no proposals for the image 2"):
        ProposalsFile(tmp_path / "p.json")(IMAGE, image_id=2, file="1.jpg")


def test_matlabs_boxes_count_from_one_and_include_their_last_pixel(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    cells = np.empty((1, 2), object)
    cells[0, 0] = np.array([[1, 1, 50, 80], [2, 3, 2, 3]], np.uint16)  # y1 x1 y2 x2
    cells[0, 1] = np.zeros((0, 4))
    names = np.empty((2, 1), object)
    names[:, 0] = ["000005", "2008_000002"]
    savemat(tmp_path / "p.mat", {"boxes": cells, "images": names})
    proposals = ProposalsFile(tmp_path / "p.mat")
    found = proposals(IMAGE, image_id="000005", file="")
    assert found.tolist() == [[0, 0, 80, 50], [2, 1, 3, 2]]
    assert proposals.clipped == 0
    assert proposals(IMAGE, image_id=9, file="JPEGImages/2008_000002.jpg").shape == (0, 4)
    savemat(tmp_path / "p.mat", {"boxes": cells[:, :1], "images": names})
    with pytest.raises(DetkitError, match="2 images and boxes of 1"):
        ProposalsFile(tmp_path / "p.mat")
    savemat(tmp_path / "p.mat", {"boxes": cells})
    with pytest.raises(DetkitError, match="no variable images"):
        ProposalsFile(tmp_path / "p.mat")


def test_boxes_are_cut_at_the_border_and_counted(tmp_path):
    boxes = [[-5, 10, 20, 20], [70, 40, 90, 60], [90, 10, 99, 20], [5, 5, 5, 9], [1, 1, 2, 2]]
    write_npz(tmp_path / "p.npz", {1: np.array(boxes)})
    proposals = ProposalsFile(tmp_path / "p.npz")
    found = proposals(IMAGE, image_id=1, file="")
    assert found.tolist() == [[0, 10, 20, 20], [70, 40, 80, 50], [1, 1, 2, 2]]
    assert (proposals.clipped, proposals.dropped) == (2, 2)


ROW = {"image_id": 1, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("content", "words", "record"),
    [
        ("[{", "cannot be read", None),
        ("{}", "a list, this is a dict", None),
        (json.dumps([ROW, 5]), "no row: 5", "row 2"),
        (json.dumps([{"bbox": [1, 2, 3, 4]}]), "image_id is null", "row 1"),
        (json.dumps([{"image_id": True, "bbox": [1, 2, 3, 4]}]), "image_id is true", "row 1"),
        (json.dumps([ROW, {"image_id": 1, "bbox": [1, 2, 3]}]), r"bbox is \[1, 2, 3\]", "row 2"),
        (json.dumps([{"image_id": 1, "bbox": [1, 2, "3", 4]}]), "bbox is", "row 1"),
        (json.dumps([ROW, ROW | {"score": 1}]), "has a score, others", "row 2"),
        (json.dumps([ROW | {"score": 1}, ROW]), "no score", "row 2"),
        (json.dumps([ROW | {"score": float("nan")}]), "score is NaN", "row 1"),
        (json.dumps([ROW, ROW | {"bbox": [1, 2, -3, 4]}]), "ends before", "image 1, box 2"),
        (json.dumps([ROW | {"bbox": [1, 2, 1e400, 4]}]), "not finite", "image 1, box 1"),
        (json.dumps([ROW, ROW | {"bbox": [1, 2, 10**400, 4]}]), r"bbox is \[1, 2, 1000", "row 2"),
        (json.dumps([ROW | {"score": -(10**400)}]), "score is -1000", "row 1"),
    ],
)
def test_a_fault_in_json_is_told_with_its_place(tmp_path, content, words, record):
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(DetkitError, match=words) as error:
        ProposalsFile(path)
    assert (error.value.file, error.value.record) == (path, record)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 5)), r"float64 of shape \(3, 5\)"),
        (np.array([["a", "b", "c", "d"]]), "shape"),
        (np.array([[0, 0, np.nan, 1]]), "not finite"),
        (np.array([[5, 0, 4, 1]]), "ends before"),
        (np.array([[None]]), "cannot be read"),  # a pickle, which could execute
    ],
)
def test_a_fault_in_npz_is_told_with_its_image(tmp_path, array, words):
    np.savez(tmp_path / "p.npz", **{"17": array})
    with pytest.raises(DetkitError, match=words) as error:
        ProposalsFile(tmp_path / "p.npz")
    assert error.value.record is None or error.value.record.startswith("image 17")


@pytest.mark.parametrize("kind", [".npz", ".mat", ".json"])
def test_a_file_that_is_cut_cannot_be_read(tmp_path, kind):
    path = tmp_path / f"p{kind}"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DetkitError, match="cannot be read") as error:
        ProposalsFile(path)
    assert error.value.file == path


def test_other_files_are_refused(tmp_path):
    for path, words in [
        (None, "No file of proposals"),
        (tmp_path / "p.csv", r"'\.csv'"),
        (tmp_path / "p.npz", "no such file"),
    ]:
        with pytest.raises(DetkitError, match=words):
            ProposalsFile(path)


def test_an_id_of_thousands_of_digits_is_a_name(tmp_path):
    boxes = some_boxes(1)
    write_npz(tmp_path / "p.npz", {"1" * 5000: boxes})
    found = ProposalsFile(tmp_path / "p.npz")(IMAGE, image_id="1" * 5000, file="")
    np.testing.assert_array_equal(found, boxes)


def test_an_image_whose_name_is_no_text_finds_its_boxes_again(tmp_path):
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    write_npz(tmp_path / "p.npz", {"a\udcff": boxes, "50%": boxes + 1})
    found = ProposalsFile(tmp_path / "p.npz")
    np.testing.assert_array_equal(found(IMAGE, image_id="a\udcff", file=""), boxes)
    np.testing.assert_array_equal(found(IMAGE, image_id="50%", file=""), boxes + 1)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_small_files_that_unpack_to_much_are_told(tmp_path, suffix, monkeypatch):
    path, zeros = tmp_path / f"p{suffix}", np.zeros((40_000, 4))
    if suffix == ".mat":
        cells = np.empty((1, 1), object)
        cells[0, 0] = zeros
        save = pytest.importorskip("scipy.io").savemat
        save(path, {"boxes": cells, "images": np.array(["a"], object)}, do_compression=True)
    else:
        np.savez_compressed(path, a=zeros)
    assert len(ProposalsFile(path)._boxes["a"]) == len(zeros)
    monkeypatch.setattr("detkit.proposals.unpacked.MOST", 1_000_000)
    with pytest.raises(DetkitError, match="unpack to"):
        ProposalsFile(path)
