"""COCO's figures beside pycocotools fed from JSON files, as its authors use it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json

import numpy as np
import pytest

from detkit.evaluation.coco import FIGURES, coco
from detkit.evaluation.files import write_coco
from detkit.evaluation.results import Results

with_hotcoco = pytest.mark.skipif(
    importlib.util.find_spec("hotcoco") is None, reason="hotcoco is not installed (optional)"
)


def from_files(records, results, folder):
    """The twelve figures of pycocotools' own path: two JSON files, loadRes, summarize."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, annotations = [], []
    for i in range(len(records)):
        images.append({"id": records.image_id(i), "width": 200, "height": 200})
        one = records.annotation(i)
        for n, (x1, y1, x2, y2) in enumerate(one.boxes.tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": records.image_id(i),
                    "category_id": int(records.category_ids[one.labels[n]]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": one.areas[n],
                    "iscrowd": int(one.crowd[n]),
                }
            )
    categories = [
        {"id": int(i), "name": name}
        for i, name in zip(records.category_ids, records.names, strict=True)
    ]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))
    write_coco(results, records, folder / "results.json")
    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(ours, ours.loadRes(str(folder / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(FIGURES, evaluation.stats.tolist(), strict=True))


@pytest.mark.parametrize("package", ["pycocotools", pytest.param("hotcoco", marks=with_hotcoco)])
def test_random_cases_equal_pycocotools_from_files(random_case, tmp_path, package):
    rng = np.random.default_rng(3)
    scored = 0
    for _ in range(25):
        records, results = random_case(rng)
        if len(results) == 0:  # loadRes fails there
            continue
        got = coco(records, results, package=package)
        for name, value in from_files(records, results, tmp_path).items():
            expected = None if value == -1 else pytest.approx(value, abs=1e-12)
            assert got[f"coco/{name}"] == expected, name
            scored += 0 < value < 1
    assert scored > 60


def test_no_detections_are_zero_and_absent_classes_are_none(make_records, make_results):
    result = coco(make_records([[(0, 0, 0, 10, 10)], []]), make_results())
    assert result["coco/AP"] == result["coco/AP50/cat"] == result["coco/AR100"] == 0.0
    assert result["coco/AP/dog"] is None
    assert result["coco/APl"] is None
    assert coco(make_records([[]]), Results.empty())["coco/AP"] is None


def test_a_difficult_object_is_an_ordinary_one(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10), (0, 50, 50, 60, 60, "difficult")]])
    result = coco(records, make_results((0, 0, 0.9, 0, 0, 10, 10)))
    assert result["coco/AR100"] == 0.5


def test_a_crowd_is_ignored(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10), (0, 50, 50, 90, 90, "crowd")]])
    result = coco(records, make_results((0, 0, 0.9, 55, 55, 65, 65), (0, 0, 0.5, 0, 0, 10, 10)))
    assert result["coco/AP"] == pytest.approx(1.0)


def test_at_most_100_detections_an_image_count(make_records, make_results):
    records = make_records([[(0, 0, 0, 10, 10)]])
    noise = [(0, 0, 0.9, 50, 50, 60, 60)] * 100
    assert coco(records, make_results(*noise, (0, 0, 0.1, 0, 0, 10, 10)))["coco/AP"] == 0.0
    assert coco(records, make_results(*noise[1:], (0, 0, 0.1, 0, 0, 10, 10)))["coco/AP"] > 0.0


def test_nothing_is_printed(make_records, make_results, capfd):
    coco(make_records([[(0, 0, 0, 10, 10)]]), make_results((0, 0, 0.9, 0, 0, 10, 10)))
    assert capfd.readouterr().out == ""
