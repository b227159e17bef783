"""A pipe or a device where a file belongs is refused by name; nothing waits for it."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from folders import three, write_coco, write_voc, write_yolo

import detkit
from detkit import checkpoint, foreign
from detkit.backbones import pretrained
from detkit.data import images, open_dataset
from detkit.errors import DetkitError
from detkit.evaluation import files
from detkit.inference.write import is_ours

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
pytestmark = needs_pipes


class Waited(Exception):
    """The code under test hung."""


@contextmanager
def at_once():
    """Ends a block that waits for ever."""

    def end(*_):
        raise Waited

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def coco(root):
    return write_coco(root, three())


def voc(root):
    return write_voc(root, three(), {"train": "abc"})


def yolo(root):
    return write_yolo(root, three())


@pytest.mark.parametrize(
    ("make", "name", "file"),
    [
        (coco, "coco", "*/a.jpg"),
        (coco, "coco", "annotations/*.json"),
        (voc, "voc", "JPEGImages/a.jpg"),
        (voc, "voc", "Annotations/a.xml"),
        (voc, "voc", "ImageSets/Main/train.txt"),
        (yolo, "yolo_text", "labels/train/a.txt"),
        (yolo, "yolo_text", "data.yaml"),
    ],
)
def test_a_pipe_in_a_data_set_is_no_file(make, name, file, tmp_path):
    root = make(tmp_path)
    open_dataset({"name": name, "root": str(root)}, "train")  # whole, it opens
    path = pipe(next(iter(sorted(root.rglob(file))), root / file))
    read: list[str] = []
    with at_once(), suppress(DetkitError):
        read = list(open_dataset({"name": name, "root": str(root)}, "train").files)
    assert path.name not in {Path(one).name for one in read}  # an error, or not there


@pytest.mark.parametrize(
    "read",
    [
        images.read,
        images.size,
        images.check,
        images.read_values,
        checkpoint.find,
        checkpoint.read_json,
        checkpoint.read_tensors,
        pretrained.read,
        foreign.read_yaml,
        foreign.read_text,
        detkit.load,
        lambda path: files.read(path, None),
    ],
)
def test_a_pipe_is_refused_by_name(read, tmp_path):
    path = pipe(tmp_path / "x.jpg")
    with at_once(), pytest.raises(DetkitError, match=r"x\.jpg: This is a named pipe") as error:
        read(path)
    assert error.value.remedy


def test_a_device_is_refused_though_it_could_be_read():
    with at_once(), pytest.raises(DetkitError, match="is a device"):
        foreign.read_bytes("/dev/zero")


def test_a_pipe_with_somebody_at_its_other_end_is_refused_too(tmp_path):
    path = pipe(tmp_path / "x.json")
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        with at_once(), pytest.raises(DetkitError, match="named pipe"):
            foreign.read_bytes(path)
    finally:
        os.close(writer)


def test_a_link_to_a_file_is_one(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to("a")
    assert foreign.read_bytes(tmp_path / "b") == b"x"
    with pytest.raises(IsADirectoryError):
        foreign.opened(tmp_path)
    with pytest.raises(FileNotFoundError):
        foreign.opened(tmp_path / "c")
    assert not foreign.is_file(tmp_path)


def test_a_pipe_among_the_tables_marks_no_folder(tmp_path):
    pipe(tmp_path / "predictions.csv")
    with at_once():
        assert not is_ours(tmp_path)


@pytest.mark.parametrize("path", ["a\0b.jpg", "~a\0b", "a\0b/c"])
@pytest.mark.parametrize("read", [images.read, detkit.load, lambda path: files.read(path, None)])
def test_a_name_that_no_file_can_have_is_told(read, path):
    with pytest.raises(DetkitError, match="name"):
        read(path)


def laughs(levels: int = 30) -> str:
    """YAML of a few lines that stands for ten to the `levels` values."""
    lines = ["l0: &l0 lol"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + f"\nlast: *l{levels - 1}\n"


@pytest.mark.parametrize("key", ["names", "train", "path", "kpt_shape", "nc"])
def test_aliases_that_swell_are_refused(key, tmp_path):
    root = yolo(tmp_path)
    (root / "data.yaml").write_text(laughs().replace("last:", f"{key}:"))
    started = time.process_time()
    with at_once(), pytest.raises(DetkitError, match="stands for a value elsewhere") as error:
        open_dataset({"name": "yolo_text", "root": str(root)}, "train")
    assert "line 2" in error.value.record
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "names: [" * 5000,
        "- " * 5000,
        "names: " + "9" * 5000,
        "names: 2024-13-45",
        "names: !!python/object/apply:os.system [true]",
        "? [a]\n: b",
        "names: 'a",
        "names: '" + "x" * (2 << 20) + "'",
        "\x01",
    ],
)
def test_yaml_that_cannot_be_read_is_told_in_short(text, tmp_path):
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with at_once(), pytest.raises(DetkitError, match=r"data\.yaml") as error:
        foreign.read_yaml(file)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("value", [{"a": 1}, [["x"]], "2024-01-01", 1.5])
@pytest.mark.parametrize("key", ["train", "path"])
def test_a_path_of_another_type_is_told_with_its_key(key, value, tmp_path):
    root = yolo(tmp_path)
    text = value if isinstance(value, str) else json.dumps(value)
    content = {"train": "images/train", "names": '["cat", "dog"]', key: text}
    (root / "data.yaml").write_text("\n".join(f"{k}: {v}" for k, v in content.items()))
    with pytest.raises(DetkitError, match=f"{key} names .* no path"):
        open_dataset({"name": "yolo_text", "root": str(root)}, "train")
