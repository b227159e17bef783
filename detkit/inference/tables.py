"""The tables of predictions, a line a record: written while they come, joined from processes'."""

from __future__ import annotations

import csv
import heapq
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit import foreign
from detkit.inference.sources import Item, Picture

JSON, CSV = "predictions.json", "predictions.csv"
KEYS = ("file", "frame", "timestamp")  # what every table's columns begin with, see `place`


def partial(path: Path) -> Path:
    """The temporary name that a file has until it is whole."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


class Lines:
    """A text file of a head, records of one line each, and a tail.

    Args:
        between: what stands between two records.
    """

    def __init__(self, path: Path, head: str = "", between: str = "\n", tail: str = "\n") -> None:
        self.path, self._between, self._tail = path, between, tail
        # File names of any bytes survive: surrogateescape writes them back as they were.
        self._file = partial(path).open("w", encoding="utf-8", errors="surrogateescape", newline="")
        self._file.write(head)
        self._file.flush()  # the head of a table marks the folder, see `_heads`
        self.count = 0

    def add(self, record: str) -> None:
        self._file.write(f"{self._between}{record}" if self.count else record)
        self.count += 1

    def close(self) -> None:
        if self._file.closed:
            return
        self._file.write(self._tail if self.count else self._tail.lstrip("\n"))
        self._file.close()
        partial(self.path).replace(self.path)


def json_lines(path: Path) -> Lines:
    """A JSON list that `json.load` and pycocotools read, one record a line."""
    return Lines(path, "[\n", ",\n", "\n]\n")


def csv_lines(path: Path, columns: Sequence[str]) -> Lines:
    return Lines(path, csv_row(columns) + "\n")


def csv_row(values: Sequence[Any]) -> str:
    buffer = io.StringIO()
    # Python 3.11 quotes a line break only if it is one of the terminator's
    csv.writer(buffer, lineterminator="\r\n").writerow(["" if v is None else v for v in values])
    return buffer.getvalue().removesuffix("\r\n")


def place(picture: Picture) -> dict[str, Any]:
    """The values of `KEYS`, as records call them; without those that the picture does not have.

    `frame` is the number in a video, or of the page in a TIFF with several, both from 0.
    """
    page = picture.item.page
    values = {
        "file_name": picture.item.file,
        "frame": picture.frame if page is None else page,
        "timestamp": rounded(picture.seconds),
    }
    return {key: value for key, value in values.items() if value is not None}


def columns_of(place: Mapping[str, Any]) -> list[Any]:
    """The same as a row of a table begins."""
    return [place.get(key) for key in ("file_name", "frame", "timestamp")]


def merge(output: Path, tables: Sequence[str], parts: Sequence[str], items: Sequence[Item]) -> None:
    """Joins the tables of several processes, in the order of the source, and removes the parts."""
    order = {item.file: number for number, item in enumerate(items)}
    for table in tables:
        paths = [part_of(output / table, part) for part in parts]
        if table == JSON:
            whole, read = json_lines(output / table), _json_records
        else:
            whole, read = csv_lines(output / table, next(_csv_rows(paths[0]))), _csv_records
        placed = (
            ((order[file], frame, line) for file, frame, line in read(path)) for path in paths
        )
        for *_, line in heapq.merge(*placed, key=lambda record: record[:2]):
            whole.add(line)
        whole.close()
        for path in paths:
            path.unlink()


def part_of(path: Path, part: str) -> Path:
    return path.with_name(f"{path.stem}.{part}{path.suffix}") if part else path


def _json_records(path: Path) -> Iterator[tuple[str, int, str]]:
    """The file and the frame that each record is about, and the record's text."""
    with io.TextIOWrapper(foreign.opened(path), "utf-8") as file:
        for line in file:
            if line.startswith("{"):
                text = line.rstrip().removesuffix(",")
                record = json.loads(text)
                yield record["file_name"], record.get("frame", 0), text


def _csv_rows(path: Path) -> Iterator[list[str]]:
    stream = foreign.opened(path)
    with io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="") as file:
        yield from csv.reader(file)


def _csv_records(path: Path) -> Iterator[tuple[str, int, str]]:
    rows = _csv_rows(path)
    next(rows)
    return ((row[0], int(row[1] or 0), csv_row(row)) for row in rows)


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
