"""Masks of instances, from the command line: learnt, measured from either file, written."""

from __future__ import annotations

import json

import cv2
import pytest
from calls import detkit

from detkit.data.formats.shapes import read
from detkit.draw import save_image

SMALL = [
    *(
        "model=mask_rcnn",
        "backbone=resnet18_fpn",
        "backbone.width=0.125",
        "backbone.fpn_channels=8",
    ),
    *("model.head_channels=16", "model.mask_channels=8", "model.proposals=[50,20]"),
    *("model.roi_samples=16", "dataset=shapes", "dataset.train_images=12", "dataset.val_images=4"),
    *("dataset.size=64", "transforms.short_side=64", "transforms.long_side=64", "device=cpu"),
    *(
        "training.batch_size=2",
        "training.workers=1",
        "training.epochs=1",
        "training.precision=fp32",
    ),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    said = detkit("train", *SMALL, f"run_dir={folder}")
    assert "done: segm/AP" in said
    return folder


def test_a_run_leaves_figures_and_a_drawn_sheet(run):
    figures = json.loads((run / "results.json").read_text())
    assert {"segm/AP", "segm/AP50", "coco/AP", "segm/AP/circle"} <= figures.keys()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert any("loss/mask" in json.loads(line) for line in lines)
    assert cv2.imread(str(run / "predictions.jpg")) is not None


def test_evaluate_writes_run_lengths(run, tmp_path):
    said = detkit("evaluate", f"checkpoint={run}", f"output={tmp_path / 'a'}", "precision=fp32")
    assert "segm/AP" in said
    rows = json.loads((tmp_path / "a/predictions.json").read_text())
    assert rows
    assert all(row["segmentation"]["size"] == [64, 64] for row in rows)
    path, data = tmp_path / "a/predictions.json", SMALL[SMALL.index("dataset=shapes") :][:4]
    detkit("evaluate", f"predictions={path}", *data, f"output={tmp_path / 'b'}")
    one, other = (json.loads((tmp_path / f"{f}/results.json").read_text()) for f in "ab")
    for key in ("segm/AP", "segm/AP50", "coco/AP"):
        assert one[key] == pytest.approx(other[key], abs=1e-9)


def test_predict_writes_masks(run, tmp_path):
    records = read(None, "val", needs=frozenset({"boxes"}), images=True, val_images=2, size=64)
    (tmp_path / "in").mkdir()
    for i in range(2):
        save_image(tmp_path / f"in/{i}.png", records.image(i))
    detkit("predict", f"checkpoint={run}", f"source={tmp_path / 'in'}", "score_thresh=0.05",
           "yolo_text=true", f"output={tmp_path / 'out'}", "precision=fp32")  # fmt: skip
    rows = json.loads((tmp_path / "out/predictions.json").read_text())
    assert rows
    assert all(row["segmentation"]["size"] == [64, 64] for row in rows)
    for i in range(2):
        index = cv2.imread(str(tmp_path / f"out/masks/{i}.png"), cv2.IMREAD_UNCHANGED)
        assert index.shape == (64, 64)
        assert (tmp_path / f"out/{i}.jpg").is_file()
        lines = (tmp_path / f"out/labels/{i}.txt").read_text().splitlines()
        assert 0 < len(lines) <= sum(str(row["image_id"]) == str(i) for row in rows)
        assert all(len(line.split()) >= 9 for line in lines)  # a class, and four corners at least
    assert (tmp_path / "out/classes.txt").read_text().split() == list(records.names)
