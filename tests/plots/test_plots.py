"""The pictures: they show what was counted, in any script, and cost nobody a training."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest

from detkit import ours
from detkit.data.formats.shapes import read
from detkit.data.loading import Dataset
from detkit.data.presets import detection
from detkit.evaluation.evaluate import DetectionEvaluator
from detkit.evaluation.operating import Operating, Thresholds
from detkit.evaluation.results import Results
from detkit.plots import canvas, curves, data, evaluation, sweep

NEEDS = frozenset({"boxes"})
STRANGE = ("猫", "$x$ {", "กขค", "a\udcff", "\u200f\u0633\u06af", "new\nline", "𓀀")


@pytest.fixture(scope="module")
def records():
    return read(None, "val", needs=NEEDS, images=True, val_images=3)


def results_of(records, scores) -> Results:
    """Every object found a little to the right, with these scores over and over."""
    images = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    boxes = records.boxes + [1, 0, 1, 0]
    return Results(images, boxes, np.resize(np.asarray(scores, float), len(images)), records.labels)


@pytest.fixture
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a letter that no font has is a warning of matplotlib's
        yield


def test_names_in_any_script_can_be_drawn(tmp_path, strict, records):
    assert canvas.legible("Größe, Ωμέγα, дом") == "Größe, Ωμέγα, дом"
    assert canvas.legible("a\udcff") == "aU+DCFF"
    assert canvas.legible("new\nline") == "new line"
    assert len(canvas.short("x" * 99)) < 30
    sweep.draw(STRANGE, [0.1 * n for n in range(len(STRANGE))], "voc/mAP", tmp_path / "s.png")
    assert ours.is_drawn(tmp_path / "s.png")
    assert ours.is_numbers(tmp_path / "s.json")
    named = replace(records, names=STRANGE[:4])
    evaluator = DetectionEvaluator(named, results_of(named, [0.9, 0.3]), Operating(split="val"))
    told = []
    evaluation.of_detections(evaluator, tmp_path, told.append)
    assert told == []


@pytest.mark.parametrize(
    ("scores", "classes"), [([0.9, 0.4], 4), ([0.9, 0.4], 80), ([], 4)], ids=str
)
def test_the_pictures_of_an_evaluation(tmp_path, strict, records, scores, classes):
    names = (*records.names, *(f"other {k}" for k in range(classes - 4)))
    records = replace(records, names=names, category_ids=np.arange(classes))
    results = results_of(records, scores) if scores else Results.empty()
    told = []
    evaluator = DetectionEvaluator(records, results, Operating(Thresholds(0.6), "val"))
    evaluation.of_detections(evaluator, tmp_path, told.append)
    assert told == []
    assert {p.name for p in tmp_path.iterdir()} == {*evaluation.OF_DETECTIONS}
    for name in evaluation.PLOTS:
        assert cv2.imread(str(tmp_path / name)).std() > 1
        assert ours.is_drawn(tmp_path / name)
    kept, objects = int((results.scores >= 0.6).sum()), len(records.labels)
    counts = np.array(json.loads((tmp_path / "confusion.json").read_text())["counts"])
    assert np.trace(counts) == kept
    assert counts[:-1].sum() == objects
    assert counts[:-1, -1].sum() == objects - kept
    worst = json.loads((tmp_path / "worst.json").read_text())
    assert worst["mistakes"]["missed"] == objects - kept
    curve = json.loads((tmp_path / "precision_recall.json").read_text())
    assert curve["all"]["score"] == sorted({*scores}, reverse=True)
    assert (curve["best"] or {}).get("score_thresh") == (0.4 if scores else None)


def test_a_picture_that_fails_is_told_and_ends_nothing(tmp_path, records):
    told = []
    (tmp_path / "worst.jpg").mkdir()
    evaluator = DetectionEvaluator(records, results_of(records, [0.9]))
    evaluation.of_detections(evaluator, tmp_path, told.append)
    assert len(told) == 1
    assert told[0].startswith("note: worst.jpg was not drawn (")
    assert (tmp_path / "confusion.png").is_file()


def test_what_a_run_learns_from(tmp_path, strict, records):
    dataset = Dataset(records, detection(True, short_side=160, long_side=160), needs=NEEDS)
    counts, noun = data.counted(dataset, [], 4)
    sizes = records.boxes[:, 2:] - records.boxes[:, :2]
    objects = data.Objects(counts, noun, sizes, np.array([[200.0, 200.0]]), [8])
    assert objects.misfits() == pytest.approx(np.mean(sizes.prod(1) <= 0.4 * 200**2))
    data.draw(dataset, [(0, i) for i in range(3)], objects, records.names, tmp_path / "data.jpg")
    numbers = json.loads((tmp_path / "data.json").read_text())
    assert (
        sum(numbers["objects"].values()) == len(records.labels) == sum(numbers["side"]["objects"])
    )
    assert [p["width"] for p in numbers["pictures"]] == [160] * 3
    assert cv2.imread(str(tmp_path / "data.jpg")).shape[1] == 1600
    assert ours.is_drawn(tmp_path / "data.jpg")
    assert ours.is_numbers(tmp_path / "data.json")


def test_the_first_pictures_are_those_of_the_first_steps():
    steps = [[(0, 4), (0, 1)], [(0, 3), (0, 2)], [(0, 0), (1, 4)]]
    assert data.first_keys(iter(steps), 3) == [(0, 4), (0, 1), (0, 3)]
    assert data.first_keys(iter(steps[:1]), 3) == [(0, 4), (0, 1)]


def test_curves_show_what_the_metrics_say(tmp_path, strict):
    rows = [{"step": s, "loss": 1 / s, "loss/box": 0.5 / s, "lr": 0.1} for s in range(1, 3000)]
    rows += [{"step": s, "voc/mAP": s / 4000, "best/f1": None} for s in (1000, 2000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    curves.draw(tmp_path / "metrics.jsonl", ["voc/mAP"], tmp_path / "curves.png")
    numbers = json.loads((tmp_path / "curves.json").read_text())
    assert numbers["voc/mAP"] == {"step": [1000, 2000], "value": [0.25, 0.5]}
    assert len(numbers["loss"]["step"]) == 2999
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 1
    (tmp_path / "metrics.jsonl").write_text("")
    curves.draw(tmp_path / "metrics.jsonl", ["voc/mAP"], tmp_path / "curves.png")
