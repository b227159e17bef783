import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from detkit import checkpoint, distributed
from detkit.commands.evaluate import evaluate
from detkit.config import compose
from detkit.distributed import World
from detkit.errors import DetkitError

WORKER = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    """The folder that `two_processes.py` filled, started once because starting it takes long."""
    folder = tmp_path_factory.mktemp("two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    with subprocess.Popen([*torchrun, WORKER, folder]) as agent:
        try:
            assert agent.wait(timeout=240) == 0
        except subprocess.TimeoutExpired:
            agent.send_signal(signal.SIGTERM)  # which it hands on to both
            raise
    return folder


@pytest.mark.parametrize("name", ["faster_rcnn", "yolo_v3", "unet"])
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(two_processes, name):
    both = checkpoint.read_tensors(two_processes / f"{name}-2.safetensors")
    one = checkpoint.read_tensors(two_processes / f"{name}-1.safetensors")
    assert both.keys() == one.keys()
    assert sum(bool(gradient.abs().max() > 1e-4) for gradient in one.values()) >= len(one) / 2
    for key, gradient in one.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert (gradient - both[key]).abs().max() <= 1e-6 * scale, key


def test_two_processes_go_on_where_they_were(two_processes):
    """A signal to one stops both, and the resumed pair ends where an uninterrupted one does."""
    whole, parts = (
        checkpoint.read_tensors(two_processes / name / "last" / "resume.safetensors")
        for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert [key for key in whole if not torch.equal(whole[key], parts[key])] == []
    assert {"random/0/torch", "random/1/torch"} <= whole.keys()


def test_two_processes_hold_the_same_weights(two_processes):
    one, other = (
        checkpoint.read_tensors(two_processes / f"weights-{rank}.safetensors") for rank in (0, 1)
    )
    assert torch.equal(one["weights"], other["weights"])
    assert not torch.equal(one["random"], other["random"])  # dropout is each one's own


def test_two_processes_count_each_image_once(two_processes, tmp_path):
    """Their figures are those of one process that evaluates the same checkpoint."""
    run = two_processes / "run"
    both = json.loads((run / "results.json").read_text())
    given = [f"checkpoint={run}", f"output={tmp_path}", "device=cpu", "batch_size=1", "workers=0"]
    assert both == evaluate(compose("evaluate", given))
    assert both["images"] == 5
    assert both["detections"] > 5
    assert "4 steps on 2 processes" in (run / "log.txt").read_text()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 4]


def test_two_processes_go_through_the_stages_together(two_processes, tmp_path):
    """The main one solves; both train on what it wrote, and measure the same model."""
    run = two_processes / "alternating"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    stages = [row["stage"] for row in rows if "loss" in row]
    assert stages == ["rpn", "head", "rpn_alone", "head_alone"]
    for stage in ("propose", "propose_again"):
        with np.load(run / "stages" / stage / "proposals.npz") as found:
            assert len(found.files) == 8
    given = [f"checkpoint={run}", f"output={tmp_path}", "device=cpu", "batch_size=1", "workers=0"]
    figures = json.loads((run / "results.json").read_text())
    assert figures == evaluate(compose("evaluate", given))
    tensors, plain = checkpoint.read_resume(run / "last")
    assert (plain["step"], plain["stage"]) == (4, 5)
    assert {"random/0/torch", "random/1/torch"} <= tensors.keys()


def test_one_process_needs_no_group():
    world = distributed.start("cpu")
    assert world == World(0, 1, torch.device("cpu"))
    assert world.main
    assert distributed.gather(7, world) == [7]
    assert distributed.share(7, world) == 7
    model = torch.nn.Linear(2, 2)
    assert distributed.wrap(model, world) is model
    distributed.barrier(world)
    distributed.stop()


def test_a_device_that_does_not_exist_is_refused():
    with pytest.raises(DetkitError, match="No device 'gpu'"):
        distributed.start("gpu")
