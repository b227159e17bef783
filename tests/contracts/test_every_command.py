"""Every model as a user starts it, `model=NAME` alone: trained, gone on with, measured, drawn.

Few steps on few shapes, all of them in one process of their own, which notes every attempt to
reach a network and refuses it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import small

from detkit.data.formats import BOXES
from detkit.data.formats.shapes import read

CHILD = """
import json, socket, sys, traceback

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
assert len(attempts) == 2 and not attempts.clear()  # the watch itself works

import detkit
from detkit.__main__ import main

def more(name):  # a recipe that ends with what is solved for has no step to add
    solved = detkit.load(name, "cpu").model.stages()[-1].solve is not None
    return "" if solved else "training.max_steps=7"

few = "device=cpu dataset.train_images=8 dataset.val_images=4 training.batch_size=2"
failed = {}
for name in sys.argv[1:]:
    commands = (
        f"train model={name} {few} training.workers=0 training.max_steps=6"
        f" training.precision=fp32 run_dir={name}",
        lambda name: f"train resume={name} {more(name)}",
        f"evaluate checkpoint={name} output={name}_measured workers=0 device=cpu precision=fp32",
        f"predict checkpoint={name} source=pictures output={name}_found device=cpu",
    )
    for command in commands:
        try:
            command = command(name) if callable(command) else command
            status = main(command.split())
        except BaseException:
            status = traceback.format_exc()
        if status or attempts:
            failed[name] = f"{command}: {status}, network {attempts}"
            attempts.clear()
            break
print("\\n" + json.dumps(failed))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("every_command")
    (folder / "pictures").mkdir()
    records = read(None, "val", needs=BOXES, images=True, val_images=2)
    for i in range(2):
        cv2.imwrite(str(folder / f"pictures/it's ({i}).png"), records.image(i)[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def failed(folder) -> dict[str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("NO_ALBUMENTATIONS_UPDATE", None)  # detkit's own business
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *small.names()],
        cwd=folder,
        env=environment,
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
    trained = json.loads((folder / f"{name}/results.json").read_text())
    figures = json.loads((folder / f"{name}_measured/results.json").read_text())
    assert figures["split"] == "val"
    for key, figure in trained.items():
        if isinstance(figure, float):
            assert figures[key] == pytest.approx(figure, abs=1e-6), key
    assert (folder / f"{name}/predictions.jpg").is_file()
    assert list((folder / f"{name}_found").iterdir())
    last = json.loads((folder / name / "last/meta.json").read_text())
    assert last["step"] >= 6


def test_nothing_is_left_elsewhere(folder: Path, failed):
    made = {name + end for name in small.names() for end in ("", "_measured", "_found")}
    assert {path.name for path in folder.iterdir()} <= made | {"pictures", "stderr.txt"}
