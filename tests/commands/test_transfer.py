"""A run with `training.head_first` and `optimizer.rates`, killed in either stage, ends the same."""

from __future__ import annotations

import json
import shutil
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
    """A run, and beside it copies of its folder as a kill after some steps leaves it."""
    run = tmp_path_factory.mktemp("transfer") / "whole"
    written = checkpoint.save

    def copied(place, tensors, meta, resume=None):
        written(place, tensors, meta, resume)
        if resume is not None and resume[1]["step"] in (2, 3, 4):
            after = run.with_name(f"after{resume[1]['step']}")
            shutil.rmtree(after, ignore_errors=True)
            shutil.copytree(run, after)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", copied)
        train(settings(run, weights))
    return run


def rows(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def test_the_first_lines_and_the_records_tell_both_stages(whole):
    log = (whole / "log.txt").read_text()
    assert "in stages head → train on" in log
    assert "which have no loaded weights) learn alone for 3 of 6 steps" in log
    assert "learning rates: backbone × 0.1" in log
    assert [row["stage"] for row in rows(whole) if "lr" in row] == ["head"] * 3 + ["train"] * 3


def test_what_was_loaded_waits_for_its_stage(whole, weights):
    """Until the second stage's first step the trunk is as its file has it, statistics too."""
    loaded = checkpoint.read_tensors(weights)
    after = {
        step: checkpoint.read_tensors(whole.with_name(f"after{step}") / "last/resume.safetensors")
        for step in (2, 3, 4)
    }
    for step, moves in ((2, False), (3, False), (4, True)):
        trunk = {k: after[step][f"model/backbone.body.{k}"] for k in loaded if "num_b" not in k}
        moved = [key for key, value in trunk.items() if not torch.equal(value, loaded[key])]
        assert bool(moved) == moves
        assert not any("bn" in key for key in moved)  # frozen, since the file filled them
    new = {
        k for k in after[2] if k.startswith("model/") and not torch.equal(after[2][k], after[3][k])
    }
    assert {key.split(".")[0] for key in new} >= {"model/rpn", "model/head", "model/backbone"}
    assert all(not key.startswith("model/backbone.body.") for key in new)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_killed_in_either_stage_or_between_it_ends_the_same(whole, step):
    run = whole.with_name(f"after{step}")
    torch.manual_seed(9)
    train(compose("train", [f"resume={run}"]))
    for file in ("last/model.safetensors", "last/resume.safetensors", "best/model.safetensors"):
        ours, theirs = (checkpoint.read_tensors(folder / file) for folder in (run, whole))
        assert ours.keys() == theirs.keys()
        assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []
    assert rows(run) == rows(whole)


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
