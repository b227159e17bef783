"""K-means under the IoU: against a loop, on boxes of known shapes, in a run's settings."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from detkit.__main__ import main
from detkit.data.anchors import cluster, mean_iou, shares_of, sizes_of, spread
from detkit.data.open import open_dataset
from detkit.data.square_presets import square
from detkit.errors import DetkitError
from detkit.restore import load_model

SHAPES = {"name": "shapes", "train_images": 60, "size": 64}


def slow_iou(a, b) -> float:
    common = min(a[0], b[0]) * min(a[1], b[1])
    return common / (a[0] * a[1] + b[0] * b[1] - common)


def test_boxes_around_a_few_shapes_give_those_shapes():
    rng = np.random.default_rng(0)
    shapes = np.array([[10.0, 12], [40, 20], [30, 90]])
    sizes = np.concatenate([shape * rng.uniform(0.9, 1.1, (200, 2)) for shape in shapes])
    found, iou = cluster(sizes, 3)
    order = np.argsort(shapes.prod(1))
    np.testing.assert_allclose(found, shapes[order], rtol=0.03)
    slow = np.mean([max(slow_iou(size, anchor) for anchor in found) for size in sizes])
    assert iou == pytest.approx(slow)
    assert iou > 0.88


def test_each_centre_is_the_mean_of_its_boxes_and_a_seed_repeats():
    sizes = np.random.default_rng(1).uniform(5, 100, (300, 2))
    found, iou = cluster(sizes, 5, seed=3)
    again, same = cluster(sizes, 5, seed=3)
    assert np.array_equal(found, again)
    assert iou == same
    owner = [max(range(5), key=lambda a: slow_iou(size, found[a])) for size in sizes]
    for a in range(5):
        np.testing.assert_allclose(found[a], sizes[np.array(owner) == a].mean(0))
    assert mean_iou(sizes, found) > mean_iou(sizes, sizes[:5])


def test_boxes_are_measured_in_the_networks_pixels():
    records = open_dataset(SHAPES, "train")
    own = records.boxes[:, 2:] - records.boxes[:, :2]
    found = sizes_of(records, square(train=False, long_side=160))
    np.testing.assert_allclose(found, own * 2.5)


def test_too_few_boxes_are_named():
    with pytest.raises(DetkitError, match="2 different sizes of boxes are too few for 3"):
        cluster(np.array([[1.0, 2], [3, 4], [1, 2]]), 3)


def test_vocs_boxes_are_covered_as_in_the_paper(shared):
    records = open_dataset({"name": "voc", "root": str(shared / "voc2007")}, "train")
    sizes = sizes_of(records, square(train=False, long_side=416, letterbox=False))
    _, iou = cluster(sizes, 5)
    assert iou == pytest.approx(0.610, abs=0.01)  # table 1, of all of VOC's boxes


def test_the_command_prints_a_setting_that_a_run_takes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes = ["dataset=shapes", "dataset.train_images=40", "dataset.size=64"]
    assert main(["anchors", *shapes, "long_side=64", "numbers=[2,5]"]) == 0
    out = capsys.readouterr().out
    assert "5 anchors, mean best IoU" in out
    assert "the paper's on VOC: 0.610" in out
    printed = [line for line in out.splitlines() if "model.anchors=" in line][-1].strip()
    run = ["train", "model=tiny_yolo_v2", "backbone=darknet_tiny_v2", "backbone.width=0.125"]
    run += [*shapes, "dataset.val_images=4", "transforms=square", "transforms.long_side=64"]
    run += ["training.max_steps=1", "training.workers=0", "device=cpu", "run_dir=run"]
    assert main([*run, "model.anchors=auto"]) == 0
    meta = json.loads((tmp_path / "run/best/meta.json").read_text())
    numbers = json.loads(printed.partition("=")[2])
    assert meta["config"]["model"]["anchors"] == numbers
    assert "mean best IoU with the boxes" in capsys.readouterr().out
    assert main(["train", "resume=run", "training.max_steps=2"]) == 0
    assert main([*run[:-1], "run_dir=other", printed]) == 0


def test_sizes_spread_over_the_boxes():
    sides = np.concatenate([np.full(98, 20.0), [1.0, 4000.0]])
    assert spread(sides, 3) == pytest.approx([20, 20, 20])
    grown = spread(np.geomspace(10, 1000, 999), 4)
    ratios = np.divide(grown[1:], grown[:-1])
    assert ratios == pytest.approx(ratios[0])
    assert grown[0] == pytest.approx(10 * 100**0.025, rel=0.01)
    assert spread(np.array([30.0]), 1) == pytest.approx([30])
    with pytest.raises(DetkitError, match="no boxes"):
        spread(np.zeros(0), 2)


def test_shares_count_a_squares_border():
    records = open_dataset({**SHAPES, "train_images": 1}, "train")
    wide = replace(records, sizes=np.array([[50, 100]], np.int32))
    for letterbox, expected in ((True, (1.0, 0.5)), (False, (1.0, 1.0))):
        transform = square(train=False, long_side=200, letterbox=letterbox)
        whole = replace(wide, boxes=np.tile(np.float32([[0, 0, 100, 50]]), (len(wide.boxes), 1)))
        assert shares_of(whole, transform)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "key", "counts"),
    [
        (["model=yolo_v3", "model.anchors=auto", "model.neck_width=0.0625"], "anchors", 9),
        (["model=ssd300", "model.scales=auto", "model.layer_width=0.0625"], "scales", 7),
        (["model=faster_rcnn", "model.anchor_sizes=auto"], "anchor_sizes", 5),
    ],
)
def test_auto_becomes_numbers_of_the_runs_boxes(given, key, counts, tmp_path, capsys):
    common = ["dataset.train_images=12", "dataset.val_images=2", "training.max_steps=1"]
    common += ["training.workers=0", "device=cpu", f"run_dir={tmp_path / 'run'}"]
    common += ["backbone=mobilenet_v2_fpn"] if key != "anchors" else ["backbone=darknet_tiny"]
    assert main(["train", "dataset=shapes", *given, *common]) == 0
    assert f"{key.replace('_', ' ')}: [" in capsys.readouterr().out
    meta = json.loads((tmp_path / "run/last/meta.json").read_text())
    found = meta["config"]["model"][key]
    assert len(found) == counts
    flat = np.array([np.ravel(one) for one in found], np.float64)
    assert (flat > 0).all()
    load_model(tmp_path / "run")
