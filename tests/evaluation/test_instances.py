"""The evaluator of masks: right ones, shifted ones, memory, and both packages."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from detkit.data.formats.shapes import read
from detkit.evaluation.coco import coco
from detkit.evaluation.evaluate import InstanceEvaluator
from detkit.inference.tasks import tasks
from detkit.predictions import Detections
from detkit.structures import Frame

SIDE = 96


@pytest.fixture(scope="module")
def records():
    needs = frozenset({"boxes", "masks"})
    return read(None, "val", needs=needs, images=True, val_images=12, size=SIDE)


def shown(records, i: int, right: int = 0) -> tuple[list[Frame], list[Detections]]:
    """The ground truth as if it had been found, its masks so many pixels too far to the right."""
    frame = Frame(records.image_id(i), i, "", (SIDE, SIDE), (SIDE, SIDE))
    truth = tasks["segment_instances"].truth(records, i)
    truth.masks = torch.roll(truth.masks, right, dims=2)
    truth.scores = torch.linspace(1, 0.5, len(truth))
    return [frame], [truth]


def test_what_is_right_is_one_and_what_is_shifted_is_less(records):
    figures = {}
    for right in (0, 4):
        evaluator = InstanceEvaluator(records)
        for i in range(len(records)):
            evaluator.add(*shown(records, i, right))
        figures[right] = evaluator.result()
        assert figures[right]["coco/AP"] == pytest.approx(1)
    assert figures[0]["segm/AP"] == figures[0]["segm/AP50"] == pytest.approx(1)
    assert figures[4]["segm/AP"] < 0.6
    assert "segm/AP/circle" in figures[4]
    table = evaluator.table(figures[4])
    assert f"{figures[4]['segm/AP']:.3f}" in table
    assert "masks instead of boxes" in table


def test_two_processes_give_what_one_gives(records):
    one, parts = InstanceEvaluator(records), [InstanceEvaluator(records) for _ in range(2)]
    for i in range(len(records)):
        one.add(*shown(records, i, 2))
        parts[i % 2].add(*shown(records, i, 2))
    states = [pickle.loads(pickle.dumps(part.state())) for part in parts]
    parts[0].merge(states)
    assert parts[0].result() == one.result()


def test_masks_cost_their_run_lengths(records):
    evaluator = InstanceEvaluator(records)
    for i in range(len(records)):
        evaluator.add(*shown(records, i))
    objects = len(records.labels)
    assert len(pickle.dumps(evaluator.state())) < objects * 400 < objects * SIDE * SIDE / 8


def test_both_packages_agree_on_masks(records):
    pytest.importorskip("hotcoco")
    evaluator = InstanceEvaluator(records)
    for i in range(0, len(records), 2):
        evaluator.add(*shown(records, i, 1 + i % 3))
    ours = coco(records, evaluator.results(), masks=True, package="pycocotools")
    theirs = coco(records, evaluator.results(), masks=True, package="hotcoco")
    assert 0 < ours["segm/AP"] < 1
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


def test_masks_that_miss_are_diagnosed_and_what_was_found_is_saved(records, tmp_path):
    evaluator = InstanceEvaluator(records)
    for i in range(len(records)):
        evaluator.add(*shown(records, i, SIDE // 2))
    assert "their masks are not the objects'" in evaluator.diagnose(evaluator.result(), False)
    evaluator.save(tmp_path)
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert len(rows) == len(records.labels)
    assert all(row["segmentation"]["size"] == [SIDE, SIDE] for row in rows)


def test_drawn_ground_truth_is_what_its_masks_are(records):
    for i in range(len(records)):
        areas = records.annotation(i).areas
        runs = records.run_lengths(i)
        assert len(runs) == len(areas)
        from pycocotools import mask

        assert [mask.area(one) for one in runs] == areas.tolist()
        assert np.array(records.masks(i)).sum((1, 2)).tolist() == areas.tolist()
