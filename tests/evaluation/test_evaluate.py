"""The evaluators: one process or several, each image once, and a table that says what it shows."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from detkit.evaluation.evaluate import DetectionEvaluator, PixelEvaluator
from detkit.inference.tasks import tasks
from detkit.predictions import Detections, Segmentation
from detkit.structures import Frame


def frame(index: int) -> Frame:
    return Frame(f"{index:06}", index, "", (200, 200), (200, 200))


def batches(results):
    """(frames, predictions) of one image each."""
    for index in range(int(results.images.max()) + 1):
        mine = results.images == index
        yield (
            [frame(index)],
            [
                Detections(
                    torch.tensor(results.boxes[mine], dtype=torch.float32).reshape(-1, 4),
                    torch.tensor(results.scores[mine], dtype=torch.float32),
                    torch.tensor(results.labels[mine]),
                )
            ],
        )


@pytest.fixture
def scene(make_records, make_results):
    records = make_records(
        [
            [(0, 0, 0, 40, 40), (1, 60, 60, 90, 90)],
            [(0, 20, 20, 50, 50, "difficult")],
            [(1, 10, 10, 60, 60), (1, 0, 0, 30, 30, "crowd")],
        ],
        names=["cat", "dog", "yak"],
    )
    found = make_results(
        (0, 0, 0.9, 1, 1, 40, 40),
        (0, 1, 0.5, 0, 0, 9, 9),
        (1, 0, 0.75, 20, 20, 50, 50),
        (2, 1, 0.25, 10, 10, 60, 58),
    )
    return records, found


def test_two_processes_and_a_repeated_image_give_what_one_gives(scene):
    records, found = scene
    one = DetectionEvaluator(records)
    parts = [DetectionEvaluator(records) for _ in range(2)]
    for index, batch in enumerate(batches(found)):
        one.add(*batch)
        parts[index % 2].add(*batch)
    parts[1].add(*next(batches(found)))  # padded samplers show an image twice
    one.add(*next(batches(found)))
    states = [pickle.loads(pickle.dumps(part.state())) for part in parts]
    for part in parts:
        part.merge(states)
        assert part.result() == one.result()
    assert one.result()["detections"] == 4
    assert 0 < one.result()["coco/AP"] < 1


def test_the_result_is_json_with_every_key_that_was_promised(scene):
    records, found = scene
    result = json.loads(json.dumps(DetectionEvaluator(records, found).result(), allow_nan=False))
    for key in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"):
        assert f"coco/{key}" in result
    for name in records.names:
        for metric in ("coco/AP", "coco/AP50", "voc/AP", "voc07/AP"):
            assert f"{metric}/{name}" in result
    assert result["voc/AP/yak"] is None
    assert result["classes_without_objects"] == ["yak"]
    assert result[DetectionEvaluator.headline] == (result["voc/AP/cat"] + result["voc/AP/dog"]) / 2


def test_the_table_says_what_it_shows(scene):
    records, found = scene
    evaluator = DetectionEvaluator(records, found)
    table = evaluator.table(evaluator.result())
    lines = table.splitlines()
    assert lines[0].split() == ["class", "coco/AP", "coco/AP50", "voc/AP", "voc07/AP"]
    assert lines[1].startswith("mean")
    assert lines[4].split() == ["yak", "–", "–", "–", "–"]
    assert "1 difficult object: as any other for coco/, ignored by voc/ and voc07/." in table
    assert "1 crowd region: ignored by all." in table
    assert "Not in the ground truth, so not in the means: yak." in table


def test_a_class_of_difficult_objects_alone_is_named(make_records, make_results):
    records = make_records([[(0, 0, 0, 9, 9), (1, 20, 20, 50, 50, "difficult")]])
    evaluator = DetectionEvaluator(records, make_results((0, 0, 0.9, 0, 0, 9, 9)))
    result = evaluator.result()
    assert result["voc/AP/dog"] is None
    assert result["coco/AP/dog"] == 0.0
    assert "Only difficult objects, so not in the means of voc/: dog." in evaluator.table(result)
    assert "Never detected: dog." in evaluator.table(result)


def test_pixels_of_two_processes_give_what_one_gives(make_records):
    truth = np.random.default_rng(0).integers(0, 2, (3, 200, 200)).astype(np.uint8)
    truth[0, :50] = 255
    records = replace(
        make_records([[], [], []]), render_pixels=lambda i: truth[i], integer_ids=True
    )
    guesses = torch.randn(3, 3, 200, 200, generator=torch.Generator().manual_seed(0))
    records = replace(records, names=("sky", "road", "cow"))
    one, *parts = (PixelEvaluator(records) for _ in range(3))
    for index in range(3):
        one.add([frame(index)], [Segmentation(guesses[index])])
        parts[index % 2].add([frame(index)], [Segmentation(guesses[index])])
    one.add([frame(0)], [Segmentation(guesses[1])])  # the first time counted
    parts[0].merge([part.state() for part in parts])
    result = parts[0].result()
    assert result == one.result()
    assert result["pixels/IoU/cow"] is None
    kept = truth != 255
    right = (guesses.argmax(1).numpy() == truth)[kept].mean()
    assert result["pixels/accuracy"] == pytest.approx(right)
    table = one.table(result)
    assert "Not in the ground truth, so not in the means: cow." in table
    assert table.splitlines()[1].split()[:2] == ["mean", f"{result['pixels/mIoU']:.3f}"]


def test_an_image_in_two_processes_counts_would_count_twice(make_records):
    records = replace(
        make_records([[]]), render_pixels=lambda i: np.zeros((200, 200), np.uint8), integer_ids=True
    )
    parts = [PixelEvaluator(records) for _ in range(2)]
    for part in parts:
        part.add([frame(0)], [Segmentation(torch.zeros(2, 200, 200))])
    with pytest.raises(ValueError, match="same image"):
        parts[0].merge([part.state() for part in parts])


def test_an_evaluator_that_saw_nothing_still_has_a_result(make_records):
    for task in tasks.values():
        evaluator = task.evaluator(make_records([[]]))
        result = evaluator.result()
        assert result[evaluator.headline] is None
        assert "mean" in evaluator.table(result)
