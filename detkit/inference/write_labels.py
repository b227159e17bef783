"""What the classes of pictures leave on disk: two tables, a sheet of the first pictures, and what a
model has to show of its inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from detkit.draw import as_rgb, eight_bit, save_image
from detkit.inference.sources import Picture
from detkit.inference.tables import (
    CSV,
    JSON,
    KEYS,
    columns_of,
    csv_lines,
    csv_row,
    json_lines,
    part_of,
    place,
)
from detkit.inference.write import check_drawn, check_tables
from detkit.plots.contact import contact_sheet
from detkit.predictions import Classification

SHEET = "sheet.jpg"
INSIDE = "inside"  # the folder of `Classification.inside`
BEST = 5  # classes that are told of a picture
SHOWN = 40  # pictures on the sheet
COLUMNS = 8
SIDE = 200  # pixels that they are kept at until then


class LabelWriter:
    """`predictions.json` and `predictions.csv` with the five likeliest classes, and `sheet.jpg`.

    A row of the table, and a record of the JSON file, is a picture or a video's frame. The sheet
    shows the first pictures; of several processes those of the first one. Of these a model's own
    pictures, such as CapsNet's reconstructions, are `inside/NAME.jpg`.

    Args:
        output: the folder, which exists.
        names, category_ids: of the K classes.
        part: the process's mark in the tables' names, for `merge`.
        videos: as for the other writers; no video is drawn.
    """

    tables: ClassVar[tuple[str, ...]] = (JSON, CSV)
    leaves: ClassVar[str] = f"{SHEET}, {JSON}, {CSV}"

    def __init__(
        self,
        output: Path,
        names: Sequence[str],
        category_ids: Sequence[int],
        *,
        part: str = "",
        videos: bool = True,
    ) -> None:
        self.category_ids, self.best = category_ids, min(BEST, len(names))
        check_tables(output, self.tables, part)
        check_drawn(output / SHEET)
        columns = [f"{what}{n or ''}" for n in _numbers(self.best) for what in ("class", "score")]
        self._json = json_lines(part_of(output / JSON, part))
        self._csv = csv_lines(part_of(output / CSV, part), [*KEYS, *columns])
        self._sheet = output / SHEET if part in ("", "rank0") else None
        self._shown: list[tuple[np.ndarray, str]] = []
        self.found = 0

    def add(self, picture: Picture, prediction: Classification) -> None:
        best = [(name, round(score, 6)) for name, score in prediction.best(self.best)]
        labels = prediction.scores.topk(self.best).indices.tolist()
        records = [
            {"category_id": self.category_ids[label], "category": name, "score": score}
            for label, (name, score) in zip(labels, best, strict=True)
        ]
        where = place(picture)
        self._json.add(json.dumps({"image_id": picture.image_id, **where, "classes": records}))
        values = (value for pair in best for value in pair)
        self._csv.add(csv_row([*columns_of(where), *values]))
        if self._sheet and len(self._shown) < SHOWN:
            self._shown.append((_small(picture.image), prediction.caption(0.0)))
            if (inside := prediction.inside(picture.image)) is not None:
                file = _inside_path(self._sheet.parent, picture)
                check_drawn(file)
                save_image(file, inside)
                self.leaves = f"{SHEET}, {INSIDE}/, {JSON}, {CSV}"  # type: ignore[misc]
        self.found += 1

    def close(self) -> None:
        self._json.close()
        self._csv.close()
        if self._sheet and self._shown:
            pictures, captions = zip(*self._shown, strict=True)
            save_image(self._sheet, contact_sheet(pictures, captions, columns=COLUMNS))
        self._sheet = None


def _inside_path(output: Path, picture: Picture) -> Path:
    """`inside/NAME.jpg` of an image, `inside/NAME_000012.jpg` of a video's frame."""
    (output / INSIDE).mkdir(exist_ok=True)
    frame = "" if picture.frame is None else f"_{picture.frame:06d}"
    return output / INSIDE / f"{picture.item.name}{frame}.jpg"


def _numbers(count: int) -> list[int]:
    """The first class's columns have no number: 0, 2, 3 …"""
    return [0, *range(2, count + 1)]


def _small(image: np.ndarray) -> np.ndarray:
    """A copy for the sheet: forty photos as they are would take gigabytes."""
    picture = as_rgb(eight_bit(image))
    scale = SIDE / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return cv2.resize(picture, size, interpolation=how)
