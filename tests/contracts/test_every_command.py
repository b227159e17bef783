"""Every model as a user starts it, `model=NAME` alone: trained, gone on with, measured, drawn.

Few steps on few shapes, all of them in one process of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import small

from detkit.data.formats import BOXES
from detkit.data.formats.shapes import read
from detkit.models.model import models

CHILD = """
import json, sys, traceback
import detkit
from detkit.__main__ import main

def more(name):  # a recipe that ends with what is solved for has no step to add
    solved = detkit.load(name, "cpu").model.stages()[-1].solve is not None
    return "" if solved else "training.max_steps=7"

few = "device=cpu dataset.train_images=8 dataset.val_images=4 training.batch_size=2"
failed = {}
for name in sys.argv[1:]:
    commands = (
        f"train model={name} {few} training.workers=0 training.max_steps=6 run_dir={name}",
        lambda name: f"train resume={name} {more(name)}",
        f"evaluate checkpoint={name} output={name}_measured workers=0 device=cpu",
        f"predict checkpoint={name} source=pictures output={name}_found device=cpu",
    )
    for command in commands:
        try:
            command = command(name) if callable(command) else command
            status = main(command.split())
        except BaseException:
            status = traceback.format_exc()
        if status:
            failed[name] = f"{command}: {status}"
            break
print("\\n" + json.dumps(failed))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("every_command")
    (folder / "pictures").mkdir()
    records = read(None, "val", needs=BOXES, images=True, val_images=2)
    for i in range(2):
        cv2.imwrite(str(folder / f"pictures/{i}.png"), records.image(i)[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def failed(folder) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *small.names()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "stderr.txt").write_text(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", small.names())
def test_it_goes_through_every_command(name, folder: Path, failed):
    errors = (folder / "stderr.txt").read_text() if name in failed else ""
    assert name not in failed, f"{failed[name]}\n{errors[-2000:]}"
    figures = json.loads((folder / f"{name}_measured/results.json").read_text())
    assert figures["split"] == "val"
    assert (folder / f"{name}/predictions.jpg").is_file()
    assert list((folder / f"{name}_found").iterdir())
    stages = models.part(name).stages
    last = json.loads((folder / name / "last/meta.json").read_text())
    assert stages
    assert last["step"] >= 6
