"""A folder of YOLO text results: a file an image, a line `class x y width height score` each.

So ultralytics and yolov5 write with `save_txt` and `save_conf`; numbers are fractions of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detkit import foreign
from detkit.errors import DetkitError
from detkit.evaluation.results import Results, find_image, image_index

if TYPE_CHECKING:
    from detkit.data.records import Records

COLUMNS = 6  # class, x, y, width, height, score


def is_yolo(files: Sequence[Path]) -> bool:
    """Whether the first line of the first file that has one is a class and four or five numbers."""
    for file in files:
        fields = next(
            (line.split() for line in foreign.glance(file).splitlines() if line.strip()), []
        )
        if fields:
            return len(fields) in (COLUMNS - 1, COLUMNS) and all(map(_is_number, fields))
    return False


def read_yolo(files: Sequence[Path], records: Records) -> Results:
    """
    Args:
        files: named like the images, without their suffix.
        records: with the sizes of the images; the file's classes are numbers of its names from 0.
    Raises:
        DetkitError: boxes without scores, a line that is no detection, an image of unknown size.
    """
    index = image_index(records)
    ids: list[str] = []
    numbers: list[int] = []
    rows: list[list[float]] = []
    for file in files:
        image = _image(file, index)
        for number, line in enumerate(foreign.read_text(file).splitlines(), 1):
            if line.strip():
                ids.append(file.stem)
                values = _row(line, number, file)
                numbers.append(int(values[0]))
                rows.append([image, *values[1:]])
    table = np.array(rows, np.float64).reshape(-1, COLUMNS)
    images = table[:, 0].astype(np.int64)
    sizes = records.sizes[images][:, [1, 0, 1, 0]].astype(np.float64)
    if ((sizes == 0).any(1) & (images >= 0)).any():
        raise DetkitError(
            "The boxes are fractions of images whose size is not known: the annotations do not say"
            " it.",
            file=files[0],
            remedy="write the sizes into the annotations (COCO: width and height of each image).",
        )
    centre, extent = table[:, 1:3] * sizes[:, :2], table[:, 3:5] * sizes[:, 2:]
    known = range(len(records.names))
    return Results(
        images=images,
        boxes=np.hstack([centre - extent / 2, centre + extent / 2]),
        scores=table[:, 5],
        labels=np.array([number if number in known else -1 for number in numbers], np.int64),
    ).known(ids, numbers)


def _image(file: Path, index: dict[str, int]) -> int:
    """By the file's stem; where ids are paths, by their last part."""
    found = find_image(index, file.stem)
    if found >= 0:
        return found
    ends = [i for image, i in index.items() if Path(image).name == file.stem]
    return ends[0] if len(ends) == 1 else -1


def _row(line: str, number: int, file: Path) -> list[float]:
    fields = line.split()
    values = [float(field) for field in fields] if all(map(_is_number, fields)) else []
    if len(values) == COLUMNS and values[0] % 1 == 0 and all(map(math.isfinite, values)):
        return values
    problem = f"{line.strip()[:80]!r} is not `class x y width height score`"
    remedy = "correct the line."
    if len(values) == COLUMNS - 1:
        problem = "These are YOLO's boxes without scores, which nothing can be measured by"
        remedy = "write them with scores (ultralytics: save_txt=True save_conf=True)."
    raise DetkitError(f"{problem}.", file=file, record=f"line {number}", remedy=remedy)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
