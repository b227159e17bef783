"""A run that stopped half-way and went on ends bit for bit as one that did not, of each kind."""

from __future__ import annotations

import pytest
import small
import torch

from detkit import checkpoint
from detkit.commands.train import train
from detkit.config import compose

KINDS = ["classifier", "fast_rcnn", "mask_rcnn", "ssd300", "yolo_v1", "tiny_yolo_v3", "capsnet"]
DATA = "dataset=shapes dataset.train_images=8 dataset.val_images=2 training.batch_size=2"
LOOP = "training.workers=0 training.precision=fp32 training.ema=0.5 device=cpu"
RATE = ["schedule=constant", "schedule.warmup_steps=0"]  # whatever the length of the run is


@pytest.mark.parametrize("name", KINDS)
def test_three_and_three_steps_are_six(name, tmp_path):
    assert name in small.names()
    own = f"model={name} experiment=shapes_{name} {DATA} {LOOP}".split()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(compose("train", [*own, *RATE, "training.max_steps=6", f"run_dir={whole}"]))
    train(compose("train", [*own, *RATE, "training.max_steps=3", f"run_dir={parts}"]))
    train(compose("train", [f"resume={parts}", "training.max_steps=6"]))
    for file in ("last/resume.safetensors", "last/model.safetensors"):
        one, other = (checkpoint.read_tensors(run / file) for run in (whole, parts))
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
