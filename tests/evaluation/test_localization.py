"""ILSVRC's localisation error against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detkit.data.open import open_dataset
from detkit.errors import DetkitError
from detkit.evaluation.localization import SHARES, LocalizationEvaluator
from detkit.inference.tasks import tasks
from detkit.localization import Localization
from detkit.structures import Frame

NEEDS = frozenset({"boxes", "one_object"})


def shapes(count: int):
    return open_dataset({"name": "shapes", "val_images": count}, "val", needs=NEEDS)


def frame(records, i: int) -> Frame:
    size = (int(records.sizes[i, 0]), int(records.sizes[i, 1]))
    return Frame(records.image_id(i), i, "", size, size)


def iou(a, b) -> float:
    """In plain numbers."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (areas[0] + areas[1] - common)


def test_the_error_is_that_of_a_count_by_hand():
    records, rng = shapes(40), np.random.default_rng(0)
    evaluator = LocalizationEvaluator(records)
    right = boxed = named = 0
    middle = np.zeros(len(SHARES))
    for i in range(40):
        truth = records.annotation(i)
        wanted, label = truth.boxes[0].tolist(), int(truth.labels[0])
        box = [side + shift for side, shift in zip(wanted, rng.normal(0, 12, 4), strict=True)]
        scores = torch.from_numpy(rng.random(4)).float()
        evaluator.add([frame(records, i)], [Localization(scores, box=torch.tensor(box))])
        first, over = int(scores.argmax()) == label, iou(box, wanted) >= 0.5
        right, boxed, named = right + (first and over), boxed + over, named + first
        for k, share in enumerate(SHARES):
            low, high = 80 - share * 80, 80 + share * 80
            middle[k] += iou([low, low, high, high], wanted) >= 0.5
    assert 0 < right < boxed < 40
    result = evaluator.result()
    assert result["localize/top1"] == pytest.approx(right / 40)
    assert result["localize/error"] == pytest.approx(1 - right / 40)
    assert result["localize/box"] == pytest.approx(boxed / 40)
    assert result["localize/class"] == pytest.approx(named / 40)
    assert result["localize/centre_share"] == SHARES[middle.argmax()]
    assert result["localize/error5"] is None  # four classes
    assert "localisation error" in evaluator.table(result)


def test_the_truth_is_all_right_and_its_box_comes_back_from_the_networks_image():
    records = shapes(6)
    evaluator = LocalizationEvaluator(records)
    for i in range(6):
        truth = tasks["localize"].truth(records, i)
        half = Localization(truth.scores, box=truth.box / 2)
        seen = Frame("", i, "", (160, 160), (80, 80))
        evaluator.add([seen], [half.to_image(seen)])
    result = evaluator.result()
    assert result["localize/top1"] == 1
    assert result["localize/iou"] == pytest.approx(1, abs=1e-6)
    assert evaluator.diagnose(result, foreign=False) is None


def test_five_guesses_share_the_box_and_parts_are_merged():
    records = shapes(2)
    parts = []
    for i in range(2):
        part = LocalizationEvaluator(records)
        truth = tasks["localize"].truth(records, i)
        label = truth.label
        scores = torch.full((4,), 0.1)
        scores[label], scores[(label + 1) % 4] = 0.3, 0.5  # the second guess is right
        part.add([frame(records, i)], [Localization(scores, box=truth.box)])
        parts.append(part)
    parts[0].merge([part.state() for part in parts])
    found = parts[0].state()
    assert [one.rank for one in found.values()] == [1, 1]
    assert parts[0].result()["images"] == 2
    assert parts[0].result()["localize/error"] == 1


def test_nothing_measured_is_said():
    evaluator = LocalizationEvaluator(shapes(2))
    result = evaluator.result()
    assert result["localize/top1"] is None
    assert "exactly one object" in evaluator.diagnose(result, foreign=False)
    assert "–" in evaluator.table(result)


def test_other_numbers_of_objects_are_left_out_or_refused(tmp_path):
    from detkit.data.single import single_of

    several = open_dataset({"name": "shapes", "val_images": 30}, "val")
    counts = np.diff(several.offsets)
    one = single_of(several)
    assert len(one) == (counts == 1).sum() > 0
    assert (np.diff(one.offsets) == 1).all()
    assert f"left out: {(counts > 1).sum()} with more" in one.notes[-1]
    with pytest.raises(DetkitError, match=r"The image has \d objects, a localizer finds one"):
        single_of(several, "error")
    with pytest.raises(DetkitError, match="None of the"):
        single_of(several.subset(np.flatnonzero(counts > 1)))
    with pytest.raises(DetkitError, match=r"dataset.more_objects"):
        single_of(several, "keep")
    with pytest.raises(DetkitError, match="is for a model of one object"):
        open_dataset({"name": "shapes", "more_objects": "drop"}, "val")
