"""Faster R-CNN's four steps in one command: killed anywhere, it ends where it would have."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from detkit import checkpoint
from detkit.commands.evaluate import evaluate
from detkit.commands.train import train
from detkit.config import compose
from detkit.errors import DetkitError
from detkit.models import faster_rcnn_alternating
from detkit.training import loop, recipe

GIVEN = [
    *("model=faster_rcnn_alternating", "backbone=resnet18_fpn", "backbone.fpn_channels=8"),
    *("model.head_channels=16", "model.proposals=[50,20]", "model.roi_samples=16"),
    *("dataset=shapes", "dataset.train_images=12", "dataset.val_images=4", "dataset.size=64"),
    *("backbone.width=0.125", "training.batch_size=2", "training.workers=0", "device=cpu"),
    *("transforms.short_side=96", "transforms.long_side=96", "training.epochs=2"),
    *("optimizer.lr=0.005", "schedule.warmup_steps=2", "training.log_every=1"),
    *("training.ema=0.9", "training.checkpoint_every=1", "training.precision=fp32"),
]
STAGES = ["rpn", "propose", "head", "rpn_alone", "propose_again", "head_alone"]


def settings(run_dir: Path, *more: str):
    return compose("train", [*GIVEN, f"run_dir={run_dir}", *more])


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


def assert_same(one: Path, other: Path) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert metrics(one) == metrics(other)
    for name in ("results.json", "stages/propose/proposals.npz"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert state(one) == state(other)


def state(run_dir: Path) -> dict:
    """What the run goes on from, but for the size of metrics.jsonl, in which speeds stand."""
    plain = json.loads((run_dir / "last/resume.json").read_text())
    return {key: value for key, value in plain.items() if key != "journal"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alternating") / "whole"
    train(settings(folder))
    return folder


def test_the_first_lines_and_each_record_name_the_stage(whole):
    log = (whole / "log.txt").read_text()
    assert "in stages rpn → propose → head → rpn_alone → propose_again → head_alone on" in log
    rows = metrics(whole)
    at = {row["step"]: row["stage"] for row in rows}
    parts = ["rpn"] * 3 + ["head"] * 3 + ["rpn_alone"] * 3 + ["head_alone"] * 3
    assert [at[step] for step in range(1, 13)] == parts
    for row in rows:
        names = {key.split("/")[1].split("_")[0] for key in row if key.startswith("loss/")}
        assert names <= {row["stage"].split("_")[0]}
    measured = [row for row in rows if "voc/mAP" in row]
    assert [(row["step"], row["stage"]) for row in measured] == [(12, "head_alone")]
    for name in ("best", "last"):
        meta = json.loads((whole / name / "meta.json").read_text())
        assert (meta["stage"], meta["step"]) == ("head_alone", 12)


def test_the_learning_rate_begins_anew_in_each_stage(whole):
    rates = [row["lr"] for row in metrics(whole) if "lr" in row]
    assert rates == rates[:3] * 4


def test_proposals_lie_in_the_pixels_of_the_files_images(whole):
    for stage in ("propose", "propose_again"):
        with np.load(whole / "stages" / stage / "proposals.npz") as found:
            assert sorted(map(int, found.files)) == list(range(12))
            boxes = np.concatenate([found[key] for key in found.files])
        assert boxes.min() >= 0
        assert 64 * 0.9 < boxes.max() <= 64  # not 96, the network's


def test_the_result_is_that_of_the_checkpoint(whole, tmp_path):
    given = [f"checkpoint={whole}", f"output={tmp_path}", "device=cpu", "workers=0", "batch_size=2"]
    theirs = evaluate(compose("evaluate", [*given, "precision=fp32"]))
    assert json.loads((whole / "results.json").read_text()) == theirs


def kill_in(run_dir: Path, place, name: str, at_call: int, number: int, after: bool, resume: bool):
    """Trains in a process of its own, which sends itself a signal at a call of `place.name`.

    Args:
        after: once the call has returned, not before it.
    Returns:
        The exit code.
    """

    def child() -> None:
        real, calls = getattr(place, name), []

        def watched(*arguments, **more):
            calls.append(name)
            if not after and len(calls) == at_call:
                os.kill(os.getpid(), number)
            result = real(*arguments, **more)
            if after and len(calls) == at_call:
                os.kill(os.getpid(), number)
            return result

        setattr(place, name, watched)
        torch.manual_seed(99)
        train(resumed(run_dir) if resume else settings(run_dir))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    return process.exitcode


def state_of(run_dir: Path) -> tuple[int, int]:
    plain = json.loads((run_dir / "last" / "resume.json").read_text())
    return plain["step"], plain["stage"]


KILLED = -signal.SIGKILL


@pytest.mark.timeout(300)
def test_killed_in_each_kind_of_place_it_ends_as_the_whole_run_does(whole, tmp_path):
    run = tmp_path / "run"
    steps, writes = (loop, "set_rate"), (faster_rcnn_alternating, "write_npz")
    digests = (recipe, "digest")
    # inside a stage of descent: step 3 was begun
    assert kill_in(run, *steps, 3, signal.SIGKILL, False, resume=False) == KILLED
    assert state_of(run) == (2, 0)
    # at a boundary: asked to end during the stage's last step
    assert kill_in(run, *steps, 1, signal.SIGTERM, False, resume=True) == 130
    assert state_of(run) == (3, 0)
    # inside a solved stage: before its file, with the file in the making, and in its place
    assert kill_in(run, *writes, 1, signal.SIGKILL, False, resume=True) == KILLED
    assert not (run / "stages/propose").exists()
    assert kill_in(run, *writes, 1, signal.SIGTERM, True, resume=True) == 130
    assert not (run / "stages/propose").exists()
    assert kill_in(run, *digests, 1, signal.SIGKILL, True, resume=True) == KILLED
    assert (run / "stages/propose/proposals.npz").exists()
    assert state_of(run) == (3, 0)
    # inside the next stage, which began with a restart
    assert kill_in(run, *steps, 3, signal.SIGKILL, False, resume=True) == KILLED
    assert state_of(run) == (5, 2)
    # inside the second solved stage
    assert kill_in(run, *writes, 1, signal.SIGKILL, False, resume=True) == KILLED
    assert state_of(run) == (9, 3)
    between = checkpoint.read_tensors(run / "last" / "model.safetensors")
    torch.manual_seed(77)
    train(resumed(run))
    assert_same(whole, run)
    # the last stage left the others' weights and statistics alone
    after = checkpoint.read_tensors(run / "last" / "model.safetensors")
    changed = {key.split(".")[0] for key in after if not torch.equal(after[key], between[key])}
    assert changed == {"head"}


def test_proposals_that_were_changed_are_refused(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run/stages/propose_again/proposals.npz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DetkitError, match="stage propose_again wrote is gone or was changed"):
        train(resumed(tmp_path / "run", "training.epochs=3"))
    shutil.rmtree(file.parent)
    with pytest.raises(DetkitError, match="gone or was changed") as caught:
        train(resumed(tmp_path / "run", "training.epochs=3"))
    assert caught.value.file == file.parent


def test_more_epochs_lengthen_the_last_stage_alone(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    train(resumed(tmp_path / "run", "training.epochs=3", f"run_dir={tmp_path / 'run'}"))
    rows = metrics(tmp_path / "run")
    assert rows[: len(metrics(whole))] == metrics(whole)
    assert {row["stage"] for row in rows if row["step"] > 12} == {"head_alone"}
    assert rows[-1]["step"] == 18
    plain = json.loads((tmp_path / "run/last/resume.json").read_text())
    assert plain["ends"] == [3, 3, 6, 9, 9, 18]


def test_a_run_of_fewer_steps_than_stages_is_refused(tmp_path):
    with pytest.raises(DetkitError, match="3 steps leave none for its stage"):
        train(settings(tmp_path / "run", "training.max_steps=3"))
    assert not (tmp_path / "run").exists()
