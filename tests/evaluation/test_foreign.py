"""Other people's results come out at other people's figures; where rules differ, by that rule."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from detkit.data.open import open_dataset
from detkit.evaluation.coco import coco
from detkit.evaluation.files import read
from detkit.evaluation.voc import average_precision, judge, voc

KIT = np.array([1.0, 1.0, 0.0, 0.0])  # continuous → the kit's inclusive pixels


@pytest.fixture(scope="module")
def evals(shared):
    return shared / "eval"


def opened(root, name, split, needs=frozenset({"boxes"})):
    return open_dataset({"name": name, "root": str(root)}, split, needs=needs, images=False)


def assert_figures(got, stated, prefix="coco"):
    for name, value in stated.items():
        ours = name.replace("small", "s").replace("medium", "m").replace("large", "l")
        assert got[f"{prefix}/{ours}"] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize(("kind", "file"), [("bbox", "fakebbox100"), ("segm", "fakesegm100")])
def test_cocos_own_example(evals, kind, file):
    folder = evals / "coco-val2014-fake100"
    stated = json.loads((folder / "expected.json").read_text())[kind]
    records = opened(folder, "coco", "instances_val2014_100.json", {"boxes", "masks"})
    results = read(folder / f"instances_val2014_{file}_results.json", records)
    assert len(results) == 734
    masks = kind == "segm"
    got = coco(records, results, masks=masks, package="pycocotools")
    assert_figures(got, stated, "segm" if masks else "coco")


def test_padillas_coco_set(evals):
    folder = evals / "padilla-coco"
    stated = json.loads((folder / "expected.json").read_text())
    records = opened(folder, "coco", "gt.json")
    got = coco(records, read(folder / "results.json", records), package="pycocotools")
    assert_figures(got, stated["bbox"])
    assert_figures(got, stated["pycocotools_2_0_11"])


@pytest.fixture(scope="module")
def yolo2(evals, tmp_path_factory):
    """The VOC 2007 test set and YOLOv2's detections on it."""
    folder, root = evals / "voc07-test-yolo2", tmp_path_factory.mktemp("VOC2007")
    with tarfile.open(folder / "Annotations.tar.xz") as archive:
        archive.extractall(root, filter="data")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    names = (folder / "ImageSets" / "Main" / "test.txt").read_text()
    (root / "ImageSets" / "Main" / "test.txt").write_text(names)
    records = opened(root, "voc", "test")
    stated = json.loads((folder / "expected.json").read_text())
    return records, read(folder / "results", records), stated


def test_yolo2_on_voc_2007_at_11_points(yolo2):
    records, results, stated = yolo2
    assert len(records) == 4952
    got = voc(records, results)
    for name, figures in stated["per_class"].items():
        label = records.names.index(name)
        assert np.count_nonzero(results.labels == label) == figures["detections"]
        assert got[f"voc07/AP/{name}"] == pytest.approx(figures["ap11"], abs=1e-6)
    mean = np.mean([got[f"voc07/AP/{name}"] for name in stated["per_class"]])
    assert mean == pytest.approx(stated["mean_ap11"], abs=1e-6)


def test_yolo2_area_lies_where_its_tied_scores_allow(yolo2):
    """The source's order of equal scores is not known: right ones first and last are the limits."""
    records, results, stated = yolo2
    images = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    for name, figures in stated["per_class"].items():
        label = records.names.index(name)
        ours, mine = records.labels == label, results.select(results.labels == label)
        objects = images[ours], records.boxes[ours].astype(float), records.difficult[ours]
        countable = int(np.count_nonzero(~records.difficult[ours]))
        assert countable == figures["npos"]

        def judged(order, mine=mine, objects=objects):
            found = mine.select(order)
            return judge(objects, (found.images, found.boxes), 0.5, True)

        order = np.argsort(-mine.scores, kind="stable")
        right = np.zeros(len(mine), bool)
        right[order] = judged(order)[0]
        ends = [
            average_precision(*judged(np.lexsort((key, -mine.scores))), countable)[0]
            for key in (~right, right)
        ]
        assert min(ends) - 1e-9 <= figures["ap_area"] <= max(ends) + 1e-9
        assert max(ends) - min(ends) < 1e-5
        stable = average_precision(*judged(order), countable)[0]
        assert stable == voc(records, results)[f"voc/AP/{name}"]
        assert stable == pytest.approx(figures["ap_area"], abs=1e-5)


@pytest.fixture(scope="module")
def padilla(evals):
    folder = evals / "padilla-voc-100"
    records = opened(folder, "voc", "val")
    stated = json.loads((folder / "expected.json").read_text())
    return records, read(folder / "results", records), stated


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
def test_padillas_100_images_with_every_object_counted(padilla, iou):
    """Its rule: difficult objects are ordinary ones, and an overlap of the threshold is enough."""
    records, results, stated = padilla
    got = voc(records, results, iou=iou, strict=False, count_difficult=True)
    for prefix, key in (("voc", "ap_area"), ("voc07", "ap11")):
        expected = stated[f"{key}@{iou}"]
        assert got[f"{prefix}/mAP"] == pytest.approx(expected["mAP"], abs=1e-6)
        for name, figures in expected["per_class"].items():
            assert got[f"{prefix}/AP/{name}"] == pytest.approx(figures["AP"], abs=1e-6)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
def test_padillas_100_images_by_the_kits_rule(padilla, iou):
    records, results, stated = padilla
    expected = stated[f"difficult_ignored@{iou}"]
    got = voc(records, results, iou=iou)
    assert got["voc/mAP"] == pytest.approx(expected["mean_ap_area"], abs=1e-6)
    assert got["voc07/mAP"] == pytest.approx(expected["mean_ap11"], abs=1e-6)
    for name, figures in expected["per_class"].items():
        assert got[f"voc/AP/{name}"] == pytest.approx(figures["ap_area"], abs=1e-6)
        assert got[f"voc07/AP/{name}"] == pytest.approx(figures["ap11"], abs=1e-6)


def test_padillas_coco_figures_measure_inclusive_pixels_as_if_continuous(padilla):
    """Its rule there: a width is xmax − xmin of the file's numbers, one pixel less than it has."""
    records, results, stated = padilla
    boxes = records.boxes + KIT.astype(records.boxes.dtype)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1).astype(np.float64)
    shrunk = replace(results, boxes=results.boxes + KIT)
    got = coco(replace(records, boxes=boxes, areas=areas), shrunk)
    assert_figures(got, stated["coco_bbox"])
    plain = coco(records, results)
    assert plain["coco/AP50"] == pytest.approx(stated["coco_bbox"]["AP50"], abs=1e-6)
    assert abs(plain["coco/AP"] - stated["coco_bbox"]["AP"]) > 1e-3  # so the rule does matter


def test_padillas_cats(evals):
    folder = evals / "padilla-voc-toy"
    records = opened(folder, "voc", "toy")
    results = read(folder / "results", records)
    stated = json.loads((folder / "expected.json").read_text())
    for iou in (0.5, 0.75):
        got = voc(records, results, iou=iou, strict=False, count_difficult=True)
        assert got["voc07/AP/cat"] == pytest.approx(stated[f"ap11@{iou}"]["cat"], abs=1e-6)
        assert got["voc/AP/cat"] == pytest.approx(stated[f"ap_area@{iou}"]["cat"], abs=1e-6)


def test_padillas_first_case(evals, make_records, make_results):
    """Text of x, y, width, height, whose right edge x + width counts as a pixel of the box."""
    folder = evals / "padilla-voc-case1"
    objects, rows = [], []
    for image, truth in enumerate(sorted((folder / "gts").glob("*.txt"))):
        lines = [list(map(float, line.split()[1:])) for line in truth.read_text().splitlines()]
        objects.append([(0, x, y, x + w + 1, y + h + 1) for x, y, w, h in lines])
        for line in (folder / "dets" / truth.name).read_text().splitlines():
            score, x, y, w, h = map(float, line.split()[1:])
            rows.append((image, 0, score, x, y, x + w + 1, y + h + 1))
    records, results = make_records(objects, names=["object"]), make_results(*rows)
    stated = json.loads((folder / "expected.json").read_text())
    for iou, value in stated["ap11"].items():
        got = voc(records, results, iou=float(iou), strict=False)
        assert got["voc07/AP/object"] == pytest.approx(value, abs=1e-6)
        assert got["voc/AP/object"] == pytest.approx(stated["ap_area"][iou], abs=1e-6)


def test_cartuchos_classes(evals, make_records, make_results):
    """Text of inclusive corners; an overlap of half is enough. Its figures have two decimals."""
    folder = evals / "cartucho-map"
    stated = json.loads((folder / "expected.json").read_text())
    names = sorted(stated["ap_percent"])
    objects, rows = [], []
    for image, truth in enumerate(sorted((folder / "ground-truth").glob("*.txt"))):
        objects.append([])
        for name, left, top, right, bottom, *flag in map(str.split, truth.read_text().splitlines()):
            corners = (float(left) - 1, float(top) - 1, float(right), float(bottom))
            objects[-1].append((names.index(name), *corners, *flag))
        for line in (folder / "detection-results" / truth.name).read_text().splitlines():
            name, score, left, top, right, bottom = line.split()
            if name in names:
                corners = (float(left) - 1, float(top) - 1, float(right), float(bottom))
                rows.append((image, names.index(name), float(score), *corners))
    got = voc(make_records(objects, names=names), make_results(*rows), strict=False)
    for name, percent in stated["ap_percent"].items():
        assert 100 * got[f"voc/AP/{name}"] == pytest.approx(percent, abs=0.005 + 1e-9), name
    assert 100 * got["voc/mAP"] == pytest.approx(stated["mAP_percent"], abs=0.005 + 1e-9)
