"""A task that detkit has never heard of: one plugin, and every command serves it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2

from detkit.data.formats import BOXES
from detkit.data.formats.shapes import read

PLUGIN = Path(__file__).parent / "sixth_task"
COMMANDS = """
import sys
from detkit.__main__ import main

for argv in (
    "train plugins=[counting] model=counter backbone=resnet18 backbone.width=0.25 dataset=shapes"
    " dataset.size=64 dataset.train_images=24 dataset.val_images=6 training.max_steps=6"
    " training.workers=0 device=cpu run_dir=run",
    "train plugins=[counting] resume=run training.max_steps=8",
    "evaluate plugins=[counting] checkpoint=run output=measured workers=0 device=cpu",
    "predict plugins=[counting] checkpoint=run source=pictures output=found device=cpu",
):
    if status := main(argv.split()):
        sys.exit(status)
"""


def test_it_trains_goes_on_is_measured_and_predicts(tmp_path):
    (tmp_path / "pictures").mkdir()
    records = read(None, "val", needs=BOXES, images=True, val_images=3, size=64)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"pictures/{i}.png"), records.image(i)[..., ::-1])
    path = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "done: count/accuracy" in done.stdout
    figures = json.loads((tmp_path / "measured/results.json").read_text())
    assert figures["count/error"] >= 0
    counts = (tmp_path / "measured/counts.txt").read_text().split()
    assert len(counts) == 6
    rows = list(csv.reader((tmp_path / "found/counts.csv").open()))
    assert [Path(name).name for name, _ in rows] == ["0.png", "1.png", "2.png"]
    assert (tmp_path / "run/predictions.jpg").is_file()
