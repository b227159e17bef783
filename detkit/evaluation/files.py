"""Files that the world keeps detections in: whose a path is, and COCO's results.

COCO results are one JSON list of `{image_id, category_id, bbox: [x, y, width, height], score}`.
VOC's and YOLO's are folders of text files (`comp4_files`, `yolo_files`).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from detkit import foreign
from detkit.atomic import write_text
from detkit.errors import DetkitError
from detkit.evaluation.comp4_files import read_comp4
from detkit.evaluation.results import Results, find_image, find_label, image_index
from detkit.folders import in_home
from detkit.ops.run_lengths import packed, sound

if TYPE_CHECKING:
    from detkit.data.records import Records


def read(path: str | Path, records: Records) -> Results:
    """Detections from a COCO results JSON, predict's folder, VOC's comp4 or YOLO's text files.

    Detections of images or classes that the records lack are left out and counted.

    Raises:
        DetkitError: no such file, or a row that is not a detection (with its place).
    """
    path = in_home(path)
    if path.is_dir():
        found = path / "predictions.json"  # a folder of predict's or evaluate's
        return _read_coco(found, records) if found.is_file() else read_comp4(path, records)
    if not foreign.is_file(path):
        raise DetkitError(
            "There is no such file.",
            file=path,
            remedy="name a COCO results JSON or a folder of VOC comp4 text files (*_CLASS.txt).",
        )
    return _read_coco(path, records)


def _read_coco(path: Path, records: Records) -> Results:
    try:
        rows = foreign.read_json(path)
    except (ValueError, OSError, RecursionError) as error:
        raise DetkitError(
            f"This is not JSON that can be read ({error}).",
            file=path,
            remedy="give the predictions.json beside the table."
            if path.suffix == ".csv"
            else "write the results again; a file that ends early was cut.",
        ) from error
    if not isinstance(rows, list):
        raise DetkitError(
            f"COCO results are a list, this is a {type(rows).__name__}.",
            file=path,
            remedy="give the list of {image_id, category_id, bbox, score} alone"
            " (a ground-truth file goes to dataset.annotations).",
        )
    values = np.array([_coco_row(row, i, path) for i, row in enumerate(rows)], np.float64)
    values = values.reshape(-1, 5)
    values[:, 3:] += values[:, 1:3]
    ids = [row["image_id"] for row in rows]
    categories = [row["category_id"] for row in rows]
    masks = [_coco_mask(row, i, path) for i, row in enumerate(rows)]
    return Results(
        images=_images(rows, records),
        boxes=values[:, 1:],
        scores=values[:, 0],
        labels=_labels(rows, records),
        masks=[mask for mask in masks if mask] if masks and all(masks) else None,
    ).known(ids, categories)


def _images(rows: Sequence[dict[str, Any]], records: Records) -> np.ndarray:
    """Index of each row's image: by the file, where the row names one of the data's, else by id.

    `predict` knows no ids but the files' stems; its rows name the files as well.
    """
    index = image_index(records)
    place = _places(
        {name for row in rows if isinstance(name := row.get("file_name"), str)}, records
    )
    found = []
    for row in rows:
        name = row.get("file_name")
        i = place.get(name, -1) if isinstance(name, str) else -1
        found.append(i if i >= 0 else find_image(index, row["image_id"]))
    return np.array(found, np.int64)


def _places(names: set[str], records: Records) -> dict[str, int]:
    """Index of the image of each file name whose path ends as one image's, and no other's, does."""
    by_name: dict[str, list[int]] = {}
    for i, file in enumerate(records.files):
        by_name.setdefault(Path(file).name, []).append(i)  # ours, of this machine
    best: dict[int, list[tuple[int, str]]] = {}
    for name in names:
        known = by_name.get(_parts(name)[-1], []) if _parts(name) else []
        ends = sorted((_common_end(name, records.files[i]), i) for i in known)
        if ends and (len(ends) == 1 or ends[-1][0] > ends[-2][0]):
            best.setdefault(ends[-1][1], []).append((ends[-1][0], name))
    found = {}
    for i, claims in best.items():
        claims.sort()
        if len(claims) == 1 or claims[-1][0] > claims[-2][0]:
            found[claims[-1][1]] = i
    return found


def _common_end(one: str, other: str) -> int:
    """How many parts, from the last one on, two paths share."""
    parts = zip(reversed(_parts(one)), reversed(_parts(other)), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], parts)))


def _parts(name: str) -> tuple[str, ...]:
    """Of a path of any machine; a backslash is in no name that Windows knows."""
    return PurePosixPath(name.replace("\\", "/")).parts


def _labels(rows: Sequence[dict[str, Any]], records: Records) -> np.ndarray:
    """Label of each row: by the class's name where `predict` gave it, else by the category's id."""
    by_id = {category: k for k, category in enumerate(records.category_ids.tolist())}
    by_name = {name: k for k, name in enumerate(records.names)}
    found = []
    for row in rows:
        category = row.get("category") if "file_name" in row else None
        label = by_name.get(category, -1) if isinstance(category, str) else -1
        found.append(label if label >= 0 else find_label(by_id, row["category_id"]))
    return np.array(found, np.int64)


def _coco_row(row: Any, i: int, path: Path) -> tuple[float, ...]:
    """Score, x, y, width, height of one row, or the error that names it."""
    if not isinstance(row, dict):
        problem = f"This is no object but {str(row)[:80]!r}."
    elif missing := [key for key in ("image_id", "category_id", "score") if key not in row]:
        problem = f"It has no {' and no '.join(missing)}."
    elif not row.get("bbox") and not row.get("segmentation"):
        problem = "It has neither bbox nor segmentation."
    elif (box := row.get("bbox") or _box_of(row.get("segmentation"))) is None:
        problem = "It has no bbox, and its segmentation is no run-length mask to take one from."
    else:
        try:
            x, y, width, height = map(_number, box)
            score = _number(row["score"])
            if not all(map(math.isfinite, (score, x + width, y + height, width * height))):
                problem = f"Score {score} and box {box} are not all finite."
            elif width < 0 or height < 0:
                problem = f"The box {box} has a negative side."
            else:
                return score, x, y, width, height
        except (TypeError, ValueError, OverflowError):
            problem = f"Score {row['score']!r} and box {box!r} are not a number and four."
    raise DetkitError(
        problem,
        file=path,
        record=f"result {i} (from 0)",
        remedy="a result is {image_id, category_id, bbox: [x, y, width, height], score}.",
    )


def _coco_mask(row: dict[str, Any], i: int, path: Path) -> dict[str, Any] | None:
    """The run lengths of a row; None where it has none (polygons are no results of COCO's)."""
    mask = row.get("segmentation")
    if not isinstance(mask, dict):
        return None
    match mask.get("size"):
        case [int(height), int(width)] if sound(mask.get("counts"), height * width):
            counts = packed(mask["counts"], height, width)
            return {"size": [height, width], "counts": counts}
    raise DetkitError(
        f"Its run lengths are not those of a mask of size {mask.get('size')!r}."[:200],
        file=path,
        record=f"result {i} (from 0)",
        remedy="write the mask anew: {size: [height, width], counts: …}.",
    )


def _number(value: Any) -> float:
    if isinstance(value, (bool, str)):  # which float() would take
        raise TypeError
    return float(value)


def _box_of(segmentation: Any) -> list[float] | None:
    """x, y, width, height around a run-length mask, None if it is no such thing."""
    from pycocotools import mask

    try:
        return mask.toBbox(segmentation).tolist()
    except Exception:  # its C code raises whatever it stumbles over
        return None


def to_coco(results: Results, records: Records) -> list[dict[str, Any]]:
    """COCO result records; `read` makes the same results of them."""
    boxes = np.column_stack([results.boxes[:, :2], results.boxes[:, 2:] - results.boxes[:, :2]])
    categories = records.category_ids[results.labels]
    columns = (results.images, categories, boxes, results.scores)
    rows = [
        {"image_id": records.image_id(image), "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(*(c.tolist() for c in columns), strict=True)
    ]
    for row, mask in zip(rows, results.masks or (), strict=False):
        row["segmentation"] = mask
    return rows


def write_coco(results: Results, records: Records, path: str | Path) -> None:
    """Write a COCO results JSON."""
    write_text(path, json.dumps(to_coco(results, records)))
