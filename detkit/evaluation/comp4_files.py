"""VOC's comp4 results: a folder of `*_CLASS.txt`, a line `image score xmin ymin xmax ymax` each.

Pixels are inclusive and count from 1: −1, −1, 0, 0 makes them continuous, as for the XML.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detkit import foreign
from detkit.atomic import write_text
from detkit.errors import DetkitError
from detkit.evaluation.results import Results, find_image, image_index
from detkit.evaluation.yolo_files import is_yolo, read_yolo

if TYPE_CHECKING:
    from detkit.data.records import Records

COMP4_SHIFT = np.array([-1.0, -1.0, 0.0, 0.0])


def read_comp4(folder: Path, records: Records) -> Results:
    """Detections of such a folder, or of YOLO's text files; raises as `files.read`."""
    files = sorted(path for path in folder.glob("*.txt") if path.is_file())
    if not files:  # ultralytics writes them into a folder of their own
        files = sorted(path for path in folder.glob("labels/*.txt") if path.is_file())
    if not files:
        raise DetkitError(
            "The folder holds no text file and no predictions.json.",
            file=folder,
            remedy="name a folder of VOC comp4 results (*_CLASS.txt) or of YOLO's text files, or a"
            " COCO results JSON.",
        )
    index = image_index(records)
    no_class = all(class_of(file.stem, records.names) < 0 for file in files)
    of_images = sum(find_image(index, file.stem) >= 0 for file in files) * 2 > len(files)
    if (no_class or of_images) and is_yolo(files):
        return read_yolo(files, records)
    ids: list[str] = []
    rows: list[list[float]] = []
    labels: list[int] = []
    unknown: Counter[str] = Counter()
    of_class: dict[int, Path] = {}
    for file in files:
        label = class_of(file.stem, records.names)
        if label >= 0 and of_class.setdefault(label, file) != file:
            raise DetkitError(
                f"{of_class[label].name} and {file.name} both hold results of"
                f" {records.names[label]}.",
                file=folder,
                remedy="put each set of results (comp3, comp4 …) into a folder of its own.",
            )
        lines = foreign.glance(file).splitlines()
        if label < 0:  # it may be anything, such as a README.txt
            unknown[file.stem] = sum(bool(line.strip()) for line in lines)
            continue
        lines = foreign.read_text(file, errors="surrogateescape").splitlines()
        for number, line in enumerate(lines, 1):
            if line.strip():
                image, values = _comp4_row(line, number, file)
                ids.append(image)
                rows.append(values)
                labels.append(label)
    table = np.array(rows, np.float64).reshape(-1, 5)
    found = Results(
        images=np.array([find_image(index, image) for image in ids], np.int64),
        boxes=table[:, 1:] + COMP4_SHIFT,
        scores=table[:, 0],
        labels=np.array(labels, np.int64),
    )
    return replace(found.known(ids, labels), unknown_classes=unknown)


def _comp4_row(line: str, number: int, file: Path) -> tuple[str, list[float]]:
    """Image and (score, xmin, ymin, xmax, ymax) of one line, or the error that names it."""
    image, *words = line.strip().rsplit(maxsplit=5)  # an image's name may hold spaces
    try:
        values = [float(word) for word in words]
        _, xmin, ymin, xmax, ymax = values
        if not all(map(math.isfinite, values)):
            problem = "holds a number that is not finite"
        elif min(xmax - xmin, ymax - ymin) < -1.000001:  # a box without a side is allowed
            problem = "has an inverted box"
        else:
            return image, values
    except ValueError as error:
        problem = f"is not a detection ({error})"
    raise DetkitError(
        f"{line.strip()!r} {problem}.",
        file=file,
        record=f"line {number}",
        remedy="a line is: image score xmin ymin xmax ymax.",
    )


def class_of(stem: str, names: Sequence[str]) -> int:
    """Label of the longest class name that is the stem or ends it behind `_`; −1 if none does."""
    fitting = [
        (len(name), k)
        for k, name in enumerate(names)
        if stem == _file_name(name) or stem.endswith(f"_{_file_name(name)}")
    ]
    return max(fitting)[1] if fitting else -1


def _file_name(name: str) -> str:
    """A class name as a part of a file name."""
    return name.replace("/", "-").replace("\\", "-")


def write_comp4(
    results: Results, records: Records, folder: str | Path, prefix: str = "comp4_det_test"
) -> None:
    """Write a folder of VOC comp4 text files, one per class, empty where nothing was found."""
    boxes = results.boxes - COMP4_SHIFT
    for label, name in enumerate(records.names):
        chosen = np.flatnonzero(results.labels == label)
        values = np.column_stack([results.scores[chosen], boxes[chosen]]).tolist()
        images = [records.image_ids[i] for i in results.images[chosen].tolist()]
        lines = (" ".join([i, *map(repr, row)]) for i, row in zip(images, values, strict=True))
        write_text(Path(folder) / f"{prefix}_{_file_name(name)}.txt", lines)
