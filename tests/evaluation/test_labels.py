"""Classes of images: counted beside a loop and scikit-learn, merged, drawn and saved."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from detkit.data.records import Records, Strings
from detkit.evaluation.confusion import draw_confusion
from detkit.evaluation.labels import LabelEvaluator
from detkit.predictions import Classification
from detkit.structures import Frame


def records_of(labels: list[int], names: list[str]) -> Records:
    count = len(labels)
    none = np.zeros(0, np.int64)
    return Records(
        names=tuple(names),
        category_ids=np.arange(1, len(names) + 1),
        source="a test",
        root=Path(),
        files=Strings.of(f"{i}.png" for i in range(count)),
        image_ids=Strings.of(map(str, range(count))),
        integer_ids=True,
        sizes=np.full((count, 2), 28, np.int32),
        offsets=np.zeros(count + 1, np.int64),
        boxes=np.zeros((0, 4)),
        labels=none,
        crowd=none.astype(bool),
        difficult=none.astype(bool),
        areas=none.astype(np.float64),
        image_labels=np.array(labels, np.int64),
    )


def frames_of(indices: list[int]) -> list[Frame]:
    return [Frame(i, i, f"{i}.png", (28, 28), (28, 28)) for i in indices]


def case(seed: int) -> tuple[Records, torch.Tensor]:
    """Some images, some of unknown class, of few or many classes of which one may have none."""
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(2, 12)), int(rng.integers(1, 60))
    labels = rng.integers(-1, max(1, classes - 1), count).tolist()
    scores = torch.from_numpy(rng.random((count, classes))).float().softmax(1)
    return records_of(labels, [f"class {k}" for k in range(classes)]), scores


def evaluated(records: Records, scores: torch.Tensor, indices: list[int]) -> LabelEvaluator:
    evaluator = LabelEvaluator(records)
    evaluator.add(frames_of(indices), [Classification(scores[i]) for i in indices])
    return evaluator


@pytest.mark.parametrize("seed", range(40))
def test_figures_equal_a_loops(seed):
    records, scores = case(seed)
    result = evaluated(records, scores, list(range(len(records)))).result()
    first = among = total = 0
    seen, right = {}, {}
    for label, row in zip(records.image_labels.tolist(), scores.tolist(), strict=True):
        if label < 0:
            continue
        order = sorted(range(len(row)), key=lambda k: -row[k])
        total += 1
        first += order[0] == label
        among += label in order[:5]
        seen[label] = seen.get(label, 0) + 1
        right[label] = right.get(label, 0) + (order[0] == label)
    recalls = {k: right[k] / seen[k] for k in seen}
    assert result["images"] == total
    assert result["classify/top1"] == (first / total if total else None)
    few = len(records.names) <= 5
    assert result["classify/top5"] == (None if few or not total else among / total)
    mean = sum(recalls.values()) / len(recalls) if recalls else None
    assert result["classify/balanced"] == (pytest.approx(mean) if recalls else None)
    for k, name in enumerate(records.names):
        assert result[f"classify/recall/{name}"] == recalls.get(k)


@pytest.mark.parametrize("seed", range(10))
def test_figures_equal_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    records, scores = case(seed)
    truth, known = records.image_labels, records.image_labels >= 0
    if not known.any():
        pytest.skip("no image of a known class")
    evaluator = evaluated(records, scores, list(range(len(records))))
    found = scores.argmax(1).numpy()
    labels = list(range(len(records.names)))
    expected = metrics.confusion_matrix(truth[known], found[known], labels=labels)
    np.testing.assert_array_equal(evaluator.confusion, expected)
    result = evaluator.result()
    assert result["classify/top1"] == metrics.accuracy_score(truth[known], found[known])
    recall = metrics.recall_score(
        truth[known], found[known], labels=np.unique(truth[known]), average="macro"
    )
    assert result["classify/balanced"] == pytest.approx(recall)


@pytest.mark.parametrize("seed", range(5))
def test_processes_merge_to_what_one_counts(seed):
    records, scores = case(seed)
    everything = list(range(len(records)))
    whole = evaluated(records, scores, everything)
    parts = [evaluated(records, scores, everything[rank::3]) for rank in range(3)]
    parts[0].merge([part.state() for part in parts])
    assert parts[0].result() == whole.result()
    np.testing.assert_array_equal(parts[0].confusion, whole.confusion)


def test_an_image_counts_once_and_two_processes_share_none():
    records, scores = records_of([0, 1], ["a", "b"]), torch.eye(2)
    evaluator = evaluated(records, scores, [0, 1, 0])
    assert evaluator.result()["images"] == 2
    with pytest.raises(ValueError, match="same image"):
        evaluator.merge([evaluator.state(), evaluated(records, scores, [0]).state()])


def test_the_table_says_what_is_mistaken_for_what():
    records = records_of([0, 0, 0, 1, 2, -1], ["cat", "dog", "owl", "fox"])
    found = torch.eye(4)[[0, 1, 1, 1, 1, 0]]
    evaluator = evaluated(records, found, list(range(6)))
    table = evaluator.table(evaluator.result())
    assert "Most often mistaken: cat for dog (2), owl for dog (1)." in table
    assert "Without an image, so not in the mean: fox." in table
    assert "1 image without a class" in table
    assert evaluator.diagnose(evaluator.result(), foreign=False) is None


def test_a_model_that_says_one_class_alone_is_told():
    records = records_of([0, 1, 2], ["cat", "dog", "owl"])
    evaluator = evaluated(records, torch.eye(3)[[1, 1, 1]], [0, 1, 2])
    assert "Every image is called dog" in evaluator.diagnose(evaluator.result(), False)
    empty = evaluated(records_of([-1], ["cat", "dog"]), torch.eye(2), [0])
    assert "No image" in empty.diagnose(empty.result(), False)


def test_the_matrix_is_saved_and_drawn(tmp_path):
    records = records_of([0, 0, 1], ["cat", "dog"])
    evaluator = evaluated(records, torch.eye(2)[[0, 1, 1]], [0, 1, 2])
    evaluator.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(LabelEvaluator.written)
    saved = json.loads((tmp_path / "confusion.json").read_text())
    assert (saved["names"], saved["counts"]) == (["cat", "dog"], [[1, 1], [0, 1]])
    assert cv2.imread(str(tmp_path / "confusion.png")).shape[2] == 3


@pytest.mark.parametrize("classes", [3, 10, 26, 100, 1000])
def test_a_cell_is_as_dark_as_its_share_of_the_row(classes):
    counts = np.eye(classes, dtype=np.int64) * 7
    counts[0] = 0
    counts[0, -1] = 1
    picture = draw_confusion(counts, [f"a class with a long name, {k}" for k in range(classes)])
    assert max(picture.shape[:2]) <= 2800
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    dark = (picture.astype(int).sum(2) < 400) & (abs(blue - red) > 80)
    rows, columns = np.nonzero(dark)
    first = columns[rows == rows.min()]  # its images are all in the last column
    assert first.min() > columns.min() + 0.4 * (columns.max() - columns.min())
    last = columns[rows == rows.max()]  # on the diagonal, which ends in the same column
    assert abs(last.max() - first.max()) <= 1
    assert (red > blue)[dark & (np.arange(len(dark)) == rows.min())[:, None]].all()  # it is wrong
    assert (blue > red)[dark & (np.arange(len(dark)) == rows.max())[:, None]].all()
