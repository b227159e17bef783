"""A second NMS over all classes: once, after any model; and the topmost classes of a tree."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import detkit
from detkit.__main__ import main
from detkit.data.classes import topmost
from detkit.data.formats.shapes import NAMES, read
from detkit.errors import DetkitError
from detkit.predictions import Classification, Detections
from detkit.structures import Classes

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 8]])


def found() -> Detections:
    scores, labels = torch.tensor([0.6, 0.9, 0.3, 0.2]), torch.tensor([0, 1, 0, 0])
    return Detections(BOXES, scores, labels, masks=torch.rand(4, 3, 3))


def test_the_surest_of_any_class_stays_or_that_of_each():
    one = found().separate(0.5)
    assert one.labels.tolist() == [1, 0]
    assert one.scores.tolist() == pytest.approx([0.9, 0.3])
    assert len(one.masks) == 2
    assert found().separate(0.5, per_class=True).scores.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert len(found().separate(0.95)) == 4
    assert len(found()[:0].separate(0.5)) == 0


def trained(folder, model: str):
    settings = ["dataset.size=64", "dataset.train_images=12", "dataset.val_images=4"]
    settings += ["backbone.width=0.125", "training.max_steps=2", "training.batch_size=4"]
    settings += ["model.score_thresh=0.0"]
    settings += ["training.workers=0", "device=cpu", "transforms.long_side=64"]
    assert main(["train", f"model={model}", *settings, f"run_dir={folder}"]) == 0
    return folder


def test_every_verb_takes_a_second_nms(tmp_path, capsys):
    run = trained(tmp_path / "run", "tiny_yolo_v2")
    picture = np.random.default_rng(0).integers(0, 256, (80, 64, 3), dtype=np.uint8)
    plain = detkit.load(run, device="cpu", precision="fp32", score_thresh=0.0)(picture)
    once = {"device": "cpu", "precision": "fp32", "score_thresh": 0.0, "agnostic_nms": True}
    apart = detkit.load(run, **once)(picture)
    assert 0 < len(apart) < len(plain)
    overlaps = [
        box_iou(boxes, boxes).fill_diagonal_(0).max() for boxes in (plain.boxes, apart.boxes)
    ]
    assert overlaps[0] > 0.9  # of two classes
    assert overlaps[1] < 0.6  # 0.45 in the square, whose border is cut off afterwards
    counts = []
    for more in ("agnostic_nms=false", "agnostic_nms=true"):
        assert main(["evaluate", f"checkpoint={run}", "device=cpu", "workers=0", more]) == 0
        counts.append(len(json.loads((run / "evaluation/val/predictions.json").read_text())))
    assert 0 < counts[1] < counts[0]
    assert main(["evaluate", f"checkpoint={run}", "device=cpu", "topmost=true"]) == 2
    assert "no tree" in capsys.readouterr().err
    given = ["dataset=shapes", "agnostic_nms=true", f"output={tmp_path}"]
    predictions = run / "evaluation/val"
    assert main(["evaluate", f"predictions={predictions}", *given]) == 2
    assert "agnostic_nms is of a model's predictions" in capsys.readouterr().err


def test_the_topmost_classes_of_a_tree_are_measured(tmp_path, capsys):
    run = trained(tmp_path / "run", "yolo9000")
    capsys.readouterr()
    assert main(["evaluate", f"checkpoint={run}", "device=cpu", "workers=0", "topmost=true"]) == 0
    table = capsys.readouterr().out.splitlines()
    of_ap = table[: next(i for i, line in enumerate(table) if "F1" in line)]
    rows = {line.split()[0]: line.split()[1:] for line in of_ap if len(line.split()) == 5}
    counted = {name for name in ("angular", "round", *NAMES) if "–" not in rows[name]}
    assert counted == {"angular", "round"}
    assert (run / "evaluation/val_topmost/results.json").is_file()


def test_objects_count_as_their_topmost_class():
    records = read(None, "val", needs=frozenset({"boxes"}), images=True, val_images=20)
    tree = Classes(("a", *NAMES, "b"), tuple(range(6)), (-1, 0, 2 - 2, 5, 3, -1))
    assert tree.topmost == [0, 0, 0, 5, 5, 5]  # star in b, triangle in star
    tops = topmost(records, tree)
    assert tops.names == tree.names
    assert tops.labels.tolist() == [tree.topmost[label + 1] for label in records.labels]
    with pytest.raises(DetkitError, match="no tree"):
        topmost(records, Classes.of(NAMES))
    with pytest.raises(DetkitError, match="lacks the class circle"):
        topmost(records, Classes(("a",), (1,), (-1,)))


def test_a_model_without_boxes_is_named():
    from detkit.stored import nms_iou

    meta = {"config": {"model": {"name": "classifier"}}}
    assert nms_iou(False, meta) is None
    with pytest.raises(DetkitError, match="classifier finds no boxes"):
        nms_iou(True, meta)
    one = Classification(torch.tensor([0.2, 0.8]))
    assert one.separate(0.5) is one
