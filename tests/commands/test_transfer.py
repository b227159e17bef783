"""A run with `training.head_first` and `optimizer.rates`, killed in either stage, ends the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detkit import checkpoint, restore
from detkit.backbones.build import build as build_backbone
from detkit.commands.evaluate import evaluate
from detkit.commands.train import train
from detkit.config import compose
from detkit.errors import DetkitError
from detkit.training import loop

GIVEN = [
    *("model=faster_rcnn", "backbone=resnet18_fpn", "backbone.fpn_channels=8"),
    *("backbone.width=0.125", "model.head_channels=8", "model.proposals=[20,10]"),
    *("model.roi_samples=8", "dataset=shapes", "dataset.train_images=12", "dataset.size=64"),
    *("dataset.val_images=2", "training.batch_size=2", "training.workers=0", "device=cpu"),
    *("transforms.short_side=64", "transforms.long_side=64", "training.epochs=1"),
    *("optimizer=adamw", "optimizer.lr=0.001", "optimizer.rates={backbone:0.1}"),
    *("schedule=cosine", "schedule.warmup_steps=1", "training.log_every=1", "training.ema=0.5"),
    *("training.checkpoint_every=1", "training.precision=fp32", "training.head_first=0.5"),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "trunk.safetensors"
    torch.manual_seed(1)
    save_file(build_backbone("resnet18", width=0.125)[0].state_dict(), file)
    return file


def settings(run: Path, weights: Path, *more: str):
    given = [f"backbone.weights={weights}", f"run_dir={run}"]
    return compose("train", [*GIVEN, *given, *more])


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("transfer") / "whole"
    train(settings(run, weights))
    return run


def rows(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def test_the_first_lines_and_the_records_tell_both_stages(whole):
    log = (whole / "log.txt").read_text()
    assert "stages: head → train" in log
    assert "which have no loaded weights) learn alone for 3 of 6 steps" in log
    assert "learning rates: backbone × 0.1" in log
    assert [row["stage"] for row in rows(whole) if "lr" in row] == ["head"] * 3 + ["train"] * 3


def test_what_was_loaded_waits_for_its_stage(whole, weights, tmp_path):
    """Three steps later the trunk is as its file has it, statistics too; at the end it is not."""
    run = tmp_path / "run"
    assert killed_before(5, run, settings(run, weights)) == -signal.SIGKILL
    loaded = checkpoint.read_tensors(weights)
    third = checkpoint.read_tensors(run / "last" / "resume.safetensors")
    assert json.loads((run / "last/resume.json").read_text())["step"] == 4
    ended, _ = restore.load_model(whole, prefer="last")
    moved = [k for k, v in loaded.items() if not torch.equal(v, third[f"model/backbone.body.{k}"])]
    assert moved  # the first step of the second stage
    assert all("norm" not in k and "bn" not in k for k in moved)  # frozen: the file filled them
    again = tmp_path / "again"
    assert killed_before(3, again, settings(again, weights)) == -signal.SIGKILL
    second = checkpoint.read_tensors(again / "last" / "resume.safetensors")
    for key, value in loaded.items():
        assert torch.equal(value, second[f"model/backbone.body.{key}"]), key
    changed = {k for k, v in ended.state_dict().items() if not torch.equal(v, second[f"model/{k}"])}
    assert {key.split(".")[0] for key in changed} == {"backbone", "rpn", "head"}
    for part in (again, run):  # killed in the first stage, and in the second
        torch.manual_seed(9)
        train(compose("train", [f"resume={part}"]))
        for file in ("last/model.safetensors", "last/resume.safetensors", "best/model.safetensors"):
            ours, theirs = (checkpoint.read_tensors(r / file) for r in (part, whole))
            assert ours.keys() == theirs.keys()
            assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []
        assert rows(part) == rows(whole)


def killed_before(step: int, run: Path, chosen) -> int:
    """Trains in a process that kills itself when it is about to make that step (from 1)."""

    def child() -> None:
        real, calls = loop.set_rate, []

        def watched(*arguments):
            calls.append(arguments)
            if len(calls) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        loop.set_rate = watched
        train(chosen)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    return process.exitcode


def test_it_is_measured_as_any_run_is(whole, tmp_path):
    given = [f"checkpoint={whole}", f"output={tmp_path}", "device=cpu", "workers=0"]
    evaluate(compose("evaluate", [*given, "precision=fp32", "batch_size=2"]))
    ours, theirs = (json.loads((f / "results.json").read_text()) for f in (tmp_path, whole))
    assert ours["coco/AP"] == theirs["coco/AP"]


def test_a_resumed_run_keeps_both_settings(whole):
    for other in ("training.head_first=0.4", "optimizer.rates={backbone:0.2}"):
        with pytest.raises(DetkitError, match="keeps its settings"):
            train(compose("train", [f"resume={whole}", other]))


def test_nothing_is_left_of_a_run_that_cannot_have_such_stages(tmp_path):
    run = tmp_path / "run"
    for given, said in (
        ([], "No weights are loaded"),
        (["optimizer.rates={backbon:0.1}", "training.head_first=null"], "no part 'backbon'"),
    ):
        with pytest.raises(DetkitError, match=said):
            train(compose("train", [*GIVEN, f"run_dir={run}", *given]))
    assert not run.exists()


def test_a_checkpoint_from_when_the_share_was_the_classifiers_own_is_read(tmp_path):
    given = ["model=classifier", "backbone=resnet18", "backbone.width=0.125", "dataset=shapes"]
    given += ["dataset.train_images=8", "dataset.val_images=2", "dataset.size=32", "device=cpu"]
    given += ["transforms.side=32", "transforms.resize=null", "training.workers=0"]
    run = tmp_path / "run"
    train(compose("train", [*given, "training.max_steps=1", f"run_dir={run}"]))
    for part in ("best", "last"):
        meta = json.loads((run / part / "meta.json").read_text())
        meta["config"]["model"]["head_first"] = 0.0
        del meta["config"]["training"]["head_first"]
        (run / part / "meta.json").write_text(json.dumps(meta))
    model, _ = restore.load_model(run)
    assert model.task == "classify"
    shutil.copytree(run, tmp_path / "copy")
    resumed = [f"resume={tmp_path / 'copy'}", "training.max_steps=2"]
    assert train(compose("train", resumed))["run_dir"]
