"""A stage that goes on with the one before it: one schedule, one optimiser, exact resume."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from detkit import checkpoint
from detkit.__main__ import main

RUN = [
    *("train", "model=tiny_yolo_v2", "backbone=darknet_tiny_v2", "backbone.width=0.125"),
    *("dataset=shapes", "dataset.size=64", "dataset.train_images=24", "dataset.val_images=4"),
    *("transforms=square", "transforms.long_side=64", "transforms.sides=[64,96]"),
    *("model.anchor_images=16", "schedule=cosine", "schedule.warmup_steps=3"),
    *("schedule.warmup_power=4", "training.max_steps=12", "training.batch_size=4"),
    *("training.ema=0.9", "training.checkpoint_every=1", "training.log_every=1"),
    *("training.workers=0", "training.precision=fp32", "device=cpu"),
]
STEPS = (2, 3, 7)  # in the stage of 3 steps, at its end, in the next one


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run, and copies of its folder as it was after some steps."""
    folder = tmp_path_factory.mktemp("stages")
    written = checkpoint.save

    def copied(place, tensors, meta, resume=None):
        written(place, tensors, meta, resume)
        if resume is not None and resume[1]["step"] in STEPS:
            copy = folder / f"after{resume[1]['step']}"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(place.parent, copy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", copied)
        assert main([*RUN, f"run_dir={folder / 'whole'}"]) == 0
    return folder


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_rate_is_one_curve_over_both_stages(whole):
    found = [line for line in lines(whole / "whole") if "lr" in line]
    assert [line["stage"] for line in found] == ["anchors"] * 3 + ["train"] * 9
    assert ["loss/anchors" in line for line in found] == [True] * 3 + [False] * 9
    rates = [line["lr"] for line in found]
    full = rates[3]  # the warm-up's end
    assert rates[1] / full == pytest.approx(0.001 + 0.999 * (1 / 3) ** 4)
    assert rates[2] / full == pytest.approx(0.001 + 0.999 * (2 / 3) ** 4)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    measured = [line["step"] for line in lines(whole / "whole") if "coco/AP" in line]
    assert measured == [6, 12]  # at the ends of epochs, and none where the stages meet


@pytest.mark.parametrize("step", STEPS)
def test_a_resumed_run_ends_where_the_whole_one_does(whole, step):
    assert main(["train", f"resume={whole / f'after{step}'}"]) == 0
    for file in ("model.safetensors", "resume.safetensors"):
        runs = (whole / "whole", whole / f"after{step}")
        ours, theirs = (checkpoint.read_tensors(run / "last" / file) for run in runs)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), key
