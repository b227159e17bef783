"""Disks that are full, or not ours to write to: the error names the place, and nothing is lost."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from detkit import checkpoint
from detkit.__main__ import main
from detkit.errors import DetkitError

META = {"config": {}, "names": ["a"], "category_ids": [1]}


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("part", ["model.safetensors", "resume.safetensors"])
def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, part):
    small, large = {"a": torch.zeros(10)}, {"a": torch.zeros(100_000)}
    whole = {"model.safetensors": (large, small), "resume.safetensors": (small, large)}[part]
    checkpoint.save(tmp_path / "last", small, META, (small, {"step": 3}))
    with room_for(100_000), pytest.raises(DetkitError, match="File too large") as caught:
        checkpoint.save(tmp_path / "last", whole[0], META, (whole[1], {"step": 4}))
    assert caught.value.file.name == part
    assert caught.value.remedy
    assert checkpoint.read_resume(tmp_path / "last")[1] == {"step": 3}
    checkpoint.save(tmp_path / "last", small, META, (small, {"step": 5}))  # once there is room
    assert checkpoint.read_resume(tmp_path / "last")[1] == {"step": 5}


def test_a_refusal_of_the_system_is_told_without_a_traceback(tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr("detkit.config.launch", full)
    assert main(["predict", "source=x"]) == 2
    told = capsys.readouterr().err
    assert "No space left" in told
    assert str(tmp_path / "x") in told
    assert "Remedy" in told
