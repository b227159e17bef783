"""Precision, recall and F1 at a score against a loop, and the score that is chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detkit.errors import DetkitError
from detkit.evaluation.evaluate import DetectionEvaluator
from detkit.evaluation.operating import DEFAULTS, Operating
from detkit.evaluation.ranking import Ranked, pooled, ranked
from detkit.evaluation.thresholds import KEYS, Thresholds, is_point, thresholds_of

NAMES = ("cat", "dog", "cow")


def counted(records, results, label, least):
    """Right, wrong and objects by two loops: best first, each to the object it overlaps most."""
    order = [i for i in np.argsort(-results.scores, kind="stable") if results.labels[i] == label]
    taken, right, wrong, objects = set(), 0, 0, 0
    for i in range(len(records)):
        truth = records.annotation(i)
        objects += int(((truth.labels == label) & ~(truth.difficult | truth.crowd)).sum())
    for d in (d for d in order if results.scores[d] >= least):
        image, (x0, y0, x1, y1) = int(results.images[d]), results.boxes[d]
        truth, best, nearest = records.annotation(image), 0.0, None
        for k, (a0, b0, a1, b1) in enumerate(truth.boxes.astype(float)):
            if truth.labels[k] != label:
                continue
            common = max(0, min(x1, a1) - max(x0, a0)) * max(0, min(y1, b1) - max(y0, b0))
            iou = common / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - common)
            if iou > best:
                best, nearest = iou, k
        if best <= 0.5:
            wrong += 1
        elif truth.difficult[nearest] or truth.crowd[nearest]:
            continue
        elif (image, nearest) in taken:
            wrong += 1
        else:
            taken.add((image, nearest))
            right += 1
    return right, wrong, objects


def test_counts_and_the_best_score_are_those_of_loops(random_case):
    rng = np.random.default_rng(0)
    for _ in range(60):
        records, results = random_case(rng)
        classes = ranked(records, results)
        scores = sorted({*results.scores.tolist()}, reverse=True)
        for label, found in enumerate(classes):
            for least in (0.05, 0.35, 0.5, 0.95):
                assert (*found.at(least), found.objects) == counted(records, results, label, least)
        best, f1 = pooled(classes).best(), []
        for least in scores:
            parts = [counted(records, results, k, least) for k in range(len(classes))]
            right, wrong, objects = np.sum(parts, 0)
            f1.append(2 * right / (right + wrong + objects) if objects and right else 0.0)
        if not any(f1):
            assert best is None
        else:
            wanted = scores[int(np.argmax(f1))]  # the highest of several
            below = [s for s in scores if s < wanted]
            assert best <= wanted
            assert not below or below[0] < best


@pytest.mark.parametrize(
    ("scores", "hits", "objects", "best"),
    [
        ([0.9, 0.8, 0.3], [1, 1, 0], 2, 0.55),  # between 0.8 and 0.3
        ([0.9, 0.8, 0.3], [1, 0, 1], 3, 0.3),  # F1 2·2/(3+3) beats 2·1/(1+3)
        ([0.54851, 0.54842], [1, 0], 1, 0.5485),  # three decimals are too few
        ([0.9, 0.9, 0.9], [1, 0, 0], 1, 0.9),  # equal scores go together
        ([0.5000002, 0.5000001], [1, 0], 1, 0.5000002),  # no short number lies between
        ([0.9], [0], 3, None),
        ([], [], 3, None),
        ([0.9], [0], 0, None),
    ],
)
def test_the_best_score(scores, hits, objects, best):
    hits = np.array(hits, bool)
    assert Ranked(np.array(scores, float), hits, ~hits, objects).best() == best


def test_what_is_told_of_one_class_of_eighty_and_of_no_detections(make_records, make_results):
    box = [0, 0, 10, 10]
    for names in (("cat",), tuple(f"class {k}" for k in range(80))):
        records = make_records([[(0, *box)], []], names)
        at = Operating(Thresholds(), "val")
        for results in (make_results((0, 0, 0.9, *box)), make_results()):
            evaluator = DetectionEvaluator(records, results, at)
            figures = evaluator.result()
            json.dumps(figures)
            assert figures["in_use/recall"] == len(results)
            assert figures["in_use/precision"] == (1.0 if len(results) else None)
            assert figures["best/f1"] == (1.0 if len(results) else None)
            table = evaluator.table(figures)
            assert len(table.splitlines()) < 25  # not a line for each class at nothing
            assert ("no best score, since nothing right was found" in table) == (not len(results))


def test_a_long_table_keeps_what_was_found_at_the_best_score_alone(make_records, make_results):
    """Below the score in use, but not nothing: a class of 80 that only a lower score finds."""
    names = tuple(f"class {k}" for k in range(80))
    records = make_records([[(7, 0, 0, 10, 10)]], names)
    results = make_results((0, 7, 0.3, 0, 0, 10, 10))
    evaluator = DetectionEvaluator(records, results, Operating(Thresholds(0.5), "val"))
    table = evaluator.table(evaluator.result())
    row = "class 7  0.500          –   0.000  0.000       0.300      1.000   1.000  1.000"
    assert row in table
    assert "and 79 at 0.000 or –: class 0, class 1, class 2, class 3, class 4, …" in table


def test_a_best_score_is_chosen_on_validation_alone(make_records, make_results):
    box = [0, 0, 10, 10]
    records = make_records([[(0, *box)]], ("cat",))
    results = make_results((0, 0, 0.4, *box))
    for split, best in ((None, None), ("val", 0.4)):
        figures = DetectionEvaluator(records, results, Operating(split=split)).result()
        assert figures["best/score_thresh"] == best
        assert figures["in_use/recall"] == 0.0
    assert is_point(figures["operating_points"]["best"], ("cat",))


POINT = {
    **dict(zip(KEYS, (0.6, 0.9, 0.8, 0.85), strict=True)),
    "split": "val",
    "iou": 0.5,
    "classes": {
        "cat": dict(zip(KEYS, (0.7, 1.0, 0.5, 0.67), strict=True)),
        "dog": dict.fromkeys(KEYS),
    },
}


def test_which_scores_are_meant():
    def value(chosen, point=POINT):
        return thresholds_of(chosen, point, NAMES).value(NAMES)

    assert value(None) == 0.6
    assert value(None, None) == DEFAULTS.thresholds.overall == 0.5
    assert value(0.3) == 0.3
    assert value({"dog": 0.2}) == {"cat": 0.6, "dog": 0.2, "cow": 0.6}
    assert value("per_class") == {"cat": 0.7, "dog": 0.6, "cow": 0.6}
    assert "best on val" in str(thresholds_of(None, POINT, NAMES))
    for chosen, point, words in (
        ({"dogs": 0.2}, POINT, "No class 'dogs'. Did you mean dog?"),
        ("per_class", None, "stores no best score"),
        ("best", POINT, "score_thresh is 'best'"),
        ({"dog": "high"}, POINT, "score_thresh of dog is 'high'"),
        (float("nan"), POINT, "not a number"),
    ):
        with pytest.raises(DetkitError) as error:
            thresholds_of(chosen, point, NAMES)
        assert words in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"score_thresh": 7},
        {"score_thresh": None},
        {"split": 3},
        {"classes": []},
        {"classes": {"horse": POINT["classes"]["cat"]}},
        {"classes": {"cat": {"score_thresh": "0.5"}}},
        {"recall": True},
    ],
)
def test_a_strangers_point_is_looked_at(change):
    assert is_point(POINT, NAMES)
    assert not is_point(POINT | change, NAMES)
    assert not is_point([], NAMES)
