"""The VOC metrics beside a plain loop over detections, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detkit.evaluation.voc import RECALL_POINTS, best_overlaps, box_iou, interval, voc


def the_kits_loop(records, results, label, iou, strict, count_difficult):
    """Area and 11-point AP as the kit has it: detection after detection, in inclusive pixels."""
    kit = np.array([1.0, 1.0, 0.0, 0.0])
    objects = {}
    countable = 0
    for image in range(len(records)):
        one = records.annotation(image)
        for box, k, crowd, difficult in zip(
            one.boxes.astype(float) + kit, one.labels, one.crowd, one.difficult, strict=True
        ):
            ignored = not count_difficult and (crowd or difficult)
            ignored = ignored or crowd
            if k == label:
                objects.setdefault(image, []).append([box, ignored, False])
                countable += not ignored
    order = sorted(
        (n for n in range(len(results)) if results.labels[n] == label),
        key=lambda n: -results.scores[n],
    )
    right, wrong, recalls, precisions = 0, 0, [], []
    for n in order:
        x1, y1, x2, y2 = results.boxes[n] + kit
        best, chosen = -np.inf, None
        for entry in objects.get(results.images[n], []):
            a1, b1, a2, b2 = entry[0]
            w = max(min(x2, a2) - max(x1, a1) + 1, 0)
            h = max(min(y2, b2) - max(y1, b1) + 1, 0)
            union = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1) - w * h
            if w * h / union > best:
                best, chosen = w * h / union, entry
        if best > iou or (not strict and best == iou):
            if not chosen[1]:
                right, wrong = right + (not chosen[2]), wrong + chosen[2]
                chosen[2] = True
        else:
            wrong += 1
        recalls.append(right / countable if countable else 0)
        precisions.append(right / (right + wrong) if right + wrong else 0)
    if not countable:
        return None, None
    points = 0.0
    for t in np.linspace(0, 1, 11):
        points += max((p for r, p in zip(recalls, precisions, strict=True) if r >= t), default=0)
    area, before = 0.0, 0.0
    for n, recall in enumerate(recalls):
        area += (recall - before) * max(precisions[n:])
        before = recall
    return area, points / 11


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("count_difficult", [False, True])
@pytest.mark.parametrize("iou", [0.25, 0.5, 0.75])
def test_random_cases_equal_the_kits_loop(random_case, iou, strict, count_difficult):
    rng = np.random.default_rng(5)
    matched = 0
    for _ in range(100):
        records, results = random_case(rng)
        got = voc(records, results, iou=iou, strict=strict, count_difficult=count_difficult)
        areas = []
        for label, name in enumerate(records.names):
            area, points = the_kits_loop(records, results, label, iou, strict, count_difficult)
            assert got[f"voc/AP/{name}"] == pytest.approx(area, abs=1e-12)
            assert got[f"voc07/AP/{name}"] == pytest.approx(points, abs=1e-12)
            areas += [] if area is None else [area]
        assert got["voc/mAP"] == pytest.approx(np.mean(areas) if areas else None, abs=1e-12)
        matched += sum(0 < area < 1 for area in areas)
    assert matched > 30  # the cases are no trivial ones


def test_a_difficult_object_neither_counts_nor_costs(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10), (0, 50, 50, 60, 60, "difficult")]])
    on_difficult = (0, 0, 0.9, 50, 50, 60, 60)
    result = voc(records, make_results(on_difficult, on_difficult, (0, 0, 0.5, 0, 0, 10, 10)))
    assert result["voc/AP/cat"] == result["voc07/AP/cat"] == 1.0
    ordinary = voc(records, make_results(on_difficult, on_difficult), count_difficult=True)
    assert ordinary["voc/AP/cat"] == 0.5


def test_a_crowd_is_ignored_like_a_difficult_object(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10), (0, 50, 50, 60, 60, "crowd")]])
    result = voc(records, make_results((0, 0, 0.9, 50, 50, 60, 60), (0, 0, 0.5, 0, 0, 10, 10)))
    assert result["voc/AP/cat"] == 1.0


def test_a_second_detection_of_an_object_is_wrong(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10), (0, 50, 50, 60, 60)]])
    rows = [(0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.8, 0, 0, 10, 9), (0, 0, 0.7, 50, 50, 60, 60)]
    # right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
    assert voc(records, make_results(*rows))["voc/AP/cat"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_an_overlap_of_exactly_half_is_not_enough_unless_asked(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10)]])
    half = make_results((0, 0, 0.9, 0, 0, 10, 5))
    assert voc(records, half)["voc/AP/cat"] == 0.0
    assert voc(records, half, strict=False)["voc/AP/cat"] == 1.0


def test_equal_scores_keep_the_order_of_the_file(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10)]])
    right, wrong = (0, 0, 0.5, 0, 0, 10, 10), (0, 0, 0.5, 80, 80, 90, 90)
    assert voc(records, make_results(right, wrong))["voc/AP/cat"] == 1.0
    assert voc(records, make_results(wrong, right))["voc/AP/cat"] == 0.5


def test_no_detections_are_zero_and_absent_classes_are_none(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10)], []])
    result = voc(records, make_results())
    assert result["voc/AP/cat"] == result["voc/mAP"] == result["voc07/mAP"] == 0.0
    assert result["voc/AP/dog"] is None
    none = voc(make_records([[], []]), make_results((0, 0, 0.5, 0, 0, 9, 9)))
    assert none["voc/mAP"] is None


def test_the_points_stand_where_the_kits_have_them():
    np.testing.assert_array_equal(RECALL_POINTS, np.arange(0.0, 1.1, 0.1))
    assert (np.arange(11) / 10 < RECALL_POINTS).nonzero()[0].tolist() == [3, 6, 7]


def test_overlap_of_boxes_without_area_is_zero():
    empty = np.array([[5.0, 5, 5, 5]])
    assert box_iou(empty, empty)[0] == 0.0
    overlaps, nearest = best_overlaps(
        np.array([0]), empty, np.array([0, 1]), np.repeat(empty, 2, 0)
    )
    assert overlaps.tolist() == [0, -np.inf]
    assert nearest.tolist() == [0, -1]


def test_the_interval_is_that_of_data_sets_whose_images_are_drawn_anew(random_case):
    """Beside copies of the images themselves, drawn by the same numbers."""
    widths = []
    for seed in range(6):
        records, results = random_case(np.random.default_rng(seed))
        results = replace(results, scores=np.random.default_rng(4).random(len(results)))
        rng, values = np.random.default_rng(5), []
        for _ in range(20):
            chosen = np.sort(rng.integers(len(records), size=len(records)))
            rows = [np.flatnonzero(results.images == image) for image in chosen]
            copies = results.select(np.concatenate(rows))
            places = np.repeat(np.arange(len(chosen)), list(map(len, rows)))
            value = voc(records.subset(chosen), replace(copies, images=places))["voc/mAP"]
            values += [] if value is None else [value]
        low, high = interval(records, results, draws=20, seed=5)
        assert (low, high) == pytest.approx(np.quantile(values, [0.025, 0.975]))
        widths.append(high - low)
    assert max(widths) > 0.1


def test_without_an_object_there_is_no_interval(make_records, make_results):
    assert interval(make_records([]), make_results()) is None
