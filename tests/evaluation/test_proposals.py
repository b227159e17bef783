"""Recall, AR and MABO beside loops over objects and boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detkit.data.records import Records, Strings, offsets_of
from detkit.evaluation.proposals import best_overlaps, proposal_figures, proposal_table


def random_boxes(random: np.random.Generator, number: int) -> np.ndarray:
    low = random.integers(0, 30, (number, 2))
    return np.concatenate([low, low + random.integers(1, 30, (number, 2))], 1).astype(np.float64)


def random_records(random: np.random.Generator, images: int) -> Records:
    counts = random.integers(0, 5, images)
    n = int(counts.sum())
    return Records(
        names=("cat", "dog", "emu"),
        category_ids=np.arange(3),
        source="made up",
        root=Path(),
        files=Strings.of(f"{i}.jpg" for i in range(images)),
        image_ids=Strings.of(map(str, range(images))),
        integer_ids=True,
        sizes=np.full((images, 2), 60, np.int32),
        offsets=offsets_of(counts),
        boxes=random_boxes(random, n),
        labels=random.integers(0, 2, n),  # no emu
        crowd=random.random(n) < 0.2,
        difficult=random.random(n) < 0.2,
        areas=np.ones(n),
    )


def slow_iou(a, b) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (both - width * height)


def slow_figures(records: Records, proposals, number) -> dict[str, float]:
    best: dict[str, list[float]] = {"cat": [], "dog": []}
    for i, boxes in enumerate(proposals):
        for n in range(records.offsets[i], records.offsets[i + 1]):
            if not records.crowd[n] and not records.difficult[n]:
                overlaps = [slow_iou(records.boxes[n], box) for box in boxes[:number]]
                best[records.names[records.labels[n]]].append(max(overlaps, default=0))

    def recall(iou):
        return {k: sum(v >= iou for v in values) / len(values) for k, values in best.items()}

    found = {"recall@0.5": recall(0.5), "recall@0.7": recall(0.7)}
    of_all = [recall(t / 100) for t in range(50, 100, 5)]
    found["AR"] = {k: sum(one[k] for one in of_all) / 10 for k in best}
    found["MABO"] = {k: sum(values) / len(values) for k, values in best.items()}
    return {
        **{key: sum(values.values()) / 2 for key, values in found.items()},
        **{f"{key}/{k}": v for key, values in found.items() for k, v in values.items()},
    }


def test_figures_are_those_of_the_loop():
    random = np.random.default_rng(0)
    for _ in range(10):
        records = random_records(random, 12)
        proposals = [random_boxes(random, int(random.integers(0, 40))) for _ in range(12)]
        figures = proposal_figures(records, proposals, numbers=(5, None))
        for number, ending in ((5, "@5"), (None, "")):
            for key, value in slow_figures(records, proposals, number).items():
                name, *of_class = key.split("/")
                ours = "/".join([f"proposals/{name}{ending}", *of_class])
                assert figures[ours] == pytest.approx(value, abs=1e-12), ours
        assert figures["proposals/MABO/emu"] is None
        assert figures["proposals/boxes"] == np.mean([len(p) for p in proposals])


def test_the_objects_themselves_cover_all_of_them():
    records = random_records(np.random.default_rng(1), 30)
    own = [records.annotation(i).boxes for i in range(30)]
    figures = proposal_figures(records, own)
    assert {figures[f"proposals/{key}"] for key in ("recall@0.5", "AR", "MABO")} == {1.0}
    for wrong in (own[:-1], [*own, own[0]]):
        with pytest.raises(ValueError, match="images have proposals"):
            proposal_figures(records, wrong)


def test_an_iou_of_exactly_the_threshold_finds():
    overlap = best_overlaps(np.array([[0, 0, 2, 1]]), np.array([[0, 0, 1, 1]]), (None, 0))
    assert overlap.tolist() == [[0.5], [0.0]]
    records = random_records(np.random.default_rng(2), 1)
    one = replace(
        records,
        offsets=np.array([0, 1]),
        boxes=np.array([[0.0, 0, 2, 1]]),
        labels=np.array([0]),
        crowd=np.array([False]),
        difficult=np.array([False]),
        areas=np.ones(1),
    )
    figures = proposal_figures(one, [np.array([[0, 0, 1, 1]])])
    assert figures["proposals/recall@0.5"] == 1
    assert figures["proposals/AR"] == pytest.approx(0.1)
    assert "0.500" in proposal_table(figures)


def test_without_objects_there_is_nothing_to_measure():
    none = random_records(np.random.default_rng(3), 2)
    none = none.keep_objects(np.zeros(len(none.boxes), bool))
    figures = proposal_figures(none, [np.zeros((0, 4))] * 2, numbers=(10, None))
    assert figures["proposals/MABO@10"] is None
    assert "–" in proposal_table(figures, numbers=(10, None))
