"""The examples of CONTRIBUTING.md, run as a user's plugins."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "device=cpu",
    "backbone=plain",
    "training.max_steps=2",
    "training.workers=0",
    "run_dir=run",
]


@pytest.fixture
def plugins(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in found] == ["my_backbone", "my_model", "my_format"]
    for name, code in found:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    return f"plugins=[{','.join(name for name, _ in found)}]"


def _train(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "detkit", "train", *SMALL, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "run" / "results.json").read_text())


def test_the_backbone_and_the_format_train_a_detector(plugins, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        with (data / f"{split}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "class", "x1", "y1", "x2", "y2"])
            for i in range(4):
                name = f"{split}{i}.png"
                cv2.imwrite(str(data / name), random.integers(0, 256, (64, 64, 3), np.uint8))
                table.writerow([name, "cat" if i % 2 else "dog", 8, 8, 40, 48])
    said = ["dataset.root=data", "backbone=plain_fpn", "backbone.first=8", "model.head_channels=32",
            "transforms.short_side=64", "model.proposals=[50,50]"]  # fmt: skip
    results = _train(tmp_path, plugins, *said)
    assert {"voc/mAP", "voc/AP/cat", "voc/AP/dog"} <= set(results)
    assert "recognised: train is a table" in (tmp_path / "run" / "run.json").read_text()


def test_the_model_trains_on_the_shapes(plugins, tmp_path):
    few = ["dataset.train_images=4", "dataset.val_images=2", "dataset.size=64"]
    said = ["model=fcn", "model.dropout=0.2", "transforms=segmentation", *few]
    assert "pixels/mIoU" in _train(tmp_path, plugins, *said)
