"""Every usual mistake, planted in good detections, is named; good detections are left alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from detkit.evaluation import diagnosis
from detkit.evaluation.coco import coco
from detkit.evaluation.diagnosis import diagnose
from detkit.evaluation.files import read, to_coco
from detkit.evaluation.results import Results


@pytest.fixture
def scene(make_records, make_results):
    """40 images of 320×200 with three objects each, and detections two pixels off."""
    rng = np.random.default_rng(0)
    images, rows = [], []
    for image in range(40):
        corner = rng.uniform(5, [150, 90], (3, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(25, 90, (3, 2))], 1).round(1)
        labels = rng.integers(0, 2, 3).tolist()
        images.append([(k, *box) for k, box in zip(labels, boxes.tolist(), strict=True)])
        for label, box in zip(labels, boxes + rng.uniform(-2, 2, (3, 4)), strict=True):
            rows.append((image, label, rng.uniform(0.3, 0.9), *box.tolist()))
    ids = [f"{7 * i + 5:06}" for i in range(40)]
    records = replace(make_records(images, ids=ids), sizes=np.full((40, 2), [200, 320], np.int32))
    return records, make_results(*rows)


def told(records, results):
    return diagnose(records, results, coco(records, results)["coco/AP50"])


def with_boxes(results, change):
    return replace(results, boxes=change(results.boxes.copy()))


def test_good_detections_need_no_diagnosis(scene):
    assert told(*scene) is None


def test_a_few_detections_and_detkits_own_boxes_are_not_doubted(scene):
    records, results = scene
    wrong = with_boxes(results, lambda boxes: boxes / 4)
    assert "another format or scale" in told(records, wrong)
    few = wrong.select(np.arange(10))
    assert "too few to tell" in told(records, few)
    assert "has not learned" in diagnose(records, wrong, 0.0, foreign=False)


def test_no_ground_truth(scene, make_records):
    assert "no ground truth" in told(make_records([[]] * 40), scene[1])


def test_no_detections(scene):
    message = told(scene[0], Results.empty())
    assert "no detections: no score was above the threshold" in message


def test_image_ids_that_do_not_meet(scene, tmp_path):
    records, results = scene
    rows = to_coco(results, records)
    for row in rows:
        row["image_id"] = f"img_{row['image_id']}"
    (tmp_path / "r.json").write_text(json.dumps(rows))
    message = told(records, read(tmp_path / "r.json", records))
    assert "The image ids do not meet: 0 of 40" in message
    assert "theirs: img_000005, img_000012, img_000019 …" in message
    assert "ours: 000005, 000012, 000019 …" in message


def test_image_ids_that_meet_by_chance(scene, tmp_path):
    records, results = scene
    rows = to_coco(results, records)
    for row, image in zip(rows, results.images.tolist(), strict=True):
        row["image_id"] = (
            image  # its place in the list, which is another image's number now and then
        )
    (tmp_path / "r.json").write_text(json.dumps(rows))
    read_again = read(tmp_path / "r.json", records)
    assert len(read_again)
    assert "The image ids do not meet" in told(records, read_again)


def test_class_ids_that_the_data_lack(scene, tmp_path):
    records, results = scene
    rows = [{**row, "category_id": row["category_id"] + 100} for row in to_coco(results, records)]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    message = told(records, read(tmp_path / "r.json", records))
    assert "120 of 120 detections have a class that the data lack" in message
    assert "ours: 1 cat, 2 dog" in message


def test_class_ids_that_are_swapped(scene):
    records, results = scene
    message = told(records, replace(results, labels=1 - results.labels))
    assert "The class ids do not meet" in message
    assert "1 cat lies on 2 dog" in message


def corners_as_sides(b):
    b[:, 2:] += b[:, :2]
    return b


def centre_as_corner(b):
    return b + np.tile((b[:, 2:] - b[:, :2]) / 2, 2)


def fractions(b):
    return b / [320, 200, 320, 200]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (corners_as_sides, "x1, y1, x2, y2 (not x, y, width, height)"),
        (centre_as_corner, "centre x, centre y, width, height"),
        (fractions, "fractions of the image"),
        (lambda b: fractions(centre_as_corner(b)), "fractions of the image, centre x"),
        (lambda b: fractions(b) * 100, "percent of the image"),
        (lambda b: b[:, [1, 0, 3, 2]], "y before x"),
        (lambda b: b * 2.3, "times too large"),
        (lambda b: b / 1.9, "times too small"),
        (lambda b: fractions(b) * 640, "resized to a square of about 6"),
        (lambda b: corners_as_sides(b * 3), "times too large, x1, y1, x2, y2"),
    ],
)
def test_boxes_in_another_format_or_scale(scene, change, says):
    records, results = scene
    message = told(records, with_boxes(results, change))
    assert "another format or scale" in message
    assert says in message


def test_sides_where_corners_belong(scene, tmp_path):
    """In a file of corners, so that boxes come out inverted or small."""
    records, results = scene
    sides = replace(
        results,
        boxes=np.column_stack([results.boxes[:, :2], results.boxes[:, 2:] - results.boxes[:, :2]]),
    )
    assert "x, y, width, height (not x1, y1, x2, y2)" in told(records, sides)


def test_boxes_anywhere_are_not_explained_away(scene):
    records, results = scene
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 150, (len(results), 2))
    lost = replace(results, boxes=np.concatenate([corner, corner + 4], 1))
    message = told(records, lost)
    assert "has not learned" in message
    assert "another format or scale:" not in message


def test_detections_that_wrong_ones_hide(scene):
    records, results = scene
    noise = replace(
        results.select(np.repeat(np.arange(len(results)), 60)),
        boxes=np.tile([[0.0, 0, 3, 3]], (60 * len(results), 1)),
        scores=np.full(60 * len(results), 0.05),
        unknown_images=Counter(),
    )
    both = Results(
        *(
            np.concatenate([getattr(results, name), getattr(noise, name)])
            for name in ("images", "boxes", "scores", "labels")
        )
    )
    assert told(records, both) is None  # right ones first
    ruined = replace(both, scores=1 - both.scores, labels=both.labels)
    assert told(records, ruined) is not None


def test_a_detector_that_guesses_the_class_is_not_told_of_ids():
    rng = np.random.default_rng(0)
    nearest = np.arange(200)
    labels = rng.integers(0, 4, 200)
    records = SimpleNamespace(
        labels=rng.integers(0, 4, 200), names="abcd", category_ids=np.arange(1, 5)
    )
    guessed = SimpleNamespace(labels=labels)
    assert diagnosis._classes_do_not_meet(records, guessed, nearest, "") is None
    renumbered = SimpleNamespace(labels=(records.labels + 1) % 4)
    assert diagnosis._classes_do_not_meet(records, renumbered, nearest, "") is not None


def test_a_crowd_of_objects_does_not_keep_the_diagnosis_busy():
    corners = np.random.default_rng(0).uniform(0, 500, (3000, 2))
    boxes = np.column_stack([corners, corners + 10])
    assert len(diagnosis._promising(crowded(boxes), np.array([3000]))) == 20


def crowded(boxes: np.ndarray) -> Results:
    count = len(boxes)
    return Results(
        np.zeros(count, np.int64), boxes, np.linspace(1, 0, count), np.zeros(count, np.int64)
    )
