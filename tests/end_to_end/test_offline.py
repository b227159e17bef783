"""Train, evaluate and predict without a network, in another process that notes every attempt."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, socket, sys

attempts = []

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        attempts.append(str(arguments[1]))
        raise OSError("no network in this test")
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        attempts.append(str(arguments[0]))
        raise OSError("no network in this test")

sys.addaudithook(watch)
for attempt in (lambda: socket.create_connection(("127.0.0.1", 9)),
                lambda: socket.getaddrinfo("localhost", 9)):
    try:
        attempt()
    except OSError as error:
        assert "no network" in str(error), error
    else:
        raise AssertionError("the sockets are open")
assert len(attempts) == 2 and not attempts.clear()

from detkit.__main__ import main

for argv in json.loads(sys.argv[1]):
    assert main(argv) == 0, argv
assert not attempts, attempts
"""


def _offline(folder, *commands):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("NO_ALBUMENTATIONS_UPDATE", None)  # detkit's own business
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("model", ["faster_rcnn", "yolo_v3", "unet"])
def test_train_evaluate_and_predict_touch_no_network(model, tmp_path):
    cv2.imwrite(str(tmp_path / "it's (1).png"), np.full((64, 96, 3), 90, np.uint8))
    few = ["dataset.train_images=4", "dataset.val_images=2", "dataset.size=64", "run_dir=run"]
    small = ["device=cpu", "training.max_steps=2", "training.batch_size=2", "training.workers=1"]
    output = _offline(
        tmp_path,
        ["train", f"model={model}", *few, *small, "backbone.width=0.125"],
        ["evaluate", "checkpoint=run", "output=measured", "device=cpu", "workers=0"],
        ["predict", "checkpoint=run", "source=it's (1).png", "output=drawn", "device=cpu"],
    )
    assert "done:" in output
    trained = json.loads((tmp_path / "run" / "results.json").read_text())
    measured = json.loads((tmp_path / "measured" / "results.json").read_text())
    figure = "pixels/mIoU" if model == "unet" else "voc/mAP"
    assert measured[figure] == pytest.approx(trained[figure], abs=1e-6)
    assert (tmp_path / "drawn" / "it's (1).jpg").is_file()
    assert (tmp_path / "drawn" / "predictions.csv").is_file()
    strays = {path.name for path in tmp_path.iterdir()} - {
        "run",
        "measured",
        "drawn",
        "it's (1).png",
    }
    assert not strays
