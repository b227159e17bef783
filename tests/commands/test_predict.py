"""`detkit predict` on real files: what it says, what it leaves, how it ends."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detkit import checkpoint, foreign
from detkit.commands.predict import predict
from detkit.config import CONF
from detkit.data import images
from detkit.draw import save_image
from detkit.errors import DetkitError
from detkit.inference import video
from detkit.models.build import build
from detkit.structures import Classes

CONFIG = {
    "model": {"name": "faster_rcnn", "score_thresh": 0.0, "detections": 5},
    "backbone": {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8},
    "transforms": {"name": "detection", "short_side": 64, "long_side": 96},
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run folder with a small Faster R-CNN of random weights."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = build(CONFIG["model"], {**CONFIG["backbone"], "weights": "none"}, Classes.numbered(2))
    meta = {"config": CONFIG, "names": ["cat", "dog"], "category_ids": [1, 2]}
    checkpoint.save(folder / "best", model.state_dict(), meta)
    return folder


@pytest.fixture
def settings(run_folder, tmp_path):
    def make(source, **changed):
        values = foreign.read_yaml(CONF / "predict.yaml") | {
            "checkpoint": str(run_folder),
            "source": str(source),
            "output": str(tmp_path / "out"),
            "device": "cpu",
            "precision": "fp32",
            "score_thresh": 0.0,
            "truncated_svd": None,
            "agnostic_nms": False,
            "tiles": None,
            "probabilities": False,
            "polygons": False,
            "batch_size": 2,
        }
        return SimpleNamespace(**{**values, **changed})

    return make


def test_a_folder_with_broken_pictures_gives_the_others_and_names_them(
    settings, shared, tmp_path, capsys
):
    told = predict(settings(shared / "photos"))
    said = capsys.readouterr().out
    first, last = said.splitlines()[0], said.splitlines()[-1]
    assert "faster_rcnn (resnet18_fpn, 2 classes) on 37 images, cpu in float32" in first
    assert f"{told['found']} objects in 32 pictures, 5 faults" in last
    assert str(tmp_path / "out") in last
    assert all(name in said for name in ("empty.jpg", "truncated.png", "not_an_image.jpg"))
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert told["pictures"] == 32
    assert len(records) == told["found"] > 32
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 32
    sizes = {r["image_id"]: images.size(Path(r["file_name"])) for r in records}
    for record in records:
        x, y, width, height = record["bbox"]
        rows, columns = sizes[record["image_id"]]
        assert -0.01 <= x <= x + width <= columns + 0.01
        assert -0.01 <= y <= y + height <= rows + 0.01


def test_the_best_score_is_used_and_told(settings, run_folder, tmp_path, capsys):
    """Unless another is given; a class that is not there is an error before any picture."""
    best = shutil.copytree(run_folder, tmp_path / "scored") / "best"
    meta = json.loads((best / "meta.json").read_text())
    figures = {"score_thresh": 0.25, "precision": 0.9, "recall": 0.8, "f1": 0.85}
    point = {**figures, "split": "val", "iou": 0.5, "classes": {"cat": figures}}
    (best / "meta.json").write_text(json.dumps({**meta, "operating_point": point}))
    save_image(tmp_path / "a.png", np.full((40, 60, 3), 90, np.uint8))

    def said(**changed):
        values = {"checkpoint": str(tmp_path / "scored"), "score_thresh": None, **changed}
        predict(settings(tmp_path / "a.png", **values))
        lines = capsys.readouterr().out.splitlines()
        return next(line for line in lines if line.startswith("predicting with"))

    assert said().count("; score from 0.25 (best on val: precision 0.90, recall 0.80)") == 1
    assert "; score from 0.5 (the default)" in said(checkpoint=str(run_folder))
    assert "; score from 0.1 (given), of dog alone" in said(score_thresh=0.1, classes=["dog"])
    said(score_thresh=0.0, classes=["dog"], detections=3, nms_iou=0.9, short_side=32)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        found = [row["class"] for row in csv.DictReader(file)]
    assert 0 < len(found) <= 3
    assert {*found} == {"dog"}
    for changed in ({"score_thresh": {"cow": 0.3}}, {"classes": ["cow"]}):
        with pytest.raises(DetkitError, match="No class 'cow'"):
            said(**changed)
    (best / "meta.json").write_text(json.dumps({**meta, "operating_point": {"score_thresh": 9}}))
    with pytest.raises(DetkitError, match="operating_point holds no scores of its classes"):
        said()


def test_a_clip_is_drawn_whole(settings, shared, tmp_path, capsys):
    told = predict(settings(shared / "video" / "traffic.avi", batch_size=7))
    assert f"videos are {video.written_as()}" in capsys.readouterr().out
    assert (told["pictures"], told["faults"], told["stopped"]) == (40, [], False)
    drawn = [frame for frame, _ in video.open_reader(str(tmp_path / "out" / "traffic.mp4"))]
    plain = [frame for frame, _ in video.open_reader(str(shared / "video" / "traffic.avi"))]
    assert np.shape(drawn) == np.shape(plain)
    assert 1 < np.abs(drawn[9].astype(int) - plain[9]).mean() < 60  # boxes on the same picture


def test_one_broken_picture_is_an_error_and_leaves_earlier_results(settings, shared, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text("of an earlier run")
    with pytest.raises(DetkitError, match=r"truncated\.jpg"):
        predict(settings(shared / "photos" / "truncated.jpg"))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["predictions.json"]
    assert (tmp_path / "out" / "predictions.json").read_text() == "of an earlier run"


def test_results_never_replace_a_source(settings, shared, tmp_path):
    picture = (shared / "photos" / "flower.jpg").read_bytes()
    (tmp_path / "flower.jpg").write_bytes(picture)
    with pytest.raises(DetkitError, match="output=DIR"):
        predict(settings(tmp_path / "flower.jpg", output=str(tmp_path)))
    assert (tmp_path / "flower.jpg").read_bytes() == picture


def test_results_replace_those_of_the_same_command_and_nothing_else(settings, shared, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes((shared / "photos" / "rgba.png").read_bytes())
    original = (shared / "photos" / "flower.jpg").read_bytes()
    (tmp_path / "in" / "a.jpg").write_bytes(original)
    with pytest.raises(DetkitError, match=r"a\.jpg.*not predict's"):
        predict(settings(tmp_path / "in" / "*.png", output=str(tmp_path / "in")))
    assert (tmp_path / "in" / "a.jpg").read_bytes() == original
    assert len(list((tmp_path / "in").iterdir())) == 2
    first, again = (predict(settings(tmp_path / "in" / "*.png")) for _ in range(2))
    assert first == again
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "predictions.json").write_text("mine")
    with pytest.raises(DetkitError, match=r"predictions\.json.*not predict's"):
        predict(settings(tmp_path / "in" / "*.png", output=str(tmp_path / "own")))
    assert (tmp_path / "own" / "predictions.json").read_text() == "mine"


def test_ctrl_c_leaves_whole_files(settings, shared, tmp_path, capsys, monkeypatch):
    from detkit.inference.write import DetectionWriter

    add, added = DetectionWriter.add, []

    def interrupting(self, picture, prediction):
        added.append(picture.frame)
        add(self, picture, prediction)
        if len(added) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(DetectionWriter, "add", interrupting)
    before = signal.getsignal(signal.SIGINT)
    told = predict(settings(shared / "video" / "bikes.mp4"))
    assert told["stopped"]
    assert told["pictures"] == 6  # the batch under way is finished
    assert len(list(video.open_reader(str(tmp_path / "out" / "bikes.mp4")))) == 6
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())[-1]["frame"] == 5
    assert capsys.readouterr().out.splitlines()[-1].startswith("stopped: ")
    assert signal.getsignal(signal.SIGINT) is before
    assert not list((tmp_path / "out").glob("*.partial*"))


def test_an_error_on_the_way_leaves_what_was_written(settings, shared, tmp_path, monkeypatch):
    from detkit.inference.write import DetectionWriter

    add = DetectionWriter.add

    def failing(self, picture, prediction):
        if picture.frame == 4:
            raise OSError("disk full")
        add(self, picture, prediction)

    monkeypatch.setattr(DetectionWriter, "add", failing)
    with pytest.raises(OSError, match="disk full"):
        predict(settings(shared / "video" / "traffic.avi"))
    assert len(list(video.open_reader(str(tmp_path / "out" / "traffic.mp4")))) == 4
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())[-1]["frame"] == 3


def test_two_processes_leave_what_one_leaves(settings, shared, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("flower.jpg", "grey.jpg", "photo.bmp", "truncated.jpg", "rgba.png"):
        (tmp_path / "in" / name).write_bytes((shared / "photos" / name).read_bytes())
    clip = (shared / "video" / "traffic.avi").read_bytes()
    (tmp_path / "in" / "h.avi").write_bytes(clip[: len(clip) // 6])
    alone = predict(settings(tmp_path / "in", output=str(tmp_path / "one"), batch_size=1))
    both = vars(settings(tmp_path / "in", output=str(tmp_path / "two"), batch_size=1))
    script = tmp_path / "both.py"
    script.write_text(
        "from types import SimpleNamespace\n"
        "from detkit.commands.predict import predict\n"
        "from detkit.distributed import stop\n"
        f"predict(SimpleNamespace(**{both!r}))\n"
        "stop()\n"
    )
    root = Path(__file__).resolve().parents[2]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("done: ") == 1
    assert f"{alone['pictures']} pictures, 2 faults" in done.stdout
    one, two = (sorted(p.name for p in (tmp_path / k).iterdir()) for k in ("one", "two"))
    assert one == two
    for name in ("predictions.json", "predictions.csv"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    with (tmp_path / "two" / "predictions.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == alone["found"] + 1


def test_a_name_that_is_too_long_is_a_fault_of_that_picture_alone(settings, shared, tmp_path):
    picture = (shared / "photos" / "flower.jpg").read_bytes()
    (tmp_path / "in").mkdir()
    long = "n" * 250  # its drawn copy still has a name, but a second one's would end in _2
    for name in (f"{long}.jpg", f"{long}.png", "short.jpg", f"{'v' * 250}.mp4"):
        (tmp_path / "in" / name).write_bytes(picture)
    done = predict(settings(tmp_path / "in"))
    assert done["pictures"] == 2
    assert len(done["faults"]) == 2
    assert all("bytes" in fault and "shorten" in fault for fault in done["faults"])
    drawn = {path.name for path in (tmp_path / "out").glob("*.jpg")}
    assert drawn == {f"{long}.jpg", "short.jpg"}
