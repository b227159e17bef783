"""Whatever the command's output leads to, the command does its work and ends as it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DETKIT = [sys.executable, "-m", "detkit"]
SMALL = [
    *("model=unet", "backbone=resnet18", "backbone.width=0.125", "model.decoder_width=2"),
    *("dataset=shapes", "dataset.train_images=4", "dataset.val_images=2", "dataset.size=32"),
    *("training.batch_size=2", "training.workers=0", "training.max_steps=1", "device=cpu"),
    *("transforms.short_side=32", "transforms.long_side=32"),
]


def shell(words: list[str], redirect: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The command with streams closed as a shell closes them."""
    line = f'exec "$@" {redirect}'
    call = ["sh", "-c", line, "sh", *DETKIT, *words]
    return subprocess.run(
        call, capture_output=True, text=True, errors="replace", env=os.environ | env, timeout=300
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_comes_in_any_encoding(encoding):
    done = shell(["predict", "--help"], PYTHONIOENCODING=encoding, LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, "")
    assert "score_thresh" in done.stdout


def test_a_mistake_is_told_in_any_encoding(tmp_path):
    done = shell(["predict", "checkpoint=é→", "source=x"], PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Remedy" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "redirect"),
    [(["--help"], 0, ">&-"), (["--help"], 0, "2>&-"), (["trian"], 2, "<&- >&- 2>&-")],
)
def test_streams_that_are_closed_change_no_status(words, status, redirect):
    done = shell(words, redirect)
    assert done.returncode == status
    assert "Traceback" not in done.stderr + done.stdout


def test_a_run_without_any_stream_is_whole(tmp_path):
    run = tmp_path / "run"
    assert shell(["train", *SMALL, f"run_dir={run}"], "<&- >&- 2>&-").returncode == 0
    assert {"results.json", "predictions.jpg", "best", "last"} <= {p.name for p in run.iterdir()}
    assert "pixels/mIoU" in json.loads((run / "results.json").read_text())
    head = (run / "run.json").read_bytes()[:1]
    assert head == b"{"  # no library's words have come into a file


def test_a_run_outlives_whoever_read_it(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    run = tmp_path / "run"
    call = [*DETKIT, "train", *SMALL, f"run_dir={run}"]
    done = subprocess.run(call, stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == 0
    assert (run / "results.json").exists()


@pytest.mark.parametrize("code", ["sys.exit()", "sys.exit('bye')"])
def test_a_plugin_that_ends_the_program_is_told(code, tmp_path):
    (tmp_path / "ending_plugin.py").write_text(f"import sys\n\n{code}\n")
    call = [*DETKIT, "train", "plugins=[ending_plugin]"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, env=_env())
    assert done.returncode == 2
    assert "ending_plugin.py, line 3" in done.stderr
    assert "SystemExit" in done.stderr


def _env() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
