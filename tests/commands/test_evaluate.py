"""`detkit evaluate` on real files: what it says, what it writes, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from folders import save_image

from detkit import checkpoint, foreign, restore
from detkit.__main__ import main
from detkit.commands.evaluate import evaluate
from detkit.config import CONF
from detkit.errors import DetkitError
from detkit.inference.measure import match_classes
from detkit.inference.tasks import tasks
from detkit.models.build import build
from detkit.predictions import Detections, Segmentation
from detkit.structures import Classes

SHAPES = {"name": "shapes", "val_images": 7, "size": 96}
CONFIGS = {
    "detect": {
        "model": {"name": "faster_rcnn", "score_thresh": 0.0, "detections": 20},
        "backbone": {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8},
        "dataset": SHAPES,
        "transforms": {"name": "detection", "short_side": 64, "long_side": 96},
    },
    "segment_pixels": {
        "model": {"name": "unet", "decoder_width": 2},
        "backbone": {"name": "resnet18", "width": 0.125},
        "dataset": SHAPES,
        "transforms": {"name": "segmentation", "short_side": 64, "long_side": 96},
    },
}
NAMES = ["circle", "square", "star", "triangle"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Run folders of small models with random weights, by task."""
    folders = {}
    for task, config in CONFIGS.items():
        names = NAMES if task == "detect" else ["background", *NAMES]
        torch.manual_seed(0)
        model = build(
            config["model"], {**config["backbone"], "weights": "none"}, Classes.numbered(len(names))
        )
        assert model.task == task
        folders[task] = tmp_path_factory.mktemp(task)
        ids = list(range(1, len(names) + 1))
        meta = {"config": config, "names": names, "category_ids": ids}
        checkpoint.save(folders[task] / "best", model.state_dict(), meta)
    return folders


def settings(**given) -> SimpleNamespace:
    values = foreign.read_yaml(CONF / "evaluate.yaml") | {"device": "cpu", "precision": "fp32"}
    values |= {"batch_size": 2, "workers": 0}
    return SimpleNamespace(**{**values, **{k: _plain(v) for k, v in given.items()}})


def _plain(value):
    return str(value) if isinstance(value, Path) else value


FIGURES = ("coco/", "voc/", "voc07/", "pixels/")


def figures(result: dict) -> dict:
    return {key: value for key, value in result.items() if key.startswith(FIGURES)}


def test_what_a_checkpoint_finds_scores_the_same_from_its_file(runs, tmp_path, capsys):
    at = {"score_thresh": 0.5}
    first = evaluate(settings(checkpoint=runs["detect"], output=tmp_path / "a", **at))
    said = capsys.readouterr().out
    assert said.startswith("evaluating faster_rcnn (resnet18_fpn, ")
    assert "on 7 images of val" in said
    assert said.splitlines()[-1].startswith("done: voc/mAP 0.")
    assert json.loads((tmp_path / "a" / "results.json").read_text()) == first
    assert first["detections"] > 50
    found = tmp_path / "a" / "predictions.json"
    second = evaluate(settings(predictions=found, dataset=SHAPES, output=tmp_path / "b", **at))
    assert figures(second) == figures(first)
    assert second["detections"] == first["detections"]
    for key in ("operating_points", "best/f1", "in_use/precision"):
        assert second[key] == first[key] is not None
    there = {path.name for path in (tmp_path / "b").iterdir()}
    assert there == {"results.json", *tasks["detect"].plotted}


def test_ground_truth_named_by_its_file_is_meant_whole_and_predicts_folder_is_taken(tmp_path):
    box = {"category_id": 1, "bbox": [0, 0, 9, 9]}
    ids = range(1, 11)
    for i in ids:
        save_image(tmp_path / f"{i}.png", 20, 20)
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 20} for i in ids],
        "annotations": [{"id": i, "image_id": i, "area": 81, **box} for i in ids],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(truth))
    (tmp_path / "found").mkdir()
    rows = [{"image_id": i, "score": 0.9, **box} for i in ids]
    (tmp_path / "found" / "predictions.json").write_text(json.dumps(rows))
    given = {"predictions": tmp_path / "found", "output": tmp_path / "out"}
    whole = evaluate(settings(dataset={"name": "auto", "root": tmp_path / "labels.json"}, **given))
    assert (whole["images"], whole["coco/AP"]) == (10, 1.0)
    assert (whole["in_use/score_thresh"], whole["in_use/f1"]) == (0.9, 1.0)  # the file's least
    assert whole["best/score_thresh"] is None  # it is no validation split
    root = {"name": "auto", "root": tmp_path}
    fifth = evaluate(settings(dataset=root, **given))
    assert (fifth["images"], fifth["best/score_thresh"]) == (2, 0.9)  # the fifth that is val
    both = settings(dataset=root, **given)
    both.split = "train+val"
    assert evaluate(both)["images"] == 10


def test_pixels_are_measured_and_go_to_the_run_folder(runs, capsys):
    result = evaluate(settings(checkpoint=runs["segment_pixels"] / "best"))
    assert 0 < result["pixels/mIoU"] < result["pixels/accuracy"] < 1
    assert result["images"] == 7
    written = runs["segment_pixels"] / "evaluation" / "val" / "results.json"
    assert json.loads(written.read_text()) == result
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"done: pixels/mIoU {result['pixels/mIoU']:.3f} on val.  See {written}"


def test_two_processes_of_torchrun_measure_what_one_does(runs, tmp_path):
    one = evaluate(settings(checkpoint=runs["detect"], output=tmp_path / "one"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command += ["-m", "detkit", "evaluate", f"checkpoint={runs['detect']}", "device=cpu"]
    command += ["precision=fp32", "batch_size=2", "workers=0", f"output={tmp_path / 'two'}"]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: ") == 1
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert two.keys() == one.keys()
    for key, value in figures(one).items():
        assert two[key] == pytest.approx(value, abs=1e-6), key
    assert two["images"] == one["images"] == 7
    rows = json.loads((tmp_path / "two" / "predictions.json").read_text())
    assert len({row["image_id"] for row in rows}) == 7
    assert len(rows) == one["detections"]


def test_comp4_files_by_the_command_line(shared, tmp_path, capsys):
    folder = shared / "eval" / "padilla-voc-100"
    stated = json.loads((folder / "expected.json").read_text())["difficult_ignored@0.5"]
    arguments = [f"predictions={folder / 'results'}", "dataset=voc", f"dataset.root={folder}"]
    assert main(["evaluate", *arguments, "split=val", f"output={tmp_path}"]) == 0
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["voc/mAP"] == pytest.approx(stated["mean_ap_area"], abs=1e-6)
    assert result["voc07/mAP"] == pytest.approx(stated["mean_ap11"], abs=1e-6)
    said = capsys.readouterr().out
    assert "as any other for coco/" in said
    assert f"done: voc/mAP {stated['mean_ap_area']:.3f} (area), coco/AP50" in said


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_coco_annotation_file_alone_by_the_command_line(shared, tmp_path, form):
    folder = shared / "eval" / "padilla-coco"
    stated = json.loads((folder / "expected.json").read_text())["pycocotools_2_0_11"]
    root = tmp_path / "truth"
    root.mkdir()
    file = root / "it's (1).json"
    shutil.copy(folder / "gt.json", file)
    where = f"dataset.root={root}" if form == "folder" else f"dataset.annotations={file}"
    arguments = [f"predictions={folder / 'results.json'}", where, f"output={tmp_path}"]
    assert main(["evaluate", *arguments, "split=val"]) == 0
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["coco/AP"] == pytest.approx(stated["AP"], abs=1e-6)
    assert result["coco/AR100"] == pytest.approx(stated["AR100"], abs=1e-6)


def test_next_to_nothing_is_explained(shared, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"image_id": f"x{i}", "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1} for i in (1, 2)
    ]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    root = shared / "eval" / "padilla-voc-toy"
    given = settings(predictions=tmp_path / "r.json", dataset={"name": "voc", "root": str(root)})
    given.split = "toy"
    result = evaluate(given)
    assert "image ids do not meet: 0 of 2" in result["diagnosis"]
    told = capsys.readouterr().out
    assert "(theirs: x1, x2; ours: 2007_" in told
    assert len(list(tmp_path.glob("evaluation/*/results.json"))) == 1  # not beside what is theirs


@pytest.mark.parametrize(("least", "told"), [(0.37, True), (0.05, False)])
def test_predictions_without_the_unsure_ones_are_told(tmp_path, capsys, least, told):
    """What was written from a score on is measured there, not at the default."""
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 20}],
        "annotations": [{"id": 1, "area": 81, **box}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "instances_val.json").write_text(json.dumps(truth))
    rows = [{**box, "score": score} for score in (0.9, least)]
    (tmp_path / "r").mkdir()
    (tmp_path / "r/predictions.json").write_text(json.dumps(rows))
    (tmp_path / "r/predictions.csv").write_text("file,frame,timestamp,class,score,xmin,ymin\n")
    given = settings(predictions=tmp_path / "r", dataset={"name": "coco", "root": tmp_path})
    given.split, given.output = "val", str(tmp_path / "out")
    figures = evaluate(given)
    text = capsys.readouterr().out
    assert ("no score is below 0.37, and AP" in text) == told
    assert figures["in_use/score_thresh"] == (least if told else 0.5)
    assert ("the least that predict left in the file" in text) == told


def test_predictions_of_pixels_are_no_objects(tmp_path):
    (tmp_path / "predictions.csv").write_text("file,frame,timestamp,membrane,cell\n")
    given = settings(predictions=tmp_path, dataset={"name": "mask_folder", "root": tmp_path})
    with pytest.raises(DetkitError, match="measure the model itself"):
        evaluate(given)


def test_predictions_are_never_written_over(shared, tmp_path):
    (tmp_path / "results.json").write_text("[]")
    root = str(shared / "eval" / "padilla-voc-toy")
    given = settings(predictions=tmp_path / "results.json", dataset={"name": "voc", "root": root})
    given.split, given.output = "toy", str(tmp_path)
    with pytest.raises(DetkitError, match="not evaluate's"):
        evaluate(given)
    assert (tmp_path / "results.json").read_text() == "[]"


@pytest.mark.parametrize("name", ["results.json", "predictions.json"])
def test_nobody_elses_file_is_replaced_but_its_own_are(runs, tmp_path, name, capsys):
    given = settings(checkpoint=runs["detect"], output=tmp_path)
    (tmp_path / name).write_text('{"images": []}')
    with pytest.raises(DetkitError, match="not evaluate's") as error:
        evaluate(given)
    assert error.value.file == tmp_path / name
    assert "evaluating" not in capsys.readouterr().out  # before the work
    (tmp_path / name).unlink()
    evaluate(given)
    evaluate(given)
    assert isinstance(json.loads((tmp_path / "predictions.json").read_text()), list)
    (tmp_path / "predictions.csv").touch()  # now the other table may be predict's
    with pytest.raises(DetkitError, match="not evaluate's"):
        evaluate(given)
    dataset = {"name": "shapes", "val_images": 7, "size": 96}
    evaluate(settings(predictions=tmp_path / "predictions.json", dataset=dataset, output=tmp_path))
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(DetkitError, match="not evaluate's") as error:  # somebody gave it
        evaluate(given)
    assert error.value.file == tmp_path / "predictions.json"


def test_a_folder_that_cannot_be_is_told_before_the_work(runs, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(DetkitError, match=r"output=DIR"):
        evaluate(settings(checkpoint=runs["detect"], output=tmp_path / "file"))
    assert "evaluating" not in capsys.readouterr().out


def test_a_part_from_a_plugin_is_told_with_the_plugin(runs, tmp_path):
    shutil.copytree(runs["detect"], tmp_path / "run")
    meta = json.loads((tmp_path / "run/best/meta.json").read_text())
    meta["config"]["backbone"]["name"] = "mine"
    meta["config"]["plugins"] = ["my_parts"]
    (tmp_path / "run/best/meta.json").write_text(json.dumps(meta))
    with pytest.raises(DetkitError, match="'mine'") as error:
        restore.load_model(tmp_path / "run")
    assert "plugins=[my_parts]" in error.value.remedy


def test_there_is_one_thing_to_evaluate(runs, tmp_path):
    with pytest.raises(DetkitError, match="nothing to evaluate"):
        evaluate(settings())
    with pytest.raises(DetkitError, match="two things"):
        evaluate(settings(checkpoint=runs["detect"], predictions=tmp_path))
    with pytest.raises(DetkitError, match=r"dataset\.root"):
        evaluate(settings(predictions=tmp_path))


def test_classes_meet_by_name():
    assert match_classes(["dog", "cat"], ["cat", "dog"], every_class=False).tolist() == [1, 0]
    assert match_classes(["dog", "cat", "yak"], ["cat", "dog"], every_class=False).tolist() == [
        1,
        0,
        -1,
    ]
    assert match_classes(["dog"], ["cat", "dog"], every_class=False).tolist() == [1]
    with pytest.raises(DetkitError, match="model has dog, emu; the data have cat, dog"):
        match_classes(["dog", "emu"], ["cat", "dog"], every_class=False)
    with pytest.raises(DetkitError, match="do not match"):
        match_classes(["dog"], ["cat", "dog"], every_class=True)


def test_predictions_take_the_labels_of_the_data():
    found = Detections(torch.arange(12.0).reshape(3, 4), torch.ones(3), torch.tensor([0, 2, 1]))
    table = match_classes(["dog", "cat", "yak"], ["cat", "dog"], every_class=False)
    known = found.relabelled(table, ["cat", "dog"])
    assert known.labels.tolist() == [1, 0]
    assert known.boxes[:, 0].tolist() == [0, 8]
    logits = torch.tensor([5.0, 1.0, 3.0])[:, None, None]
    table = match_classes(["a", "b", "c"], ["b", "c", "a"], every_class=True)
    moved = Segmentation(logits).relabelled(table, ["b", "c", "a"])
    assert moved.logits.flatten().tolist() == [1, 3, 5]


def test_data_with_other_classes_are_refused(runs, shared):
    data = {"name": "voc", "root": str(shared / "bccd"), "bad_boxes": "drop"}
    with pytest.raises(DetkitError, match=r"The model has circle, square.*the data have Platelets"):
        evaluate(settings(checkpoint=runs["detect"], dataset=data, split="test"))
