"""YOLO's text of what was found, beside the other files: `labels/NAME.txt` and `classes.txt`.

A line an object: `class x y width height`, or where it has a mask `class x1 y1 x2 y2 …`, its
outline; all as fractions of the picture's sides. The format knows no scores: those are in the
tables. Labels are there to be corrected by hand, so `labels.csv` has a checksum of each: those that
nobody has touched make way for new ones, others never.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detkit import foreign, ours
from detkit.atomic import write_text
from detkit.errors import DetkitError
from detkit.inference.sources import Picture
from detkit.inference.tables import KEYS, columns_of, csv_lines, csv_row, part_of, place
from detkit.inference.write import Writer, check_tables
from detkit.ops.outline import polygon
from detkit.predictions import Detections

FOLDER, NAMES, TABLE = "labels", "classes.txt", "labels.csv"
COLUMNS = (*KEYS, "label", "crc32", "crc32_of_classes")


class WithYoloText:
    """A writer of detections that leaves YOLO's text, too.

    Args:
        writer: what leaves the rest.
        output: its folder.
        names: of the K classes.
        part: the process's mark in the tables' names, for `merge`.
    Raises:
        DetkitError: the folder has a table of this name that `predict` has not written.
    """

    def __init__(self, writer: Writer, output: Path, names: Sequence[str], part: str = "") -> None:
        self.writer, self.folder = writer, output / FOLDER
        self.tables = (*writer.tables, TABLE)
        check_tables(output, (TABLE,), part)
        self._table = csv_lines(part_of(output / TABLE, part), COLUMNS)
        self.folder.mkdir(exist_ok=True)
        classes = "".join(f"{name}\n" for name in names)
        self._classes = _checksum(classes.encode())
        write_text(output / NAMES, classes)

    @property
    def leaves(self) -> str:
        return f"{self.writer.leaves}, {FOLDER}, {NAMES}, {TABLE}"

    @property
    def found(self) -> int:
        return self.writer.found

    def add(self, picture: Picture, prediction: Any) -> None:
        self.writer.add(picture, prediction)
        if picture.frame is None:
            path = self.folder / f"{picture.item.name}.txt"
        else:
            (self.folder / picture.item.name).mkdir(exist_ok=True)
            path = self.folder / picture.item.name / f"{picture.frame:06d}.txt"
        height, width = picture.image.shape[:2]
        text = "".join(f"{line}\n" for line in lines(prediction, height, width))
        write_text(path, text)
        label, checksum = path.relative_to(self.folder).as_posix(), _checksum(text.encode())
        where = columns_of(place(picture))
        self._table.add(csv_row([*where, label, checksum, self._classes]))

    def close(self) -> None:
        self.writer.close()
        self._table.close()


def untouched_labels(output: Path) -> list[Path]:
    """The labels of an earlier run that are as it wrote them.

    Raises:
        DetkitError: others are there, too.
    """
    table = output / TABLE
    rows: list[dict[str, str]] = []
    if table.is_file() and ours.is_table(table):
        text = foreign.read_bytes(table).decode("utf-8", "surrogateescape")
        rows = list(csv.DictReader(text.splitlines()))
    known = {row["label"]: row["crc32"] for row in rows if row.get("label")}
    labels = [path for path in sorted((output / FOLDER).rglob("*")) if not path.is_dir()]
    checksums = {path: known.get(path.relative_to(output / FOLDER).as_posix()) for path in labels}
    if (output / NAMES).exists():
        checksums[output / NAMES] = rows[0].get("crc32_of_classes") if rows else None
    for path, checksum in checksums.items():
        if not path.is_file() or _checksum(foreign.read_bytes(path)) != checksum:
            raise DetkitError(
                "There are labels here already, which somebody may have corrected.",
                file=path,
                remedy="choose another folder with output=DIR.",
            )
    return labels


def _checksum(text: bytes) -> str:
    return f"{zlib.crc32(text):08x}"


def lines(prediction: Detections, height: int, width: int) -> list[str]:
    """The text's lines; an object whose mask has no pixel has none.

    Args:
        prediction: in pixels of the file's image.
        height, width: of that image.
    """
    found = []
    for i, (label, box) in enumerate(
        zip(prediction.labels.tolist(), prediction.boxes.tolist(), strict=True)
    ):
        if prediction.masks is None:
            x1, y1, x2, y2 = box
            values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height]
            values += [(x2 - x1) / width, (y2 - y1) / height]
        else:
            rows, columns, mask = prediction.window(i)
            corners = polygon(mask) + [columns.start, rows.start]
            values = (corners / [width, height]).ravel().tolist()
        if values:
            found.append(" ".join([str(label), *(f"{value:.7f}" for value in values)]))
    return found
