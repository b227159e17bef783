"""What the classes of pictures and of a video's frames leave on disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from detkit.data import images
from detkit.errors import DetkitError
from detkit.inference import write_labels
from detkit.inference.sources import Source
from detkit.inference.tables import merge
from detkit.inference.write_labels import LabelWriter
from detkit.predictions import Classification

NAMES = ["cat", "dög, big", "owl", "fox", "elk", "ant", "bee"]
SCORES = torch.tensor([0.05, 0.3, 0.25, 0.15, 0.13, 0.1, 0.02])


def fill(source: Source, output: Path, rank: int = 0, world: int = 1) -> LabelWriter:
    """Each picture is as sure as its mean says, from `SCORES` turned round by it."""
    output.mkdir(exist_ok=True)
    ids = [10 * k for k in range(len(NAMES))]
    writer = LabelWriter(output, NAMES, ids, part=f"rank{rank}" if world > 1 else "")
    for picture in source.pictures(rank, world):
        turned = SCORES.roll(int(picture.image[0, 0, 0]) // 40)
        writer.add(picture, Classification(turned, tuple(NAMES)))
    writer.close()
    writer.close()  # does nothing
    return writer


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def few(tmp_path, put_picture) -> Source:
    for value in (0, 40, 80):
        put_picture(tmp_path / "in" / f"a, {value}.png", (value, value, value))
    return Source(tmp_path / "in")


def test_the_tables_hold_the_five_likeliest_classes(few, tmp_path):
    out = tmp_path / "out"
    assert fill(few, out).found == 3
    assert sorted(p.name for p in out.iterdir()) == [
        "predictions.csv",
        "predictions.json",
        "sheet.jpg",
    ]
    records = json.loads((out / "predictions.json").read_text())
    table = rows(out / "predictions.csv")
    assert len(records) == len(table) == 3
    for shift, (record, row) in enumerate(zip(records, table, strict=True)):
        order = [(k + shift) % 7 for k in (1, 2, 3, 4, 5)]
        assert [one["category"] for one in record["classes"]] == [NAMES[k] for k in order]
        assert [one["category_id"] for one in record["classes"]] == [10 * k for k in order]
        scores = [one["score"] for one in record["classes"]]
        assert scores == pytest.approx([0.3, 0.25, 0.15, 0.13, 0.1])
        assert row["file"] == record["file_name"] == str(tmp_path / "in" / f"a, {40 * shift}.png")
        assert (row["class"], row["class5"]) == (NAMES[order[0]], NAMES[order[4]])
        assert [float(row[f"score{n or ''}"]) for n in (0, 2, 3, 4, 5)] == scores
        assert row["frame"] == row["timestamp"] == ""


def test_the_sheet_shows_the_first_pictures_alone(few, tmp_path, monkeypatch):
    fill(few, tmp_path / "all")
    monkeypatch.setattr(write_labels, "SHOWN", 1)
    fill(few, tmp_path / "one")
    whole, first = (images.read(tmp_path / name / "sheet.jpg") for name in ("all", "one"))
    assert whole.shape[1] == first.shape[1] == 1600
    assert first.shape[0] > whole.shape[0]  # one picture has the sheet's whole width


def test_a_videos_frames_are_rows(shared, tmp_path):
    fill(Source(shared / "video" / "traffic.avi"), tmp_path / "out")
    table = rows(tmp_path / "out" / "predictions.csv")
    assert [int(row["frame"]) for row in table] == list(range(40))
    times = [float(row["timestamp"]) for row in table]
    assert times == sorted(times)
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [r["frame"] for r in records] == list(range(40))


def test_processes_write_what_one_does(tmp_path, put_picture):
    for k in range(5):
        put_picture(tmp_path / "in" / f"{k}.png", (k * 40, 0, 0))
    source, one, three = Source(tmp_path / "in"), tmp_path / "one", tmp_path / "three"
    fill(source, one)
    for rank in range(3):
        fill(source, three, rank, 3)
    merge(three, LabelWriter.tables, ["rank0", "rank1", "rank2"], source.items)
    assert sorted(p.name for p in three.iterdir()) == sorted(p.name for p in one.iterdir())
    for table in LabelWriter.tables:
        assert (three / table).read_text() == (one / table).read_text()


def test_somebodys_own_sheet_stays(few, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "sheet.jpg").write_bytes(b"mine")
    with pytest.raises(DetkitError, match="not predict's"):
        fill(few, out)
    assert (out / "sheet.jpg").read_bytes() == b"mine"


class Showing(Classification):
    """A prediction whose model has a picture of its own."""

    def inside(self, image):
        return image // 2


def test_a_models_own_pictures_lie_beside_the_sheet_and_replace_no_others(few, tmp_path):
    def fill_again():
        writer = LabelWriter(tmp_path / "out", NAMES, range(len(NAMES)))
        for picture in few.pictures():
            writer.add(picture, Showing(SCORES, tuple(NAMES)))
        writer.close()

    (tmp_path / "out").mkdir()
    fill_again()
    folder = tmp_path / "out" / "inside"
    assert sorted(p.name for p in folder.iterdir()) == ["a, 0.jpg", "a, 40.jpg", "a, 80.jpg"]
    assert abs(int(images.read(folder / "a, 80.jpg").mean()) - 40) <= 2
    fill_again()  # its own may be replaced
    (folder / "a, 40.jpg").write_bytes(b"somebody's")
    with pytest.raises(DetkitError, match="which is not predict's"):
        fill_again()
