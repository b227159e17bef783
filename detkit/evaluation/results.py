"""Detections of a whole data set as flat arrays, and the two files that the world keeps them in.

COCO results are one JSON list of `{image_id, category_id, bbox: [x, y, width, height], score}`. VOC's
comp4 results are a folder of `*_CLASS.txt`, a line `image score xmin ymin xmax ymax` each, in inclusive
pixels that count from 1: −1, −1, 0, 0 makes them continuous, as for the XML.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detkit.errors import DetkitError

if TYPE_CHECKING:
    from detkit.data.records import Records

COMP4_SHIFT = np.array([-1.0, -1.0, 0.0, 0.0])
COMP4_LINE = "a line is: image score xmin ymin xmax ymax"


@dataclass(frozen=True)
class Results:
    """D detections.

    Attributes:
        images: (D,) int64, index of the image in the records.
        boxes: (D, 4) float64, xyxy, pixels of the file's image.
        scores: (D,) float64, any scale.
        labels: (D,) int64, 0 … K−1.
        masks: D run-length records (`size`, `counts`), or None.
        unknown_images: how many detections were left out for each image id that the data lack.
        unknown_classes: the same for category ids or class names.
    """

    images: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Sequence[dict[str, Any]] | None = None
    unknown_images: Counter[str] = field(default_factory=Counter)
    unknown_classes: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def empty() -> Results:
        none = np.zeros(0, np.int64)
        return Results(none, np.zeros((0, 4)), np.zeros(0), none)

    def select(self, keep: np.ndarray) -> Results:
        """The detections that `keep` (a bool mask or indices) names."""
        places = np.arange(len(self))[keep]
        return replace(
            self,
            images=self.images[places],
            boxes=self.boxes[places],
            scores=self.scores[places],
            labels=self.labels[places],
            masks=None if self.masks is None else [self.masks[i] for i in places],
        )


def read(path: str | Path, records: Records) -> Results:
    """Detections from a COCO results JSON or a folder of VOC comp4 text files.

    Detections of images or classes that the records lack are left out and counted.

    Raises:
        DetkitError: no such file, or a row that is not a detection (with its place).
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return read_comp4(path, records)
    if not path.exists():
        raise DetkitError(
            "There is no such file.",
            file=path,
            remedy="name a COCO results JSON or a folder of VOC comp4 text files (*_CLASS.txt).",
        )
    return read_coco(path, records)


def read_coco(path: Path, records: Records) -> Results:
    """Detections from a COCO results JSON; see `read`."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DetkitError(
            f"This is not JSON that can be read ({error}).",
            file=path,
            remedy="write the results again; a file that ends early was cut.",
        ) from error
    if not isinstance(rows, list):
        raise DetkitError(
            f"COCO results are a list, this is a {type(rows).__name__}.",
            file=path,
            remedy="give the list of {image_id, category_id, bbox, score} alone"
            " (a ground-truth file goes to dataset.annotations).",
        )
    parsed = [_coco_row(row, i, path) for i, row in enumerate(rows)]
    index = image_index(records)
    label_of = {int(category): k for k, category in enumerate(records.category_ids)}
    images = [find_image(index, row["image_id"]) for row in rows]
    labels = [label_of.get(_integer(row["category_id"]), -1) for row in rows]
    boxes = np.array([box for box, _ in parsed], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = [row.get("segmentation") for row in rows]
    results = Results(
        images=np.array(images, np.int64),
        boxes=boxes,
        scores=np.array([score for _, score in parsed], np.float64),
        labels=np.array(labels, np.int64),
        masks=masks if masks and all(masks) else None,
    )
    return _known(results, [row["image_id"] for row in rows], [row["category_id"] for row in rows])


def _coco_row(row: Any, i: int, path: Path) -> tuple[Sequence[float], float]:
    """Box (x, y, width, height) and score of one row, or the error that names it."""
    problem = None
    if not isinstance(row, dict):
        problem = f"This is no object but {str(row)[:80]!r}."
    elif missing := [key for key in ("image_id", "category_id", "score") if key not in row]:
        problem = f"It has no {' and no '.join(missing)}."
    elif "bbox" not in row and "segmentation" not in row:
        problem = "It has neither bbox nor segmentation."
    else:
        try:
            score, box = float(row["score"]), row.get("bbox") or _box_of(row["segmentation"])
            x, y, width, height = map(float, box)
            if not all(map(math.isfinite, (score, x, y, width, height))):
                problem = f"Score {score} and box {box} are not all finite."
            elif width < 0 or height < 0:
                problem = f"The box {box} has a negative side."
            else:
                return (x, y, width, height), score
        except (TypeError, ValueError, KeyError, IndexError) as error:
            problem = f"Score {row['score']!r} or box {row.get('bbox')!r} cannot be read ({error})."
    raise DetkitError(
        problem,
        file=path,
        record=f"result {i} (from 0)",
        remedy="a result is {image_id, category_id, bbox: [x, y, width, height], score}.",
    )


def _box_of(segmentation: dict[str, Any]) -> list[float]:
    from pycocotools import mask

    return mask.toBbox(segmentation).tolist()


def read_comp4(folder: Path, records: Records) -> Results:
    """Detections from a folder of VOC comp4 text files; see `read`."""
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise DetkitError(
            "The folder holds no text file.",
            file=folder,
            remedy="name a folder of VOC comp4 results (*_CLASS.txt) or a COCO results JSON.",
        )
    index = image_index(records)
    ids: list[str] = []
    rows: list[list[float]] = []
    classes: list[str] = []
    labels: list[int] = []
    for file in files:
        label = class_of(file.stem, records.names)
        name = file.stem if label < 0 else records.names[label]
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                image, values = _comp4_row(line, number, file)
                ids.append(image)
                rows.append(values)
                classes.append(name)
                labels.append(label)
    values = np.array(rows, np.float64).reshape(-1, 5)
    results = Results(
        images=np.array([find_image(index, image) for image in ids], np.int64),
        boxes=values[:, 1:] + COMP4_SHIFT,
        scores=values[:, 0].copy(),
        labels=np.array(labels, np.int64),
    )
    return _known(results, ids, classes)


def _comp4_row(line: str, number: int, file: Path) -> tuple[str, list[float]]:
    """Image and (score, xmin, ymin, xmax, ymax) of one line, or the error that names it."""
    place = {"file": file, "record": f"line {number}", "remedy": f"{COMP4_LINE}."}
    image, *words = line.strip().rsplit(maxsplit=5)  # an image's name may hold spaces
    try:
        score, xmin, ymin, xmax, ymax = values = [float(word) for word in words]
    except ValueError as error:
        raise DetkitError(f"{line.strip()!r} is not a detection ({error}).", **place) from error
    if not all(map(math.isfinite, values)):
        raise DetkitError(f"{line.strip()!r} holds a number that is not finite.", **place)
    if xmax < xmin - 1 or ymax < ymin - 1:
        raise DetkitError(f"The box {xmin} {ymin} {xmax} {ymax} is inverted.", **place)
    return image, values


def class_of(stem: str, names: Sequence[str]) -> int:
    """Label of the longest class name that is the stem or ends it behind `_`; −1 if none does."""
    fitting = [
        (len(name), k)
        for k, name in enumerate(names)
        if stem == comp4_name(name) or stem.endswith(f"_{comp4_name(name)}")
    ]
    return max(fitting)[1] if fitting else -1


def comp4_name(name: str) -> str:
    """A class name as a part of a file name."""
    return name.replace("/", "-").replace("\\", "-")


def image_index(records: Records) -> dict[str, int]:
    """Index of each image by its id; an all-digit id also without its leading zeros."""
    exact = {image: i for i, image in enumerate(records.image_ids)}
    numbers: dict[str, int] = {}
    for image, i in exact.items():
        if image.isdecimal():
            short = str(int(image))
            numbers[short] = -1 if short in numbers else i  # −1: two ids are the same number
    return {**{short: i for short, i in numbers.items() if i >= 0}, **exact}


def find_image(index: dict[str, int], image: Any) -> int:
    """Index of an image id as a results file gives it, −1 if there is none."""
    text = str(int(image)) if isinstance(image, float) and image.is_integer() else str(image)
    if text not in index and text.isdecimal():
        text = str(int(text))
    return index.get(text, -1)


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _known(results: Results, ids: Sequence[Any], classes: Sequence[Any]) -> Results:
    """Without the detections of unknown images (index −1) and classes (label −1), but counted."""
    return replace(
        results.select((results.images >= 0) & (results.labels >= 0)),
        unknown_images=Counter(str(ids[i]) for i in np.flatnonzero(results.images < 0)),
        unknown_classes=Counter(str(classes[i]) for i in np.flatnonzero(results.labels < 0)),
    )


def to_coco(results: Results, records: Records) -> list[dict[str, Any]]:
    """COCO result records; `read` makes the same results of them."""
    boxes = results.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    rows = []
    for n, (image, label, box, score) in enumerate(
        zip(
            results.images.tolist(),
            results.labels.tolist(),
            boxes.tolist(),
            results.scores.tolist(),
            strict=True,
        )
    ):
        row = {
            "image_id": records.image_id(image),
            "category_id": int(records.category_ids[label]),
            "bbox": box,
            "score": score,
        }
        rows.append(row if results.masks is None else {**row, "segmentation": results.masks[n]})
    return rows


def write_coco(results: Results, records: Records, path: str | Path) -> None:
    """Write a COCO results JSON."""
    write_text(path, json.dumps(to_coco(results, records)))


def write_comp4(
    results: Results, records: Records, folder: str | Path, prefix: str = "comp4_det_test"
) -> None:
    """Write a folder of VOC comp4 text files, one per class, an empty one where nothing was found."""
    boxes = results.boxes - COMP4_SHIFT
    for label, name in enumerate(records.names):
        chosen = np.flatnonzero(results.labels == label)
        values = np.column_stack([results.scores[chosen], boxes[chosen]]).tolist()
        images = [records.image_ids[i] for i in results.images[chosen]]
        lines = (
            " ".join([image, *map(repr, row)]) for image, row in zip(images, values, strict=True)
        )
        write_text(Path(folder) / f"{prefix}_{comp4_name(name)}.txt", lines)


def write_text(path: str | Path, text: str | Iterable[str]) -> None:
    """Write a text, or lines, so that the file is whole or absent: under another name, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text if isinstance(text, str) else "".join(f"{line}\n" for line in text))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
