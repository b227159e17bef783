"""What lies in the output folder afterwards."""

from __future__ import annotations

import csv
import json
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from detkit.data import images
from detkit.errors import DetkitError
from detkit.inference import video
from detkit.inference.sources import Source
from detkit.inference.tables import csv_lines, csv_row, merge
from detkit.inference.tasks import tasks
from detkit.inference.write import check_free


def fill(predictor, source: Source, output: Path, rank: int = 0, world: int = 1, **settings):
    part = f"rank{rank}" if world > 1 else ""
    writer = tasks[predictor.model.task].writer(
        output, predictor.names, predictor.category_ids, part=part, **settings
    )
    for pictures, found in predictor.batches(source.pictures(rank, world), 3):
        for picture, one in zip(pictures, found, strict=True):
            writer.add(picture, one)
    writer.close()
    return writer


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def few(tmp_path, put_picture) -> Source:
    """Pictures of odd names whose means are 204, 51 and 0 of 255."""
    colours = {"[ab].jpg": 204, "it's (1).jpg": 51, 'é 图, "x".png': 0}
    for name, value in colours.items():
        put_picture(tmp_path / "in" / name, (value, value, value))
    return Source(tmp_path / "in")


def test_the_tables_hold_every_object_with_its_file(predictor_of, detector, few, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    writer = fill(predictor_of(detector, 0.05), few, out)
    records = json.loads((out / "predictions.json").read_text())
    table = rows(out / "predictions.csv")
    assert writer.found == len(records) == len(table) == 4  # the black picture has none
    assert [r["category_id"] for r in records] == [3, 7, 3, 7]
    for record, row in zip(records, table, strict=True):
        assert Path(record["file_name"]).stem == record["image_id"]
        assert (row["file"], row["class"]) == (record["file_name"], record["category"])
        x, y, width, height = record["bbox"]
        sides = [float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")]
        assert sides == [x, y, x + width, y + height] == [0, 0, 4, 3]
        assert float(row["score"]) == record["score"]
        assert row["frame"] == row["timestamp"] == ""
    assert {r["image_id"] for r in records} == {"[ab]", "it's (1)"}
    assert names(out) == sorted(
        ["[ab].jpg", "it's (1).jpg", 'é 图, "x".jpg', "predictions.csv", "predictions.json"]
    )
    assert images.read(out / "[ab].jpg").shape == (6, 8, 3)


def test_pycocotools_loads_the_records(predictor_of, detector, few, tmp_path):
    fill(predictor_of(detector, 0.05), few, tmp_path)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": Path(item.path).stem} for item in few.items],
        "categories": [{"id": 3}, {"id": 7}],
        "annotations": [],
    }
    truth.createIndex()
    assert len(truth.loadRes(str(tmp_path / "predictions.json")).getAnnIds()) == 4


def test_no_object_at_all_leaves_empty_tables_and_drawn_pictures(
    predictor_of, detector, few, tmp_path
):
    fill(predictor_of(detector, 1.0), few, tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text()) == []
    assert rows(tmp_path / "predictions.csv") == []
    assert (tmp_path / "predictions.csv").read_text().startswith("file,frame,timestamp,class")
    assert (tmp_path / "[ab].jpg").exists()


@pytest.mark.parametrize("clip", ["bikes.mp4", "traffic.avi"])
def test_a_drawn_clip_has_the_sources_frames_size_and_rate(
    predictor_of, detector, shared, tmp_path, clip
):
    source = Source(shared / "video" / clip)
    fill(predictor_of(detector), source, tmp_path)
    before = video.open_reader(str(shared / "video" / clip))
    after = video.open_reader(str((tmp_path / clip).with_suffix(".mp4")))
    first, second = (list(reader) for reader in (before, after))
    assert len(first) == len(second) == after.frames
    assert first[0][0].shape == second[0][0].shape
    assert before.rate == after.rate
    records = json.loads((tmp_path / "predictions.json").read_text())
    assert [r["frame"] for r in records[::2]] == list(range(len(first)))
    times = [r["timestamp"] for r in records[::2]]
    assert np.allclose(times, [seconds for _, seconds in first], atol=1e-6)
    assert np.allclose([seconds for _, seconds in second], times, atol=1e-4)
    assert len({r["image_id"] for r in records}) == len(first)
    assert [float(r["timestamp"]) for r in rows(tmp_path / "predictions.csv")[::2]] == times


def test_a_clip_can_go_undrawn(predictor_of, detector, shared, tmp_path):
    fill(predictor_of(detector), Source(shared / "video" / "traffic.avi"), tmp_path, videos=False)
    assert names(tmp_path) == ["predictions.csv", "predictions.json"]


def test_two_clips_and_a_picture_are_drawn_apart(
    predictor_of, detector, shared, tmp_path, put_picture
):
    source, out = tmp_path / "in", tmp_path / "out"
    out.mkdir()
    put_picture(source / "a.jpg")
    for name in ("a.avi", "b.avi"):
        (source / name).write_bytes((shared / "video" / "traffic.avi").read_bytes())
    fill(predictor_of(detector), Source(source), out)
    drawn = {p.suffix: p for p in out.iterdir() if p.stem.startswith("a")}
    assert drawn.keys() == {".jpg", ".mp4"}
    assert len(list(out.glob("*.mp4"))) == 2
    assert all(len(list(video.open_reader(str(p)))) == 40 for p in out.glob("*.mp4"))


def test_until_closed_nothing_has_its_final_name_and_then_nothing_its_temporary_one(
    predictor_of, detector, shared, tmp_path
):
    predictor = predictor_of(detector)
    earlier = "[\n\n]\n"
    (tmp_path / "predictions.json").write_text(earlier)
    (tmp_path / "predictions.csv").write_text("file,frame,timestamp,class\n")
    writer = tasks["detect"].writer(tmp_path, predictor.names, predictor.category_ids)
    stream = Source(shared / "video" / "traffic.avi").pictures()
    for (picture,), (found,) in islice(predictor.batches(stream), 7):
        writer.add(picture, found)
    assert (tmp_path / "predictions.json").read_text() == earlier
    assert not (tmp_path / "traffic.mp4").exists()
    writer.close()
    assert names(tmp_path) == ["predictions.csv", "predictions.json", "traffic.mp4"]
    assert len(list(video.open_reader(str(tmp_path / "traffic.mp4")))) == 7
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 14


@pytest.mark.parametrize("task", ["detect", "segment_pixels"])
def test_the_tables_of_three_processes_join_to_those_of_one(
    predictor_of, detector, segmenter, shared, tmp_path, put_picture, task
):
    predictor = predictor_of(detector if task == "detect" else segmenter)
    for k in range(7):
        put_picture(tmp_path / "in" / f'{k}, "odd"\nname.jpg', (k * 30 + 20, 100, 0))
    clip = (shared / "video" / "traffic.avi").read_bytes()
    (tmp_path / "in" / "2z.avi").write_bytes(clip[: len(clip) // 4])
    source = Source(tmp_path / "in")
    one, three = tmp_path / "one", tmp_path / "three"
    one.mkdir()
    three.mkdir()
    fill(predictor, source, one)
    writer, *_ = (fill(predictor, source, three, rank, 3) for rank in (0, 1, 2))
    assert "predictions.rank2.csv" in names(three)
    merge(three, writer.tables, ["rank0", "rank1", "rank2"], source.items)
    assert names(three) == names(one)
    assert rows(three / "predictions.csv") == rows(one / "predictions.csv") != []
    if task == "detect":
        read = [json.loads((folder / "predictions.json").read_text()) for folder in (one, three)]
        assert read[0] == read[1] != []


@pytest.mark.parametrize("task", ["detect", "segment_pixels"])
def test_each_page_of_a_stack_has_its_number(predictor_of, detector, segmenter, tmp_path, task):
    predictor = predictor_of(detector if task == "detect" else segmenter)
    pages = [Image.new("RGB", (8, 6), (k * 30 + 20, 100, 0)) for k in range(5)]
    pages[0].save(tmp_path / "volume.tif", save_all=True, append_images=pages[1:])
    source = Source(tmp_path / "volume.tif")
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    fill(predictor, source, one)
    found = rows(one / "predictions.csv")
    assert [row["frame"] for row in found] == sorted(row["frame"] for row in found)
    assert {row["frame"] for row in found} == {str(page) for page in range(5)}
    assert {row["timestamp"] for row in found} == {""}
    assert {row["file"] for row in found} == {str(tmp_path / "volume.tif")}
    writer, _ = (fill(predictor, source, two, rank, 2) for rank in (0, 1))
    merge(two, writer.tables, ["rank0", "rank1"], source.items)
    assert rows(two / "predictions.csv") == found
    if task == "detect":
        records = json.loads((two / "predictions.json").read_text())
        assert [r["image_id"] for r in records] == [f"volume_{r['frame']:03d}" for r in records]


def test_a_pixel_model_leaves_masks_overlays_and_shares(predictor_of, segmenter, shared, tmp_path):
    picture = np.zeros((20, 32, 3), np.uint8)
    picture[:, :8, 2], picture[:, 8:, 1] = 255, 255  # BGR: a quarter red, the rest green
    cv2.imwrite(str(tmp_path / "half.png"), picture)
    out = tmp_path / "out"
    out.mkdir()
    fill(predictor_of(segmenter), Source(tmp_path / "half.png"), out)
    mask = images.read_values(out / "masks" / "half.png")
    assert mask.shape == (20, 32)
    assert (mask == (np.arange(32) >= 8)).mean() > 0.95
    (row,) = rows(out / "predictions.csv")
    shares = [float(row["cat"]), float(row["dög, big"])]
    assert shares == pytest.approx([(mask == 0).mean(), (mask == 1).mean()])
    assert names(out) == ["half.jpg", "masks/half.png", "predictions.csv"]
    cut = (shared / "video" / "traffic.avi").read_bytes()
    (tmp_path / "clip.avi").write_bytes(cut[: len(cut) // 4])
    fill(predictor_of(segmenter), Source(tmp_path / "clip.avi"), out)
    frames = rows(out / "predictions.csv")
    assert len(list((out / "masks" / "clip").iterdir())) == len(frames) > 5
    assert (out / "clip.mp4").exists()
    assert (out / "half.jpg").exists()  # of the run before


def test_sixteen_bit_pictures_are_drawn(predictor_of, detector, shared, tmp_path):
    fill(predictor_of(detector), Source(shared / "photos" / "rgb_16bit.png"), tmp_path)
    drawn = images.read(tmp_path / "rgb_16bit.jpg")
    assert drawn.std() > 10


def test_a_drawn_copy_never_replaces_its_source(tmp_path, put_picture):
    put_picture(tmp_path / "a.jpg")
    put_picture(tmp_path / "b.png")
    with pytest.raises(DetkitError, match=r"a\.jpg.*replace"):
        check_free(tmp_path, Source(tmp_path).items)
    with pytest.raises(DetkitError, match="output="):
        check_free(tmp_path / ".." / tmp_path.name, Source(tmp_path / "a.jpg").items)
    check_free(tmp_path, Source(tmp_path / "b.png").items)
    check_free(tmp_path / "out", Source(tmp_path).items)


def test_a_drawn_copy_replaces_only_one_of_an_earlier_run(
    predictor_of, detector, tmp_path, put_picture
):
    put_picture(tmp_path / "in" / "scan.png")
    source, out = Source(tmp_path / "in"), tmp_path / "out"
    put_picture(out / "scan.jpg")  # someone's original
    with pytest.raises(DetkitError, match=r"scan\.jpg.*not predict's"):
        check_free(out, source.items)
    (out / "predictions.csv").write_text("file,label\n")  # nor is that ours
    with pytest.raises(DetkitError, match=r"scan\.jpg"):
        check_free(out, source.items)
    (out / "predictions.csv").unlink()
    (out / "scan.jpg").unlink()
    fill(predictor_of(detector), source, out)
    check_free(out, source.items)
    put_picture(out / "scan.jpg")  # an original again, beside our own tables
    with pytest.raises(DetkitError, match=r"scan\.jpg.*not predict's"):
        check_free(out, source.items)


@pytest.mark.parametrize("beside", ["nothing", "ours"])
@pytest.mark.parametrize("part", ["", ".partial"])
@pytest.mark.parametrize("table", ["predictions.json", "predictions.csv"])
def test_a_table_of_someone_elses_stays(predictor_of, detector, few, tmp_path, table, part, beside):
    if beside == "ours":
        fill(predictor_of(detector), few, tmp_path)
    mine = (tmp_path / table).with_stem(f"predictions{part}")
    mine.write_text("mine")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DetkitError, match=f"{mine.name}.*not predict's"):
        fill(predictor_of(detector), few, tmp_path)
    assert mine.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == before


def test_somebody_elses_half_video_stays(tmp_path, shared):
    source = Source(shared / "video" / "traffic.avi")
    (tmp_path / "traffic.partial.mp4").write_text("mine")
    with pytest.raises(DetkitError, match=r"traffic\.partial\.mp4.*not predict's"):
        check_free(tmp_path, source.items)


def test_masks_of_someone_elses_stay(predictor_of, detector, segmenter, few, tmp_path, put_picture):
    mine = put_picture(tmp_path / "out" / "masks" / "it's (1).png").read_bytes()
    out = tmp_path / "out"
    with pytest.raises(DetkitError, match="masks here already"):
        fill(predictor_of(segmenter), few, out)
    fill(predictor_of(detector), few, out)  # it writes no masks, and does not make them its own
    with pytest.raises(DetkitError, match="masks here already"):
        fill(predictor_of(segmenter), few, out)
    assert (out / "masks" / "it's (1).png").read_bytes() == mine
    again = tmp_path / "again"
    again.mkdir()
    fill(predictor_of(segmenter), few, again)
    fill(predictor_of(segmenter), few, again)
    assert len(list((again / "masks").iterdir())) == 3


def test_a_run_that_was_killed_can_be_repeated(predictor_of, segmenter, few, tmp_path):
    predictor = predictor_of(segmenter)
    left = tasks["segment_pixels"].writer(tmp_path, predictor.names, predictor.category_ids)
    for pictures, found in predictor.batches(few.pictures()):
        left.add(pictures[0], found[0])
    assert not (tmp_path / "predictions.csv").exists()  # `left` is never closed
    check_free(tmp_path, few.items)
    fill(predictor, few, tmp_path)


@pytest.mark.parametrize("name", ["two\nlines.jpg", "a\rb.jpg", 'it"s, new\r\n.jpg'])
def test_a_row_of_any_file_name_reads_back(tmp_path, name):
    table = csv_lines(tmp_path / "t.csv", ["file", "frame"])
    table.add(csv_row([name, None]))
    table.close()
    assert rows(tmp_path / "t.csv") == [{"file": name, "frame": ""}]


def test_a_file_name_that_is_no_text_survives(predictor_of, detector, tmp_path, put_picture):
    import os

    source = put_picture(tmp_path / "in" / "a.jpg")
    odd = os.fsdecode(bytes(source.parent) + b"/\xff\xfe.jpg")
    try:
        source.rename(odd)
    except OSError:
        pytest.skip("this file system takes names of valid text only")
    fill(predictor_of(detector), Source(tmp_path / "in"), tmp_path)
    (first, *_) = json.loads((tmp_path / "predictions.json").read_text())
    assert first["file_name"] == rows(tmp_path / "predictions.csv")[0]["file"] == odd
