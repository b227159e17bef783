"""YOLO's text of what was found, beside the other files: `labels/NAME.txt` and `classes.txt`.

A line an object: `class x y width height`, or where it has a mask `class x1 y1 x2 y2 …`, its
outline; all as fractions of the picture's sides. The format knows no scores: those are in the
tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detkit.atomic import write_text
from detkit.errors import DetkitError
from detkit.inference.sources import Picture
from detkit.inference.write import Writer
from detkit.ops.outline import polygon
from detkit.predictions import Detections

FOLDER, NAMES = "labels", "classes.txt"


class WithYoloText:
    """A writer of detections that leaves YOLO's text, too.

    Args:
        writer: what leaves the rest.
        output: its folder.
        names: of the K classes.
    Raises:
        DetkitError: the writer's predictions are no detections, or the folder has files of these
            names that `predict` has not written.
    """

    def __init__(self, writer: Writer, output: Path, names: Sequence[str]) -> None:
        self.writer, self.folder = writer, output / FOLDER
        self.tables = writer.tables
        self.folder.mkdir(exist_ok=True)
        write_text(output / NAMES, "".join(f"{name}\n" for name in names))

    @property
    def leaves(self) -> str:
        return f"{self.writer.leaves}, {FOLDER}, {NAMES}"

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
        write_text(path, "".join(f"{line}\n" for line in lines(prediction, height, width)))

    def close(self) -> None:
        self.writer.close()


def check_labels(output: Path) -> None:
    """Raises where labels are there already: nothing tells predict's from corrected ones."""
    there = [path for path in (output / FOLDER, output / NAMES) if path.exists()]
    if there:
        raise DetkitError(
            "There are labels here already, which somebody may have corrected.",
            file=there[0],
            remedy="choose another folder with output=DIR.",
        )


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
