"""Which files are detkit's own, and may make way for new ones: known by what stands in them.

Anybody may call a file `run.json` or `predictions.csv`, so a name says nothing. An empty file is
nobody's: nothing is lost with it. What is written under a temporary name is known by that name, of
32 random digits, since a kill leaves any part of its contents.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from detkit import foreign
from detkit.errors import DetkitError

HEAD = 10_000  # bytes, of a file whose beginning tells
RUN = {"versions": dict, "seed": int, "data": dict, "calls": list}  # keys of run.json
CONFIG = {"model", "backbone", "dataset", "training", "run_dir"}  # some keys of config.yaml
RESULTS = {"split", "data", "diagnosis"}  # some keys of evaluate's results.json
TABLE = b"file,frame,timestamp,"  # how the columns of predict's tables begin
RECORDS_OF_PREDICT = (  # and the keys of its JSON's records, for boxes and for whole pictures
    {"image_id", "category_id", "bbox", "score", "category", "file_name"},
    {"image_id", "file_name", "classes"},
)
GIVEN = "predictions_given"
_SIGN = b"drawn by detkit"
COMMENT = b"\xff\xfe" + (len(_SIGN) + 2).to_bytes(2, "big") + _SIGN  # a segment of a JPEG
PNG = b"\x89PNG\r\n\x1a\n"
_TEXT = b"tEXtComment\0" + _SIGN  # a chunk of a PNG: length, kind and text, checksum
CHUNK = (len(_TEXT) - 4).to_bytes(4, "big") + _TEXT + zlib.crc32(_TEXT).to_bytes(4, "big")
TIFF = (b"II*\0", b"MM\0*")
BOX = (len(_SIGN) + 8).to_bytes(4, "big") + b"free" + _SIGN  # of an MP4
ENDS = {".mp4": BOX, ".tif": _SIGN}  # of files whose sign is behind the rest
CONTENTS = {"stats", "digests"}  # of each split, in contents.safetensors
CHECKPOINT = ("model.safetensors", "meta.json", "resume.safetensors", "resume.json")
_PART = re.compile(r"\.[0-9a-f]{32}\.part")
_EVENTS = "events.out.tfevents."


def is_run(file: Path) -> bool:
    """Whether it is the `run.json` of a run's folder."""
    record = _json(file)
    return isinstance(record, dict) and all(
        isinstance(record.get(key), kind) for key, kind in RUN.items()
    )


def is_results(file: Path) -> bool:
    """Whether it is the `results.json` of `evaluate`."""
    figures = _json(file)
    return isinstance(figures, dict) and figures.keys() >= RESULTS


def is_of_given(file: Path) -> bool:
    """Whether it is a `results.json` of predictions that somebody gave: it wrote none itself."""
    figures = _json(file)
    return isinstance(figures, dict) and bool(figures.get(GIVEN))


def is_table(file: Path) -> bool:
    """Whether it is a `predictions.csv` or `predictions.json` of `predict`, or one cut short."""
    head = _head(file)
    if head is None or file.suffix != ".json":
        return head is not None and (not head or head.startswith(TABLE))
    lines = [line.strip() for line in head.split(b"\n", 3)]
    if lines == [b""] or (lines[0] == b"[" and set(lines[1:]) <= {b"", b"]"}):
        return True  # nothing was found
    try:
        first = json.loads(lines[1].removesuffix(b",")) if lines[0] == b"[" else None
    except (ValueError, RecursionError, IndexError):
        return False
    return isinstance(first, dict) and any(first.keys() >= keys for keys in RECORDS_OF_PREDICT)


def has_boxes(table: Path) -> bool:
    """Whether a `predictions.csv` or `.json` of `predict` is of objects, with a box each."""
    head = _head(table) or b""
    return b",xmin," in head or b'"bbox"' in head


def signed(picture: bytes) -> bytes:
    """The same JPEG, PNG or TIFF with a comment that tells whose it is; other files as they are."""
    if picture.startswith(TIFF):
        return picture + _SIGN  # behind the pages, which are found by their places
    if picture.startswith(PNG):
        end = len(PNG) + 25  # of the header, which stays the first chunk
        return picture[:end] + CHUNK + picture[end:]
    if not picture.startswith(b"\xff\xd8\xff\xe0"):
        return picture
    end = 4 + int.from_bytes(picture[4:6], "big")  # of the first segment, which stays the first
    return picture[:end] + COMMENT + picture[end:]


def sign_video(file: Path) -> None:
    """Puts a box behind an MP4 that tells whose it is; players leave such boxes out."""
    with file.open("ab") as stream:
        stream.write(BOX)


def is_drawn(file: Path) -> bool:
    """Whether it is a JPEG, a PNG, a TIFF or an MP4 that was drawn here."""
    if end := ENDS.get(file.suffix):
        try:
            with foreign.opened(file) as stream:
                stream.seek(-min(len(end), stream.seek(0, os.SEEK_END)), os.SEEK_END)
                return stream.read() == end
        except (OSError, DetkitError):
            return False
    head = (_head(file) or b"")[:100]
    return COMMENT in head or CHUNK in head


def is_numbers(file: Path) -> bool:
    """Whether it is what a picture of ours shows, as numbers beside it."""
    numbers = _json(file)
    return isinstance(numbers, dict) and str(numbers.get("picture")).startswith(f"{file.stem}.")


def is_part(path: Path) -> bool:
    """Whether it is what a kill left of a file that was being written."""
    return _PART.fullmatch(path.name) is not None and foreign.is_file(path)


def is_new_checkpoint(folder: Path) -> bool:
    """Whether it holds nothing but what a kill left of a checkpoint that was being written."""
    return folder.is_dir() and all(
        (path.name in CHECKPOINT and foreign.is_file(path)) or is_part(path)
        for path in folder.iterdir()
    )


def came_to_nothing(folder: Path) -> bool:
    """Whether a run's folder holds at most what a run writes before its first checkpoint."""
    try:
        there = {path.name: path for path in folder.iterdir()}
        records = {name: path.stat().st_size for name, path in there.items() if name in RECORDS}
        if not records.get("metrics.jsonl"):
            records.pop("metrics.jsonl", None)  # made before run.json
        begun = "run.json" in records
        if records and not (begun and (not any(records.values()) or is_run(there["run.json"]))):
            return False
        return all(_of_a_start(path) for path in there.values())
    except (OSError, DetkitError):
        return False


def clear(folder: Path) -> None:
    """Removes what `came_to_nothing` has found; TensorBoard's folder stays."""
    for path in folder.iterdir():
        if path.name in RECORDS or is_part(path):
            path.unlink()
        elif path.name in NEW:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def _of_a_start(path: Path) -> bool:
    if path.name in RECORDS:
        return foreign.is_file(path) and (not path.stat().st_size or RECORDS[path.name](path))
    if path.name in NEW:
        return is_new_checkpoint(path)
    if path.name == "tensorboard":
        return path.is_dir() and all(file.name.startswith(_EVENTS) for file in path.iterdir())
    return is_part(path)


def _is_config(file: Path) -> bool:
    try:
        settings = foreign.read_yaml(file)
    except (OSError, DetkitError):
        return False
    return isinstance(settings, dict) and settings.keys() >= CONFIG


def _is_classes(file: Path) -> bool:
    names = _json(file)
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _is_log(file: Path) -> bool:
    head = _head(file) or b""
    return head.startswith(b"training ") and " → ".encode() in head


def _is_metrics(file: Path) -> bool:
    try:
        line = json.loads((_head(file) or b"").partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(line, dict) and isinstance(line.get("step"), int)


def _is_contents(file: Path) -> bool:
    try:
        foreign.check_regular(file)
        with safe_open(file, "np") as tensors:
            return {key.rpartition("/")[2] for key in tensors.keys()} == CONTENTS  # noqa: SIM118
    except (OSError, SafetensorError, DetkitError):
        return False


RECORDS: dict[str, Callable[[Path], bool]] = {
    "run.json": is_run,
    "config.yaml": _is_config,
    "classes.json": _is_classes,
    "log.txt": _is_log,
    "contents.safetensors": _is_contents,
    "metrics.jsonl": _is_metrics,
    "data.jpg": is_drawn,
    "data.json": is_numbers,
}
NEW = (".best.new", ".last.new")


def _json(file: Path) -> Any:
    try:
        return foreign.read_json(file)
    except (OSError, ValueError, RecursionError, DetkitError):
        return None


def _head(file: Path) -> bytes | None:
    try:
        with foreign.opened(file) as stream:
            return stream.read(HEAD)
    except (OSError, DetkitError):
        return None
