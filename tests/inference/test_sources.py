"""What `source=` finds, in which order and under which names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detkit.errors import DetkitError
from detkit.inference import sources
from detkit.inference.sources import Source

ODD = ["it's (1).jpg", "[ab].jpg", "été ünïcode 图.jpg", "with  spaces.jpg", "a=b,c.jpg", "#$&.jpg"]


@pytest.fixture
def picture(put_picture):
    return put_picture


def files(source) -> list[str]:
    return [Path(item.path).name for item in Source(source).items]


@pytest.mark.parametrize("name", ODD)
def test_a_file_of_any_name_is_found_and_read(tmp_path, name, picture):
    picture(tmp_path / name)
    (one,) = Source(tmp_path / name).pictures()
    assert one.image.shape == (6, 8, 3)
    assert one.image_id == Path(name).stem


def test_an_existing_file_comes_before_a_pattern_and_a_camera(tmp_path, monkeypatch, picture):
    monkeypatch.chdir(tmp_path)
    for name in ("[ab].jpg", "a.jpg", "b.jpg"):
        picture(tmp_path / name)
    assert files("[ab].jpg") == ["[ab].jpg"]
    assert files("[abc].jpg") == ["a.jpg", "b.jpg"]
    assert Source("0").items[0].path == 0
    (tmp_path / "0").write_bytes((tmp_path / "a.jpg").read_bytes())
    assert Source("0").items[0].path == "0"
    assert len(list(Source("0").pictures())) == 1  # an image without an ending


def test_a_folder_gives_its_images_and_videos_in_natural_order(tmp_path, picture):
    for name in ("10.jpg", "9.JPG", "b2.png", "b10.png", "B1.png", ".hidden.jpg", "sub/x.jpg"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no")
    (tmp_path / "c.mp4").write_bytes(b"")
    assert files(tmp_path) == ["9.JPG", "10.jpg", "B1.png", "b2.png", "b10.png", "c.mp4"]
    assert files(f"{tmp_path}/**/*.jpg") == ["10.jpg", "x.jpg"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("photo", "Did you mean .*photos"),
        ("photos/*.png", "photos/"),
        ("photos/empty", "known endings"),
        ("photos/texts/*", "no image"),
        (".", r"photos|\*\*/\*.jpg"),
        ("20240115123000", "No file, folder or pattern"),
        ("~nobody-of-this-name/a.jpg", "home folder of ~nobody-of-this-name"),
    ],
)
def test_a_source_without_pictures_is_an_error_with_a_remedy(
    tmp_path, monkeypatch, source, told, picture
):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "empty").mkdir()
    (tmp_path / "photos" / "texts").mkdir()
    (tmp_path / "photos" / "texts" / "a.txt").write_text("no")
    with pytest.raises(DetkitError, match=told):
        Source(source)


def test_pictures_in_folders_of_folders_are_named_by_their_own_ending(tmp_path, picture):
    picture(tmp_path / "val" / "cat" / "1.png")
    with pytest.raises(DetkitError, match="only in folders below it") as caught:
        Source(tmp_path)
    pattern = caught.value.remedy.split("'")[1]
    assert pattern == f"{tmp_path}/**/*.png"
    assert len(Source(pattern).items) == 1


def test_the_home_folder_is_written_as_a_tilde(tmp_path, monkeypatch, picture):
    monkeypatch.setenv("HOME", str(tmp_path))
    picture(tmp_path / "p" / "a.jpg")
    assert files("~/p") == files("~/p/*.jpg") == files("~/p/a.jpg") == ["a.jpg"]


def test_broken_pictures_do_not_stop_the_others(shared):
    source = Source(shared / "photos")
    read = [one.item.name for one in source.pictures()]
    broken = {Path(fault.file).name for fault in source.faults}
    assert broken == {
        *("empty.jpg", "not_an_image.jpg", "truncated.jpg", "truncated.png"),
        "truncated_progressive.jpg",
    }
    assert len(read) == len(source.items) - 5 == 32
    assert source.count() == 37


def test_a_clip_comes_frame_by_frame_with_its_times(shared):
    source = Source(shared / "video" / "traffic.avi")
    frames = list(source.pictures())
    assert source.count() == len(frames) == 40
    assert [f.frame for f in frames] == list(range(40))
    assert frames[3].seconds == pytest.approx(0.1)
    assert frames[3].image_id == "traffic_000003"


def test_a_cut_clip_is_a_fault_that_names_file_and_frame(shared, tmp_path):
    data = (shared / "video" / "traffic.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    source = Source(tmp_path)
    frames = list(source.pictures())
    (fault,) = source.faults
    assert "cut.avi" in str(fault)
    assert f"{len(frames)} of 40" in str(fault)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_processes_share_the_images_and_the_first_takes_the_videos(
    shared, tmp_path, world, picture
):
    for k in range(5):
        picture(tmp_path / f"{k}.jpg")
    clip = (shared / "video" / "traffic.avi").read_bytes()
    (tmp_path / "2a.avi").write_bytes(clip)
    source = Source(tmp_path)
    shares = [
        [(one.item.name, one.frame) for one in source.pictures(rank, world)]
        for rank in range(world)
    ]
    assert [len(share) for share in shares] == [source.count(rank, world) for rank in range(world)]
    everything = [(one.item.name, one.frame) for one in source.pictures()]
    assert sorted((one for share in shares for one in share), key=str) == sorted(
        everything, key=str
    )
    assert len(everything) == 45
    assert all(frame is None for share in shares[1:] for _, frame in share)


def test_names_of_several_folders_and_endings_stay_apart(tmp_path, picture):
    for name in ("a/x.jpg", "a/x.png", "a/X.bmp", "b/x.jpg", "b/x_2.jpg", "b/7.jpg", "b/007.jpg"):
        picture(tmp_path / name)
    items = Source(f"{tmp_path}/*/*").items
    assert len({item.name.casefold() for item in items}) == 7
    assert {Path(i.path).name: i.name for i in items}["x_2.jpg"] == "x_2"  # it keeps its own
    ids = [one.image_id for one in Source(f"{tmp_path}/*/*").pictures()]
    assert len(set(ids)) == 7
    assert 7 in ids


@given(st.lists(st.text("aA01_", min_size=1, max_size=3), max_size=12))
def test_names_and_ids_are_unique_whatever_the_stems(stems):
    items = sources._named([f"{k}/{stem}.jpg" for k, stem in enumerate(stems)])
    pictures = [sources.Picture(np.zeros(0), item) for item in items]
    assert len({item.name.casefold() for item in items}) == len(stems)
    assert len({str(one.image_id).casefold() for one in pictures}) == len(stems)
    assert len({(one.image_id) for one in pictures}) == len(stems)


def test_a_streams_password_is_in_no_name(monkeypatch):
    (item,) = Source("rtsp://user:secret@10.0.0.7:554/live?token=secret").items
    assert item.video
    assert "secret" not in item.name
    assert "user:secret" not in item.file
    assert item.file.startswith("rtsp://10.0.0.7")


def test_an_absent_camera_is_a_fault_that_names_it():
    source = Source("97")
    assert list(source.pictures()) == []
    assert "Camera 97" in str(source.faults[0])


def test_each_page_of_a_stack_is_a_picture(tmp_path):
    pages = [Image.new("L", (6, 5), 40 * n) for n in range(3)]
    pages[0].save(tmp_path / "volume.tif", save_all=True, append_images=pages[1:])
    pages[2].save(tmp_path / "volume_001.tif")
    source = Source(tmp_path)
    names = [item.name for item in source.items]
    assert names == ["volume_000", "volume_001", "volume_002", "volume_001_2"]
    found = [int(picture.image[0, 0, 0]) for picture in source.pictures()]
    assert found == [0, 40, 80, 80]
    bands = Source(tmp_path / "volume.tif", channels=2)
    assert list(bands.pictures()) == []
    assert "has 3 bands, not 2" in str(bands.faults[0])
