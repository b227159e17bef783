"""Rows are what was measured, tables are what the rows say, and a change in either is noticed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from detkit.__main__ import main
from detkit.commands.measured import Row, read, write
from detkit.commands.recording import command, recorded
from detkit.commands.tables import table, tables
from detkit.config import compose
from detkit.errors import DetkitError

ROOT = Path(__file__).resolve().parents[2]
ROWS = sorted((ROOT / "docs" / "measured").rglob("*.json"))
TINY = (
    *("device=cpu", "training.max_steps=1", "training.workers=0", "training.batch_size=2"),
    *("backbone.width=0.125", "backbone.fpn_channels=8", "model.head_channels=16"),
    *("dataset.train_images=4", "dataset.val_images=2", "dataset.size=64"),
)
SAID = "python scripts/train.py " + " ".join(TINY)
ROW = Row(
    system="yolo_v3",
    what="blood cells, test",
    figure={"voc/mAP": [0.9, 0.7], "coco/AP": [0.5, None]},
    seeds=[0, 1],
    minutes=[12.2, 13.1],
    cpu="AMD EPYC, 2 cores",
    commit="abc1234",
    command="python scripts/train.py model=yolo_v3",
    results=["0", "1"],
    paper="0.95",
    cause="too few epochs.",
)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a verb as its script would, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def call(verb: str, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [f"/some/where/scripts/{verb}.py", *arguments])
        return main([verb, *arguments])

    return call


def sha256(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def test_seeds_of_a_command_make_a_row_and_anything_else_is_refused(run, capsys):
    file = Path("rows/shapes.json")
    assert run("train", *TINY, "seed=3", "run_dir=a", f"row={file}") == 0
    first = read(file)
    assert (first.system, first.what, first.seeds) == ("faster_rcnn", "shapes, val", [3])
    assert first.command == SAID
    results = json.loads(Path("a/results.json").read_text())
    assert first.figure["coco/AP50"] == [round(results["coco/AP50"], 4)]
    assert first.results == [sha256("a/results.json")]
    assert first.minutes[0] > 0

    kept = {"what": "Faster R-CNN on shapes", "cause": "one step", "figure": {"voc/mAP": [0.5]}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **kept}))
    assert run("train", "seed=4", f"row={file}", *TINY, "run_dir=b") == 0
    both, results = read(file), json.loads(Path("b/results.json").read_text())
    assert (both.what, both.cause, both.seeds) == (kept["what"], kept["cause"], [3, 4])
    assert both.figure == {"voc/mAP": [0.5, round(results["voc/mAP"], 4)]}
    assert both.results == [sha256("a/results.json"), sha256("b/results.json")]
    assert (both.cpu, both.commit, len(both.minutes)) == (first.cpu, first.commit, 2)

    before = file.read_bytes()
    capsys.readouterr()
    assert run("train", *TINY, "seed=4", "run_dir=c", f"row={file}") == 2
    assert "measured already (seed 4)" in capsys.readouterr().err
    assert run("train", *TINY, "seed=5", "optimizer.lr=1", "run_dir=c", f"row={file}") == 2
    assert "another command's" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert not Path("c").exists()

    here = Path.cwd()
    for seed, folder in ((3, "a"), (4, "b")):
        evaluate = ("device=cpu", "workers=0", f"checkpoint={here / folder}", "split=train")
        assert run("evaluate", *evaluate, "row=test.json") == 0
        of_run = read(Path("test.json"))
        assert of_run.seeds[-1] == seed
        assert of_run.results[-1] == sha256(f"{folder}/evaluation/train/results.json")
    evaluate = "python scripts/evaluate.py device=cpu workers=0 checkpoint=RUN split=train"
    assert of_run.command == f"{SAID} && {evaluate}"
    assert of_run.what == "shapes, train"
    assert of_run.minutes == both.minutes  # the training's

    assert compose("train", ["resume=a"]).row is None  # what a run's files name is not written
    assert run("train", "resume=a", "training.max_steps=2", "row=long.json") == 0
    assert read(Path("long.json")).command == SAID.replace("max_steps=1", "max_steps=2")


def test_a_command_says_nothing_of_its_machine():
    calls = [
        ["/opt/env/bin/detkit", "train", "dataset.root=/data/mine/bccd", "seed=1", "run_dir=~/r"],
        ["detkit/__main__.py", "train", "resume=/tmp/r", "training.epochs=3", "row=/x/y.json"],
    ]
    assert command(calls) == "detkit train dataset.root=bccd training.epochs=3"
    weights = ["scripts/train.py", "backbone.weights=../w.safetensors", "dataset.train_split=a b"]
    said = "python scripts/train.py backbone.weights=w.safetensors 'dataset.train_split=a b'"
    assert command([weights]) == said
    assert command([weights], 2).startswith("torchrun --nproc-per-node 2 scripts/train.py backbone")


def test_ratios_of_a_benchmark_are_a_row_and_sweeps_are_none(monkeypatch, tmp_path):
    @recorded
    def benchmark(settings):
        return {"train/fp32": {"ratio": 0.789, "low": 0.75, "high": 0.86}, "memory": {"ratio": 0.1}}

    file = tmp_path / "row.json"
    settings = SimpleNamespace(row=str(file), device="cpu", model="faster_rcnn")
    monkeypatch.setattr(sys, "argv", ["scripts/benchmark.py", "-m", "repeats=1,2"])
    with pytest.raises(DetkitError, match="one run"):
        benchmark(settings)
    monkeypatch.setattr(sys, "argv", ["scripts/benchmark.py", "rows=[train,memory]"])
    benchmark(settings)
    row = read(file)
    ratios = {"train/fp32": "0.79 of the peer's (0.75–0.86)", "memory": "0.10 of the peer's"}
    assert (row.figure, row.seeds, row.system) == (ratios, None, "faster_rcnn")
    with pytest.raises(DetkitError, match="measured already"):
        benchmark(settings)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"figures": {}}, "figures"),
        ({"seeds": ["0", 1]}, "seeds.0"),
        ({"seeds": [0, 1, 2]}, "minutes"),
        ({"figure": {"voc/mAP": [0.9]}}, "voc/mAP"),
        ({"figure": {"voc/mAP": [float("nan"), 1]}}, None),
        ({"command": None}, "command"),
    ],
)
def test_a_row_that_cannot_be_is_told_with_its_place(tmp_path, change, place):
    file = tmp_path / "row.json"
    write(file, ROW)
    assert read(file) == ROW
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(DetkitError) as told:
        read(file)
    assert told.value.file == file
    assert place is None or place in told.value.record


@pytest.mark.parametrize("text", ["", "[1]", '{"what": "half a row"}'])
def test_another_file_is_no_row(tmp_path, text):
    file = tmp_path / "row.json"
    file.write_text(text)
    with pytest.raises(DetkitError, match="no measured row"):
        read(file)


def test_a_table_says_what_its_row_says():
    lines = table([ROW]).splitlines()
    assert lines[2] == (
        "| blood cells, test | voc/mAP 0.800 (0.900, 0.700), coco/AP 0.500 (0.500, –);"
        " mean of seeds 0, 1; paper: 0.95; too few epochs. | 12 to 13 min on A |"
        " `python scripts/train.py model=yolo_v3` |"
    )
    assert lines[-1] == "A: AMD EPYC, 2 cores."


@pytest.fixture
def text(tmp_path) -> Path:
    """A text with a table of two rows."""
    for name in ("b", "a"):
        write(tmp_path / "docs" / "measured" / f"{name}.json", ROW)
    file = tmp_path / "README.md"
    marks = "<!-- measured: docs/measured/*.json -->\n<!-- measured: end -->"
    file.write_text(f"before\n\n{marks}\n\nafter\n")
    tables(tmp_path)
    return file


def test_tables_are_written_once_and_for_all(text):
    first = text.read_text()
    assert first.startswith("before\n\n<!-- ")
    assert first.endswith(" -->\n\nafter\n")
    assert first.count("0.800") == 2
    tables(text.parent, check=True)
    tables(text.parent)
    assert text.read_text() == first


def test_a_short_table_leaves_out_the_commands_and_shows_no_row_twice(text):
    page = text.parent / "docs" / "measured.md"
    page.write_text(text.read_text())
    with pytest.raises(DetkitError, match="in 2 tables"):
        tables(text.parent)
    text.write_text("<!-- measured, short: docs/measured/a.json -->\n<!-- measured: end -->\n")
    tables(text.parent)
    assert "voc/mAP 0.800 (0.900, 0.700)" in text.read_text()
    assert "scripts/train.py" not in text.read_text()
    assert "scripts/train.py" in page.read_text()


def test_the_check_notices_a_changed_figure_on_either_side(text):
    first = text.read_text()
    text.write_text(first.replace("0.800", "0.801", 1))
    with pytest.raises(DetkitError, match="disagrees with its rows"):
        tables(text.parent, check=True)
    text.write_text(first)
    row = text.parent / "docs" / "measured" / "a.json"
    row.write_text(row.read_text().replace("0.7", "0.8"))
    with pytest.raises(DetkitError, match=r"0\.850"):
        tables(text.parent, check=True)
    assert text.read_text() == first


def test_a_row_that_no_table_shows_is_told(text):
    write(text.parent / "docs" / "measured" / "apart" / "c.json", ROW)
    with pytest.raises(DetkitError, match="in 0 tables"):
        tables(text.parent)


@pytest.mark.parametrize("file", ROWS, ids=lambda file: file.stem)
def test_every_row_is_one_and_names_no_place_of_a_machine(file):
    row = read(file)
    assert "=/" not in row.command
    assert "=~" not in row.command
    assert row.figure


def test_the_readmes_tables_are_their_rows():
    assert ROWS
    call = [sys.executable, ROOT / "scripts" / "tables.py", "--check"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
