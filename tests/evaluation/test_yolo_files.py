"""A folder of YOLO's text results: scored where it has scores, named where it has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detkit.errors import DetkitError
from detkit.evaluation.diagnosis import diagnose
from detkit.evaluation.files import read


@pytest.fixture
def records(make_records):
    """Three images of 320×200, with an object each, of class 0, 1, 1."""
    boxes = [[(0, 100, 100, 150, 150)], [(1, 0, 0, 320, 200)], [(1, 50, 50, 90, 150)]]
    made = make_records(boxes, ids=["000007", "b c", "dog"])
    return replace(made, sizes=np.full((3, 2), [200, 320], np.int32))


def write(folder, records, ending=" 0.5"):
    folder.mkdir(parents=True)
    for i in range(len(records)):
        (x1, y1, x2, y2), label = records.boxes[i], records.labels[i]
        shares = ((x1 + x2) / 640, (y1 + y2) / 400, (x2 - x1) / 320, (y2 - y1) / 200)
        line = f"{label} {' '.join(f'{share:.6f}' for share in shares)}{ending}\n"
        (folder / f"{records.image_ids[i]}.txt").write_text(line)


@pytest.mark.parametrize("folder", ["results", "predict/labels"])
def test_yolo_results_are_scored(tmp_path, records, folder):
    write(tmp_path / folder, records)
    found = read(tmp_path / folder.partition("/")[0], records)
    assert np.allclose(found.boxes, records.boxes[found.images], atol=1e-3)
    assert found.labels.tolist() == records.labels[found.images].tolist()
    assert sorted(found.images.tolist()) == [0, 1, 2]
    assert (found.scores == 0.5).all()


def test_boxes_without_scores_and_images_without_sizes_are_named(tmp_path, records):
    write(tmp_path / "a", records, "")
    with pytest.raises(DetkitError, match="without scores") as caught:
        read(tmp_path / "a", records)
    assert "save_conf" in caught.value.remedy
    write(tmp_path / "b", records)
    with pytest.raises(DetkitError, match="size is not known"):
        read(tmp_path / "b", replace(records, sizes=records.sizes * 0))


def test_a_class_number_that_the_data_lack_is_counted(tmp_path, records):
    write(tmp_path / "a", records)
    (tmp_path / "a/dog.txt").write_text("7 0.5 0.5 0.1 0.1 0.9\n")
    (tmp_path / "a/other.txt").write_text("1 0.5 0.5 0.1 0.1 0.9\n")
    found = read(tmp_path / "a", records)
    assert len(found) == 2
    assert (found.unknown_classes["7"], found.unknown_images["other"]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b / [320, 200, 320, 200], "fractions"),
        (lambda b: b / [320, 200, 320, 200] * 100, "percent"),
        (lambda b: np.hstack([b[:, :2], b[:, 2:] - b[:, :2]]), "format"),
        (lambda b: b, None),
    ],
)
def test_a_few_detections_are_told_what_is_evident(records, make_results, change, says):
    boxes = change(records.boxes)
    rows = [(i, int(records.labels[i]), 0.9, *boxes[i].tolist()) for i in range(3)]
    told = diagnose(records, make_results(*rows), 0.0)
    if says is None:
        assert "too few" in told
    else:
        assert says in told


def test_a_few_detections_of_other_classes_are_told(records, make_results):
    rows = [(i, 1 - int(records.labels[i]), 0.9, *records.boxes[i].tolist()) for i in range(3)]
    assert "class ids do not meet" in diagnose(records, make_results(*rows), 0.0)
