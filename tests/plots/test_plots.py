"""The pictures: they show what was counted, in any script, and cost nobody a training."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from detkit import ours
from detkit.data.formats.shapes import read
from detkit.data.loading import Dataset
from detkit.data.presets import detection
from detkit.evaluation.confusion import draw_confusion
from detkit.evaluation.evaluate import DetectionEvaluator
from detkit.evaluation.operating import Operating
from detkit.evaluation.pixels import reduced
from detkit.evaluation.results import Results
from detkit.evaluation.thresholds import Thresholds
from detkit.inference.tasks import tasks
from detkit.localization import Localization
from detkit.plots import canvas, curves, data, evaluation, sweep
from detkit.predictions import Classification, Segmentation
from detkit.structures import Frame

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


def frame(records, i: int) -> Frame:
    size = (int(records.sizes[i, 0]), int(records.sizes[i, 1]))
    return Frame(records.image_id(i), i, "", size, size)


def drawn(task: str, records, predictions, output):
    """The numbers of `worst.jpg` after an evaluation of these predictions, by two processes."""
    parts = [tasks[task].evaluator(records) for _ in range(2)]
    for i, prediction in enumerate(predictions):
        parts[i % 2].add([frame(records, i)], [prediction])
    evaluator = parts[0]
    evaluator.merge([part.state() for part in parts])
    notes = []
    tasks[task].plots(evaluator, output, notes.append)
    assert notes == []
    assert {*tasks[task].plotted} <= {path.name for path in output.iterdir()}
    return json.loads((output / "worst.json").read_text())


def logits(labels: np.ndarray, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(labels).long(), classes).permute(2, 0, 1)


def test_the_worst_pictures_of_pixels(tmp_path, strict):
    records = read(None, "val", needs=frozenset({"pixels"}), images=True, val_images=3)
    truth = [records.pixels(i) for i in range(3)]
    called = [labels.copy() for labels in truth]
    called[1][:40] = (truth[1][:40] + 1) % len(records.names)
    called[2][:80] = (truth[2][:80] + 1) % len(records.names)
    found = [Segmentation(logits(c, len(records.names)).float()) for c in called]
    numbers = drawn("segment_pixels", records, found, tmp_path)
    height = truth[0].shape[0]
    wrong = [(p["image"], p["wrong"]) for p in numbers["pictures"]]
    ids = [records.image_id(i) for i in range(3)]
    assert wrong == [(ids[2], 80 / height), (ids[1], 40 / height)]  # a right one is not among them
    first = numbers["pictures"][0]["confusions"][0]
    place = records.names.index(first["class"])
    assert first["called"] == records.names[(place + 1) % len(records.names)]
    assert first["share"] == pytest.approx((truth[2][:80] == place).sum() / truth[2].size, abs=1e-6)


def test_large_maps_are_kept_small():
    labels = np.zeros((4000, 1000), np.uint8)
    labels[2000:] = 3
    kept = reduced(labels)
    assert kept.shape == (1024, 256)
    assert (kept[:512].max(), kept[512:].min()) == (0, 3)
    assert reduced(kept) is kept


def test_the_worst_pictures_of_classes(tmp_path, strict):
    needs = frozenset({"image_labels"})
    records = read(None, "val", needs=needs, images=True, val_images=12)
    classes, found = len(records.names), []
    for i in range(12):
        scores = torch.full((classes,), 0.5 / (classes - 1))
        truth = int(records.image_labels[i])
        scores[(truth + (i > 1)) % classes] = 0.5 + i / 100  # the first two are right
        found.append(Classification(scores))
    numbers = drawn("classify", records, found, tmp_path)
    assert [p["image"] for p in numbers["pictures"]] == [
        records.image_id(i) for i in range(11, 3, -1)
    ]
    assert numbers["pictures"][0]["score"] == pytest.approx(0.61)
    assert numbers["pictures"][0]["class"] != numbers["pictures"][0]["called"]


def test_the_worst_pictures_of_a_localizer(tmp_path, strict):
    needs = frozenset({"boxes", "one_object"})
    records = read(None, "val", needs=needs, images=True, val_images=3)
    found = []
    for i, (shift, turn) in enumerate(((0, 0), (1000, 0), (0, 1))):
        truth = records.annotation(i)
        scores = torch.eye(4)[(int(truth.labels[0]) + turn) % 4]
        found.append(Localization(scores, box=torch.from_numpy(truth.boxes[0]) + shift))
    numbers = drawn("localize", records, found, tmp_path)
    assert [(p["image"], p["iou"]) for p in numbers["pictures"]] == [
        (records.image_id(2), 1.0),  # the wrong class is worse than the wrong place
        (records.image_id(1), 0.0),
    ]


def test_the_worst_pictures_of_masks_are_outlined(tmp_path):
    records = read(None, "val", needs=frozenset({"boxes", "masks"}), images=True, val_images=2)
    found = []
    for i in range(2):
        truth = tasks["segment_instances"].truth(records, i)
        found.append(replace(truth[1:], scores=torch.full((len(truth) - 1,), 0.9)))
    numbers = drawn("segment_instances", records, found, tmp_path)
    assert numbers["mistakes"]["missed"] == 2
    assert numbers["mistakes"]["right"] == len(records.labels) - 2


def test_background_has_its_share_of_the_column():
    """10 false ones beside 90 right ones are pale, though the row has nothing else."""
    for false, dark in ((10, False), (900, True)):
        counts = np.array([[90, 0], [false, 0]])
        picture = draw_confusion(counts, ["a", "background"], background=True)
        red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
        assert (blue - red > 60).any()
        assert (red - blue > 120).any() == dark


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
    in_use = {"in_use/precision": 0.1, "best/precision": 0.9, "best/recall": None}
    rows += [{"step": s, "voc/mAP": s / 4000, **in_use} for s in (1000, 2000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    curves.draw(tmp_path / "metrics.jsonl", ["voc/mAP"], tmp_path / "curves.png")
    numbers = json.loads((tmp_path / "curves.json").read_text())
    assert numbers["voc/mAP"] == {"step": [1000, 2000], "value": [0.25, 0.5]}
    assert len(numbers["loss"]["step"]) == 2999
    assert numbers["best/precision"]["value"] == [0.9, 0.9]
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 1
    (tmp_path / "metrics.jsonl").write_text("")
    curves.draw(tmp_path / "metrics.jsonl", ["voc/mAP"], tmp_path / "curves.png")
