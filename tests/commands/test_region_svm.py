"""R-CNN and SPPnet from one command: killed in any stage, they end where they would have."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import detkit
from detkit import checkpoint
from detkit.commands.evaluate import evaluate
from detkit.commands.train import train
from detkit.config import compose
from detkit.data.formats.shapes import read
from detkit.models.heads import solving
from detkit.ops.ridge import Ridge
from detkit.training import loop

GIVEN = [
    *("backbone=resnet18", "backbone.width=0.125", "training.epochs=2", "device=cpu"),
    *("dataset=shapes", "dataset.train_images=6", "dataset.val_images=2", "dataset.size=64"),
    *("training.batch_size=2", "training.workers=0", "training.precision=fp32"),
    *("transforms.short_side=96", "transforms.long_side=96", "training.log_every=1"),
    *("model.proposal_mode=single", "model.proposal_width=null", "model.proposal_min_side=6"),
    *("model.roi_samples=32", "training.ema=0.9", "training.checkpoint_every=1"),
]
OWN = {
    "rcnn": ["model.warp=64", "model.context=4"],
    "sppnet": ["model.head_channels=32"],
}


def settings(name: str, run_dir: Path):
    return compose("train", [f"model={name}", *GIVEN, *OWN[name], f"run_dir={run_dir}"])


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=sorted(OWN))
def whole(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("regions") / request.param
    train(settings(request.param, folder))
    return request.param, folder


def last(run_dir: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(run_dir / "last/model.safetensors")


def rows_of(run_dir: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def test_it_says_the_stages_their_time_and_the_recall_before_the_first_step(whole):
    log = (whole[1] / "log.txt").read_text()
    assert "in stages fine_tune → svms → box_regression on" in log
    assert log.index("recall@0.5 ") < log.index("about fine_tune ") < log.index("stage svms")
    assert "(6 steps), svms and box_regression up to " in log


def test_it_is_measured_once_all_is_solved(whole):
    _, run = whole
    (measured,) = [row for row in rows_of(run) if "voc/mAP" in row]
    assert (measured["step"], measured["stage"]) == (6, "box_regression")
    tensors = checkpoint.read_tensors(run / "best/model.safetensors")
    assert tensors["head.solved"]
    for key in ("head.svm_weight", "head.box_weight"):
        assert tensors[key].flatten(1).any(1).all(), key


def test_fine_tuning_leaves_sppnets_convolutions_alone(whole, tmp_path):
    name, run = whole
    assert name in ("rcnn", "sppnet")
    fresh = tmp_path / "fresh"
    killed_at(loop, "set_rate", 1, lambda: train(settings(name, fresh)), signal.SIGTERM)
    before, after = last(fresh), last(run)
    parts = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
    assert parts == ({"backbone", "head"} if name == "rcnn" else {"tail", "head"})


def test_evaluation_and_prediction_give_what_training_measured(whole, tmp_path):
    _, run = whole
    given = [f"checkpoint={run}", f"output={tmp_path}", "device=cpu", "workers=0", "batch_size=2"]
    theirs = evaluate(compose("evaluate", [*given, "precision=fp32"]))
    assert json.loads((run / "results.json").read_text()) == theirs
    records = read(None, "val", needs=frozenset({"boxes"}), images=True, val_images=2, size=64)
    found = detkit.load(run, "cpu", score_thresh=0.0)(records.image(0))
    assert len(found) > 0
    assert 0 <= float(np.min(found.scores.numpy())) <= float(np.max(found.scores.numpy())) <= 1


def killed_at(place, name: str, at_call: int, work, number: int = signal.SIGKILL) -> int | None:
    """Does `work` in a process of its own, which sends itself a signal at a call of `place.name`.

    Returns:
        The exit code.
    """

    def child() -> None:
        real, calls = getattr(place, name), []

        def watched(*arguments, **more):
            calls.append(name)
            if len(calls) == at_call:
                os.kill(os.getpid(), number)
            return real(*arguments, **more)

        setattr(place, name, watched)
        torch.manual_seed(99)
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    return process.exitcode


@pytest.mark.timeout(300)
def test_killed_in_each_stage_it_ends_as_the_whole_run_does(whole, tmp_path):
    name, wanted = whole
    run = tmp_path / "run"

    def again() -> None:
        train(compose("train", [f"resume={run}"]))

    def stage() -> int:
        return json.loads((run / "last/resume.json").read_text())["stage"]

    killed = -signal.SIGKILL
    assert killed_at(loop, "set_rate", 3, lambda: train(settings(name, run))) == killed
    assert stage() == 0
    # at the first negatives, with the objects' features in memory
    assert killed_at(solving, "negatives_of", 1, again) == killed
    assert stage() == 0
    # asked to end while box regressions are solved for: it ends at once, and does that stage again
    assert killed_at(Ridge, "solve", 2, again, signal.SIGTERM) == 130
    assert stage() == 2
    before = last(run)
    assert before["head.solved"]
    assert not before["head.box_weight"].any()
    torch.manual_seed(77)
    again()
    ours, theirs = last(wanted), last(run)
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert rows_of(run) == rows_of(wanted)
    assert (run / "results.json").read_bytes() == (wanted / "results.json").read_bytes()
    changed = {key for key in theirs if not torch.equal(before[key], theirs[key])}
    assert changed == {"head.box_weight", "head.box_bias"}
