"""Faults in what a run left behind, each told by file and remedy."""

import json
from contextlib import ExitStack
from functools import partial

import pytest
import torch

from detkit import checkpoint, restore
from detkit.errors import DetkitError
from detkit.folders import held
from detkit.models.build import build
from detkit.ops.device import pick_device
from detkit.structures import Classes
from detkit.training import run_folder

MODEL = {"name": "faster_rcnn", "head_channels": 8}
BACKBONE = {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8}


@pytest.fixture
def saved(tmp_path):
    """A checkpoint folder, and its meta data to spoil."""
    config = {"model": MODEL, "backbone": BACKBONE, "transforms": {"name": "detection"}}
    meta = {"format": 1, "config": config, "names": ["a"], "category_ids": [1]}
    folder = tmp_path / "best"
    checkpoint.save(folder, build(MODEL, BACKBONE, Classes.numbered(1)).state_dict(), meta)
    return folder, meta


@pytest.mark.parametrize(
    "spoil",
    [
        {"config": None},
        {"config": {}},
        {"config": {"model": "faster_rcnn", "backbone": BACKBONE, "transforms": {}}},
        {"format": "x"},
        {"format": 99},
        {"names": 5},
        {"names": "a"},
        {"names": [1]},
        {"names": ["a", "a"], "category_ids": [1, 2]},
        {"category_ids": None},
        {"category_ids": ["x"]},
        {"config": {"model": {"name": ["a"]}, "backbone": BACKBONE}},
        {"config": {"model": {**MODEL, "head_channels": "x"}, "backbone": BACKBONE}},
    ],
)
def test_a_damaged_meta_file_is_named(saved, spoil):
    folder, meta = saved
    restore.load_model(folder)  # whole, it loads
    (folder / "meta.json").write_text(json.dumps(meta | spoil))
    with pytest.raises(DetkitError, match=r"meta\.json") as error:
        restore.load_model(folder)
    assert error.value.remedy


def test_a_setting_that_the_model_does_not_have_is_answered_with_the_nearest():
    with pytest.raises(DetkitError, match="Did you mean head_channels"):
        build(MODEL | {"head_channel": 8}, BACKBONE, Classes.numbered(1))


@pytest.mark.parametrize("name", ["meta", "nowhere", "xpu"])
def test_a_device_that_nothing_runs_on_is_refused(name):
    with pytest.raises(DetkitError, match=name):
        pick_device(name)


def test_a_run_that_begins_is_not_one_that_came_to_nothing(tmp_path, monkeypatch):
    (tmp_path / "run.json").touch()
    monkeypatch.setattr("detkit.training.run_folder.held", partial(held, patience=0))
    with held(tmp_path), pytest.raises(DetkitError, match="Another process"):
        run_folder.create(str(tmp_path), "m", "d", ExitStack())
    assert (tmp_path / "run.json").exists()


def test_a_run_that_came_to_nothing_makes_way(tmp_path):
    for name in ("run.json", "config.yaml", "log.txt", "metrics.jsonl"):
        (tmp_path / name).touch()
    with ExitStack() as stack:
        assert run_folder.create(str(tmp_path), "m", "d", stack) == tmp_path
    assert not any(tmp_path.iterdir())
    for name in ("run.json", "metrics.jsonl"):
        (tmp_path / name).write_text("{}")  # of steps that were made
    with ExitStack() as stack, pytest.raises(DetkitError, match="not empty"):
        run_folder.create(str(tmp_path), "m", "d", stack)


def test_a_folder_without_a_checkpoint_is_not_told_to_resume(tmp_path):
    (tmp_path / "log.txt").touch()
    with ExitStack() as stack, pytest.raises(DetkitError) as error:
        run_folder.create(str(tmp_path), "m", "d", stack)
    assert "resume" not in error.value.remedy
    (tmp_path / "last").mkdir()
    with ExitStack() as stack, pytest.raises(DetkitError) as error:
        run_folder.create(str(tmp_path), "m", "d", stack)
    assert "resume" in error.value.remedy


def test_the_same_weights_come_back(saved):
    model, meta = restore.load_model(saved[0])
    assert meta["names"] == ["a"]
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert len(model(images)) == 1
