"""COCO's average precision and recall (Lin et al. 2014), by COCO's own code.

pycocotools is the reference. hotcoco, if it is installed, gives the same figures bit for bit in a
fraction of the time (a test compares them) and is used then.

Crowd regions are ignored by COCO's rules. VOC's difficult objects are ordinary objects here: COCO
has no such flag, and calling them crowds would change how detections on them are matched.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detkit.evaluation.results import Results
from detkit.evaluation.voc import mean

if TYPE_CHECKING:
    from detkit.data.records import Records

ALL, SMALL, MEDIUM, LARGE = range(4)  # COCO's area ranges: sides of 32 and 96 pixels divide them
EVERY = slice(None)
# figure: (table, overlap thresholds 0.50 … 0.95, area range, most detections an image: 1, 10, 100)
FIGURES: dict[str, tuple[str, Any, int, int]] = {
    "AP": ("precision", EVERY, ALL, 2),
    "AP50": ("precision", [0], ALL, 2),
    "AP75": ("precision", [5], ALL, 2),
    "APs": ("precision", EVERY, SMALL, 2),
    "APm": ("precision", EVERY, MEDIUM, 2),
    "APl": ("precision", EVERY, LARGE, 2),
    "AR1": ("recall", EVERY, ALL, 0),
    "AR10": ("recall", EVERY, ALL, 1),
    "AR100": ("recall", EVERY, ALL, 2),
    "ARs": ("recall", EVERY, SMALL, 2),
    "ARm": ("recall", EVERY, MEDIUM, 2),
    "ARl": ("recall", EVERY, LARGE, 2),
}
BY_CLASS = ("AP", "AP50")


def implementation() -> str:
    """The package that computes the figures here."""
    return "hotcoco" if importlib.util.find_spec("hotcoco") else "pycocotools"


def coco(
    records: Records, results: Results, *, masks: bool = False, package: str | None = None
) -> dict[str, float | None]:
    """COCO's twelve figures, at most 100 detections an image.

    Args:
        masks: overlap of masks instead of boxes; both sides must have masks.
        package: "pycocotools" or "hotcoco"; None for `implementation()`.
    Returns:
        `coco/AP`, `AP50`, `AP75`, `APs`, `APm`, `APl`, `AR1`, `AR10`, `AR100`, `ARs`, `ARm`,
        `ARl`, and `coco/AP/NAME`, `coco/AP50/NAME` for each class (`segm/…` for masks), as
        fractions of 1; None where no object counts, and means run over the classes with one.
    """
    tables = accumulate(records, results, masks, package or implementation())
    start = "segm" if masks else "coco"
    figures: dict[str, float | None] = {}
    for name, (table, overlaps, area, most) in FIGURES.items():
        values = tables[table][overlaps][..., area, most]  # (T, [recalls,] K), −1 without objects
        by_class = [_mean_of_known(values[..., k]) for k in range(len(records.names))]
        figures[f"{start}/{name}"] = mean(by_class)
        if name in BY_CLASS:
            keys = (f"{start}/{name}/{label}" for label in records.names)
            figures |= dict(zip(keys, by_class, strict=True))
    return figures


def _mean_of_known(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def accumulate(
    records: Records, results: Results, masks: bool, package: str
) -> dict[str, np.ndarray]:
    """COCO's precision (10, 101, K, 4, 3) and recall (10, K, 4, 3), −1 where no object counts."""
    ids = _image_ids(records)
    sizes = zip(ids.tolist(), records.sizes.tolist(), strict=True)
    frame = {
        "images": [{"id": i, "height": h, "width": w, "file_name": ""} for i, (h, w) in sizes],
        "categories": [{"id": k, "name": name} for k, name in enumerate(records.names)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = (
            _indexed(package, {**frame, "annotations": annotations})
            for annotations in (_objects(records, ids, masks), _detections(results, ids, masks))
        )
        module = importlib.import_module(
            "hotcoco" if package == "hotcoco" else f"{package}.cocoeval"
        )
        evaluation = module.COCOeval(truth, found, "segm" if masks else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return {name: np.asarray(evaluation.eval[name]) for name in ("precision", "recall")}


def _indexed(package: str, dataset: dict[str, Any]) -> Any:
    """A COCO object of our own dictionaries; `loadRes` fails on a list without detections."""
    if package == "hotcoco":
        return importlib.import_module(package).COCO(dataset)
    made = importlib.import_module(f"{package}.coco").COCO()
    made.dataset = dataset
    made.createIndex()
    return made


def _image_ids(records: Records) -> np.ndarray:
    """(I,) integers in the order of the data's ids: COCO settles ties of scores by that order."""
    order = sorted(range(len(records)), key=records.image_id)
    ids = np.empty(len(records), np.int64)
    ids[order] = np.arange(len(records))
    return ids


def _objects(records: Records, ids: np.ndarray, masks: bool) -> list[dict[str, Any]]:
    images = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    return _annotations(
        ids[images],
        records.labels,
        records.boxes.astype(np.float64),
        records.areas,
        _object_masks(records) if masks else None,
        iscrowd=records.crowd.astype(int),
    )


def _object_masks(records: Records) -> Sequence[dict[str, Any]]:
    if not len(records.labels):
        return []
    if not records.has_masks:
        raise ValueError("these records have no masks")
    return [rle for i in range(len(records)) for rle in records.run_lengths(i)]


def _detections(results: Results, ids: np.ndarray, masks: bool) -> list[dict[str, Any]]:
    sides = results.boxes[:, 2:] - results.boxes[:, :2]
    areas = sides.prod(1)
    if masks:  # a mask's size is its own area, not its box's (pycocotools takes the box's if both)
        from pycocotools import mask

        # one by one: pycocotools 2.0.11 fails on lists of more than 255
        areas = np.array([mask.area(rle) for rle in results.masks or ()], np.float64)
    return _annotations(
        ids[results.images],
        results.labels,
        results.boxes,
        areas,
        results.masks if masks else None,
        score=results.scores,
    )


def _annotations(
    images: np.ndarray,
    labels: np.ndarray,
    boxes: np.ndarray,
    areas: np.ndarray,
    masks: Sequence[dict[str, Any]] | None,
    **extra: np.ndarray,
) -> list[dict[str, Any]]:
    """COCO annotations; ids count from 1, because pycocotools takes a match with id 0 for none."""
    sides = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
    columns = [images.tolist(), labels.tolist(), sides, areas.tolist()]
    names = ["image_id", "category_id", "bbox", "area"]
    for name, values in {"iscrowd": np.zeros(len(images), int), **extra}.items():
        names.append(name)
        columns.append(values.tolist())
    if masks is not None:
        names.append("segmentation")
        columns.append(list(masks))
    return [
        {"id": i, **dict(zip(names, row, strict=True))}
        for i, row in enumerate(zip(*columns, strict=True), 1)
    ]
