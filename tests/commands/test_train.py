import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from folders import three, write_voc

import detkit
from detkit import checkpoint
from detkit.commands.evaluate import evaluate
from detkit.commands.opening import open_data
from detkit.commands.train import train
from detkit.config import compose
from detkit.errors import DetkitError
from detkit.inference.tasks import tasks
from detkit.ops.precision import describe, resolve
from detkit.training import loop

NARROW = {
    "faster_rcnn": ["backbone=resnet18_fpn", "backbone.fpn_channels=8", "model.head_channels=16",
                    "model.proposals=[50,20]", "model.roi_samples=16"],
    "yolo_v3": ["backbone=resnet18", "model.neck_width=0.0625"],
    "unet": ["backbone=resnet18", "model.decoder_width=2"],
}  # fmt: skip
SMALL = [
    *("dataset=shapes", "dataset.train_images=12", "dataset.val_images=4", "dataset.size=64"),
    *("backbone.width=0.125", "training.batch_size=2", "training.workers=0", "device=cpu"),
    *("transforms.short_side=64", "transforms.long_side=64", "training.epochs=1"),
    *("optimizer.lr=0.005", "schedule.warmup_steps=2", "training.log_every=2"),
]


def settings(run_dir: Path, *more: str, model: str = "faster_rcnn"):
    return compose("train", [f"model={model}", *NARROW[model], *SMALL, f"run_dir={run_dir}", *more])


def resumed(run_dir: Path, *more: str):
    return compose("train", [f"resume={run_dir}", *more])


def tensors(run_dir: Path) -> dict[str, torch.Tensor]:
    return {
        str(file.relative_to(run_dir)) + key: value
        for file in sorted(run_dir.glob("*/*.safetensors"))
        for key, value in checkpoint.read_tensors(file).items()
    }


def metrics(run_dir: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of two epochs with workers, augmentation and EMA."""
    folder = tmp_path_factory.mktemp("train") / "whole"
    train(settings(folder, *EVERYTHING))
    return folder


EVERYTHING = (
    *("training.epochs=2", "training.ema=0.9", "training.workers=2", "transforms.flip=0.5"),
    *("transforms.colour=0.5", "training.checkpoint_every=4", "training.val_losses=true"),
)


def test_a_run_folder_holds_what_belongs_there(whole):
    assert {p.name for p in whole.iterdir()} - {"tensorboard"} == {
        *("best", "last", "config.yaml", "classes.json", "run.json", "metrics.jsonl", "log.txt"),
        *("results.json", "predictions.jpg", "data.jpg", "data.json", "curves.png", "curves.json"),
        *tasks["detect"].plotted,
    }
    assert {p.name for p in (whole / "best").iterdir()} == {"model.safetensors", "meta.json"}
    assert {p.name for p in (whole / "last").iterdir()} == {
        *("model.safetensors", "meta.json", "resume.safetensors", "resume.json"),
    }
    log = (whole / "log.txt").read_text().splitlines()
    assert log[0].startswith("training faster_rcnn (resnet18_fpn, ")
    assert log[0].endswith(f"on 12 images, 4 classes; 12 steps on 1 of {os.cpu_count()} CPU cores "
                           f"in {describe(resolve('auto', 'cpu'), 'cpu')} → {whole}")  # fmt: skip
    assert re.match(r"done: voc/mAP 0\.\d{3} .* on val, best after epoch [12]\.", log[-1])
    record = json.loads((whole / "run.json").read_text())
    assert record["versions"]["torch"] == torch.__version__
    assert record["data"]["train"]["images"] == 12
    steps = [row["step"] for row in metrics(whole)]
    assert steps == [2, 4, 6, 6, 8, 10, 12, 12]
    assert metrics(whole)[3]["val_loss"] > 0


def test_the_result_is_that_of_the_best_checkpoint(whole, tmp_path):
    ours = json.loads((whole / "results.json").read_text())
    arguments = [f"checkpoint={whole / 'best'}", f"output={tmp_path}", "batch_size=2", "workers=0"]
    theirs = evaluate(compose("evaluate", [*arguments, "device=cpu"]))
    assert ours == theirs
    best = max((row for row in metrics(whole) if "voc/mAP" in row), key=lambda r: r["voc/mAP"])
    assert ours["voc/mAP"] == best["voc/mAP"]
    meta = json.loads((whole / "best" / "meta.json").read_text())
    assert meta["step"] == best["step"]
    assert meta["metrics"]["voc/mAP"] == best["voc/mAP"]


def test_ema_is_saved_and_the_raw_weights_are_kept_apart(whole):
    shown = checkpoint.read_tensors(whole / "last" / "model.safetensors")
    raw = checkpoint.read_tensors(whole / "last" / "resume.safetensors")
    name = "backbone.body.layer1.0.conv1.weight"
    assert not torch.equal(shown[name], raw[f"model/{name}"])
    assert torch.equal(detkit.load(whole / "last", "cpu").model.state_dict()[name], shown[name])


@pytest.mark.parametrize("step", [2, 5])  # in the middle of an epoch; before it is evaluated
def test_ctrl_c_and_resume_end_where_the_uninterrupted_run_does(
    whole, tmp_path, monkeypatch, capsys, step
):
    real = loop.set_rate

    def set_rate(optimizer, factor, calls=[]):  # noqa: B006
        calls.append(factor)
        if len(calls) == step + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(optimizer, factor)

    monkeypatch.setattr(loop, "set_rate", set_rate)
    with pytest.raises(SystemExit) as stop:
        train(settings(tmp_path / "run", *EVERYTHING))
    assert stop.value.code == 130
    assert f"resume={tmp_path / 'run'}" in capsys.readouterr().out
    assert metrics(tmp_path / "run") == metrics(whole)[: (step + 1) // 2]
    monkeypatch.undo()
    torch.manual_seed(77)
    train(resumed(tmp_path / "run"))
    one, other = tensors(whole), tensors(tmp_path / "run")
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert metrics(whole) == metrics(tmp_path / "run")
    assert (whole / "results.json").read_text() == (tmp_path / "run/results.json").read_text()


def test_ctrl_c_in_a_terminal_then_torchruns_sigterm_then_resume(whole, tmp_path):
    folder = tmp_path / "it's [1], a=b"
    call = [sys.executable, "-m", "detkit", "train"]
    given = ["model=faster_rcnn", *NARROW["faster_rcnn"], *SMALL, *EVERYTHING]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(*arguments: str, until: Callable[[], bool]) -> subprocess.Popen:
        process = subprocess.Popen([*call, *arguments], env=environment, start_new_session=True)
        while process.poll() is None and not until():
            time.sleep(0.005)
        return process

    metrics_file, saved = folder / "metrics.jsonl", folder / "last" / "resume.json"
    process = start(
        *given, f"run_dir={folder}", until=lambda: metrics_file.exists() and metrics(folder) != []
    )
    os.killpg(process.pid, signal.SIGINT)  # loading processes too, as a terminal does
    assert process.wait() == 130
    stopped = json.loads(saved.read_text())["step"]
    assert 2 <= stopped < 12
    size = metrics_file.stat().st_size
    process = start(f"resume={folder}", until=lambda: metrics_file.stat().st_size > size)
    os.killpg(process.pid, signal.SIGTERM)  # loading processes too, as schedulers do
    assert process.wait() == 130
    assert not (folder / "results.json").exists()
    train(resumed(folder))
    one, other = tensors(whole), tensors(folder)
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert metrics(whole) == metrics(folder)


def test_a_run_on_photos_survives_ctrl_c_and_kill_9_bit_for_bit(shared, tmp_path, monkeypatch):
    data = tmp_path / "cells"  # twelve photos to learn from and six to measure on
    (data / "ImageSets" / "Main").mkdir(parents=True)
    for part in ("Annotations", "JPEGImages"):
        (data / part).symlink_to(shared / "bccd" / part)
    for split, count in (("train", 12), ("val", 6)):
        names = (shared / f"bccd/ImageSets/Main/{split}.txt").read_text().splitlines()[:count]
        (data / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    given = [
        *("model=faster_rcnn", *NARROW["faster_rcnn"], *SMALL[4:], *EVERYTHING),
        *(f"dataset.root={data}", "dataset.bad_boxes=drop", "training.batch_size=4"),
        *("transforms.short_side=96", "transforms.long_side=160", "transforms.scale=[0.8,1.2]"),
        *("training.checkpoint_every=1", "training.epochs=3", "training.log_every=1"),
    ]
    one, other = tmp_path / "one", tmp_path / "other"
    train(compose("train", [*given, f"run_dir={one}"]))

    real, rates = loop.set_rate, []

    def set_rate(optimizer, factor):
        rates.append(factor)
        if len(rates) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(optimizer, factor)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "set_rate", set_rate)
        with pytest.raises(SystemExit, match="130"):
            train(compose("train", [*given, f"run_dir={other}"]))
    assert [row["step"] for row in metrics(other)] == [1, 2]

    saved = other / "last" / "resume.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "detkit", "train", f"resume={other}"]
    process = subprocess.Popen(call, env=environment)
    while process.poll() is None:
        with suppress(FileNotFoundError):  # the folder is being replaced
            if json.loads(saved.read_text())["step"] >= 4:
                break
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (other / "results.json").exists()

    train(resumed(other))
    assert [row["step"] for row in metrics(other)] == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9]
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert metrics(one) == metrics(other)
    assert (one / "results.json").read_text() == (other / "results.json").read_text()


@pytest.mark.parametrize("model", ["yolo_v3", "unet"])
def test_other_models_go_the_same_way(model, tmp_path):
    more = () if model == "unet" else ("transforms=detection", *SMALL[-6:-4])
    run = tmp_path / "run"
    train(settings(run, *more, "training.max_steps=3", "training.ema=0.5", model=model))
    given = [f"checkpoint={run}", f"output={tmp_path}", "device=cpu", "batch_size=2", "workers=0"]
    assert evaluate(compose("evaluate", given)) == json.loads((run / "results.json").read_text())
    raw, averaged = tensors(run), checkpoint.read_tensors(run / "last" / "model.safetensors")
    weights = [key for key in averaged if key.endswith("weight")]
    learnt = [  # a trained weight is ahead of its average
        not torch.equal(raw[f"last/resume.safetensorsmodel/{key}"], averaged[key])
        for key in weights
    ]
    assert sum(learnt) > 0.8 * len(weights) > 20
    assert (tmp_path / "run" / "predictions.jpg").stat().st_size > 1000


def test_a_finished_run_goes_on_with_more_epochs(tmp_path):
    train(settings(tmp_path / "run", "training.max_steps=2"))
    train(resumed(tmp_path / "run", "training.max_steps=4"))
    assert [row["step"] for row in metrics(tmp_path / "run")] == [2, 2, 4, 4]
    calls = json.loads((tmp_path / "run" / "run.json").read_text())["calls"]
    assert [call["step"] for call in calls] == [0, 2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("optimizer.lr=1", r"optimizer.lr=1.* \(was 0.005\)"),
        ("model.nms_iou=0.1", "nms_iou"),
        ("dataset.train_images=13", "data of train"),
        ("dataset.val_images=5", "data of val"),
        ("training.batch_size=3", "has 2 images a step"),
        ("run_dir=elsewhere", "own folder"),
        ("weights=elsewhere", "Both resume and weights"),
        ("training.epochs=1", "has made 12 steps, which is more than 6"),
    ],
)
def test_a_resumed_run_stays_the_same_run(whole, change, told):
    before = tensors(whole)
    with pytest.raises(DetkitError, match=told):
        train(resumed(whole, change))
    assert all(torch.equal(value, before[key]) for key, value in tensors(whole).items())


def test_pictures_that_are_both_trained_and_measured_on_are_told(shared, tmp_path):
    given = ["model=faster_rcnn", *NARROW["faster_rcnn"], *SMALL[4:], f"run_dir={tmp_path}/run"]
    given += [f"dataset.root={shared}/bccd", "dataset.train_split=val", "training.max_steps=1"]
    same = open_data(compose("train", [*given, "dataset.val_split=val"]), None)
    assert same.val.notes[-1].startswith("87 of the 87 images of val are also trained on")
    other = open_data(compose("train", [*given, "dataset.val_split=test"]), None)
    assert not any("trained on" in note for note in other.val.notes)


def test_a_damaged_state_is_named(whole, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(whole, copy)
    file = copy / "last" / "resume.json"
    plain = json.loads(file.read_text())
    del plain["batch"]
    file.write_text(json.dumps(plain))
    with pytest.raises(DetkitError, match="lacks batch") as error:
        train(resumed(copy))
    assert error.value.file == file


def test_what_the_data_lack_is_told(tmp_path):
    write_voc(tmp_path, [*three(), replace(three()[2], stem="d")], {"train": "acd", "val": "b"})
    data = open_data(compose("train", ["model=faster_rcnn", f"dataset.root={tmp_path}"]), None)
    told = " ".join(data.records.notes)
    assert "2 of the 3 images to learn from have no objects" in told
    assert "in no image to learn from: owl" in told


def test_a_best_checkpoint_is_nothing_to_resume(whole):
    with pytest.raises(DetkitError, match="no state to resume"):
        train(resumed(whole / "best"))


def test_a_checkpoint_outside_of_a_run_is_not_gone_on_with(whole, tmp_path):
    shutil.copytree(whole / "last", tmp_path / "last")
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(DetkitError, match="outside of its run's folder"):
        train(resumed(tmp_path / "last"))
    shutil.copytree(whole / "last", whole.parent / "copied" / "kept")
    (whole.parent / "copied" / "run.json").touch()
    with pytest.raises(DetkitError, match="outside of its run's folder"):
        train(resumed(whole.parent / "copied" / "kept"))
    assert (tmp_path / "config.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    "spoil",
    [
        *({"step": "4"}, {"step": -1}, {"best": "x"}, {"sums": 5}, {"random": 5}, {"journal": -5}),
        *({"optimizer": {"a/b": 1}}, {"random": [{}]}, {"tensors": 1}),
    ],
)
def test_a_state_of_other_things_is_told(whole, tmp_path, spoil):
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run/last/resume.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | spoil))
    with pytest.raises(DetkitError) as error:
        train(resumed(tmp_path / "run"))
    assert "weights=" in error.value.remedy


def test_what_is_changed_is_said(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "run")
    train(resumed(tmp_path / "run", "training.epochs=3"))
    assert "changed: training.epochs: " in capsys.readouterr().out


def test_a_run_never_writes_into_another_ones_folder(whole):
    with pytest.raises(DetkitError, match="not empty") as error:
        train(settings(whole))
    assert f"resume={whole}" in str(error.value)


def test_a_metric_that_does_not_exist_is_refused_at_the_start(tmp_path):
    with pytest.raises(DetkitError, match=r"Did you mean coco/AP"):
        train(settings(tmp_path / "run", "training.best_by=coco/AP5"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "mistake",
    ["optimizer.lr=-1", "schedule.warmup_steps=-5", "training.ema=2", "backbone.width=0"],
)
def test_a_setting_out_of_range_is_told_before_a_folder_is_made(tmp_path, mistake):
    with pytest.raises(DetkitError, match=mistake.split("=")[0]):
        train(settings(tmp_path / "run", mistake))
    assert not (tmp_path / "run").exists()


def test_weights_of_another_run_are_taken_and_told(whole, tmp_path, capsys):
    run = tmp_path / "run"
    train(settings(run, f"weights={whole}", "training.max_steps=1", "optimizer.lr=0"))
    report = json.loads((run / "run.json").read_text())["weights"]["checkpoint"]
    assert report["new"] == report["unused"] == []
    said = capsys.readouterr().out
    assert f"{len(report['taken'])} tensors taken" in said
    assert f"note: as in {whole}: schedule multistep\n" in said
    name = "backbone.body.layer1.0.conv1.weight"
    ours, theirs = (
        checkpoint.read_tensors(f / "best" / "model.safetensors")[name] for f in (run, whole)
    )
    assert torch.equal(ours, theirs)
