"""Files make way because of what stands in them, never because of their names."""

from __future__ import annotations

import json
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from detkit import checkpoint, ours
from detkit.draw import save_image
from detkit.errors import DetkitError
from detkit.inference import video
from detkit.inference.write import InstanceWriter
from detkit.training import run_folder

RUN = json.dumps({"versions": {}, "seed": 0, "data": {}, "weights": {}, "calls": []})
CONFIG = yaml.safe_dump(dict.fromkeys(sorted(ours.CONFIG)))
LOG = "training unet (unet_encoder) on 3 images → runs/1\n"
BEGUN = {"run.json": RUN, "config.yaml": CONFIG, "classes.json": '["a"]', "log.txt": LOG}


def fill(folder: Path, files: dict[str, str]) -> dict[Path, str]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return {folder / name: text for name, text in files.items()}


def create(folder: Path) -> Path:
    with ExitStack() as stack:
        return run_folder.create(str(folder), "unet", "shapes", stack)


@pytest.mark.parametrize(
    "left",
    [
        {},
        {"metrics.jsonl": "", "tensorboard/events.out.tfevents.1": "x"},  # before run.json
        {"." + "0a" * 16 + ".part": "half"},
        BEGUN | {"metrics.jsonl": ""},
        BEGUN | {"metrics.jsonl": '{"step": 20, "loss": 1.0}\n'},
        BEGUN | {".last.new/model.safetensors": "half"},
        BEGUN | {".best.new/meta.json": "{}", f".best.new/.{'0' * 32}.part": ""},
    ],
)
def test_a_run_that_was_killed_before_its_first_save_begins_again_in_its_folder(left, tmp_path):
    fill(tmp_path, left)
    assert create(tmp_path) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= {"tensorboard"}


FOREIGN = {
    "run.json": '{"script": "mine.py"}',
    "config.yaml": "lr: 0.1\n",
    "classes.json": '{"a": 1}',
    "log.txt": "dear diary\n",
    "metrics.jsonl": '{"accuracy": 1}\n',
    ".last.new/thesis.txt": "mine",
    ".best.new/sub/model.safetensors": "mine",
    "tensorboard/notes.txt": "mine",
    ".mine.part": "mine",
    "anything": "mine",
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("begun", [{}, BEGUN], ids=["alone", "beside ours"])
def test_what_somebody_else_wrote_stays_whatever_it_is_called(name, begun, tmp_path):
    there = fill(tmp_path, begun | {name: FOREIGN[name]})
    with pytest.raises(DetkitError, match="not empty"):
        create(tmp_path)
    assert {path: path.read_text() for path in there} == there


def test_a_metrics_file_alone_may_be_any_tools(tmp_path):
    there = fill(tmp_path, {"metrics.jsonl": '{"step": 20, "loss": 1.0}\n'})
    with pytest.raises(DetkitError, match="not empty"):
        create(tmp_path)
    assert {path: path.read_text() for path in there} == there


def test_a_save_clears_away_its_own_leftovers_alone(tmp_path):
    folder, meta = tmp_path / "best", {"config": {}, "names": ["a"], "category_ids": [1]}
    fill(tmp_path, {".best.new/model.safetensors": "half"})
    checkpoint.save(folder, {}, meta)
    checkpoint.save(folder, {}, meta)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    fill(tmp_path, {"best/notes.txt": "mine", "best/sub/more.txt": "mine"})
    checkpoint.save(folder, {}, meta)  # what the user put beside the weights goes along
    assert (folder / "notes.txt").read_text() == (folder / "sub/more.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    fill(tmp_path, {".best.new/thesis.txt": "mine"})
    with pytest.raises(DetkitError, match=r"\.best\.new"):
        checkpoint.save(folder, {}, meta)
    assert (tmp_path / ".best.new/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "text", "own"),
    [
        ("predictions.csv", "file,frame,timestamp,class\n", True),
        ("predictions.csv", "", True),
        ("predictions.csv", "file,label\n", False),
        ("predictions.json", "[\n\n]\n", True),
        ("predictions.json", "[\n", True),
        ("predictions.json", "[]", False),
        ("predictions.json", "mine", False),
        ("predictions.json", '[\n{"image_id": 1, "category_id": 1, "bbox": [], "score": 1}', False),
        (
            "predictions.json",
            '[\n{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1,'
            ' "category": "a", "file_name": "a.jpg"},\n{"image',
            True,
        ),
    ],
)
def test_a_table_is_known_by_its_head(name, text, own, tmp_path):
    (tmp_path / name).write_text(text)
    assert ours.is_table(tmp_path / name) == own


def test_index_masks_and_videos_bear_a_sign(tmp_path):
    mask = np.random.default_rng(0).integers(0, 300, (20, 30)).astype(np.uint16)
    path = save_image(tmp_path / "a.png", mask)
    assert ours.is_drawn(path)
    assert (np.asarray(Image.open(path)) == mask).all()
    Image.open(path).save(tmp_path / "b.png")
    assert not ours.is_drawn(tmp_path / "b.png")
    clock = SimpleNamespace(rate=Fraction(25), time_base=Fraction(1, 12800), frames=0, fault=None)
    writer = video.open_writer(tmp_path / "a.mp4", clock, (32, 48))
    for frame in range(4):
        writer.write(np.full((32, 48, 3), 40 * frame, np.uint8), frame / 25)
    writer.close()
    assert not ours.is_drawn(tmp_path / "a.mp4")
    ours.sign_video(tmp_path / "a.mp4")
    assert ours.is_drawn(tmp_path / "a.mp4")
    assert len(list(video.open_reader(str(tmp_path / "a.mp4")))) == 4


def test_somebodys_masks_are_left_alone_beside_a_table_of_ours(tmp_path):
    made = InstanceWriter(tmp_path, ["cat"], [1])
    made.close()
    save_image(tmp_path / "masks/a.png", np.zeros((4, 4), np.uint8))
    InstanceWriter(tmp_path, ["cat"], [1]).close()
    Image.new("L", (4, 4)).save(tmp_path / "masks/mine.png")
    with pytest.raises(DetkitError, match="not predict's") as caught:
        InstanceWriter(tmp_path, ["cat"], [1])
    assert caught.value.file.name == "mine.png"
