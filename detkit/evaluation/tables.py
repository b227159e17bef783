"""The figures of boxes and masks, and the tables that tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detkit.evaluation import operating
from detkit.evaluation.coco import BY_CLASS, coco, implementation
from detkit.evaluation.operating import DEFAULTS, Operating
from detkit.evaluation.results import Results
from detkit.evaluation.text import aligned, condensed, figure, number
from detkit.evaluation.voc import voc

if TYPE_CHECKING:
    from detkit.data.records import Records

Figures = dict[str, Any]


def detection_figures(records: Records, results: Results, at: Operating = DEFAULTS) -> Figures:
    """COCO's figures, both VOC metrics, those at a score, and what they were counted on."""
    ordinary = ~records.crowd & ~records.difficult
    countable, easy = (
        np.bincount(records.labels[kept], minlength=len(records.names))
        for kept in (~records.crowd, ordinary)
    )
    counts = list(zip(records.names, countable.tolist(), easy.tolist(), strict=True))
    return {
        **coco(records, results),
        **voc(records, results),
        **operating.points(records, results, at),
        "images": len(records),
        "objects": int(countable.sum()),
        "difficult": int(np.count_nonzero(records.difficult)),
        "crowd": int(np.count_nonzero(records.crowd)),
        "detections": len(results),
        "detections_of_unknown_images": results.unknown_images.total(),
        "detections_of_unknown_classes": results.unknown_classes.total(),
        "classes_without_objects": [name for name, count, _ in counts if not count],
        "classes_without_detections": [
            name for k, name in enumerate(records.names) if not (results.labels == k).any()
        ],
        "classes_only_difficult": [name for name, count, n in counts if count and not n],
    }


CLASS_COLUMNS = {
    "coco/AP": "coco/AP",
    "coco/AP50": "coco/AP50",
    "voc/AP": "voc/AP",
    "voc07/AP": "voc07/AP",
}
MEANS = ("coco/AP", "coco/AP50", "voc/mAP", "voc07/mAP")
OTHERS = ("AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


MASKS = "segm/: the same as coco/, of the overlap of masks instead of boxes."


def detection_table(records: Records, result: Figures, kinds: Sequence[str] = ("coco",)) -> str:
    """The figures of each class and of all, with their definitions.

    Args:
        kinds: "coco" for boxes, "segm" for masks.
    """
    masks = {f"segm/{name}": f"segm/{name}" for name in BY_CLASS} if "segm" in kinds else {}
    columns = {**masks, **CLASS_COLUMNS}
    mean = ["mean", *(figure(result[key]) for key in (*masks, *MEANS))]
    rows, left_out = condensed(class_rows(records.names, result, columns))
    others = [[kind, *(figure(result[f"{kind}/{name}"]) for name in OTHERS)] for kind in kinds]
    lines = [
        *aligned([["class", *columns], mean, *rows]),
        *left_out,
        "",
        *operating.table(result),
        "",
        *aligned([["", *OTHERS], *others]),
        "",
        ", ".join(number(result[f"{word}s"], word) for word in ("image", "object", "detection"))
        + "; – where no object counts.",
        "coco/AP: mean over overlaps of 0.5, 0.55 … 0.95, AP50 and AP75 at one; s, m, l: objects "
        "below 32², up to 96², above; AR: recall with 1, 10, 100 detections an image "
        f"(computed by {implementation()}).",
        "voc/AP: area under the precision-recall curve at overlaps above 0.5; voc07/AP: mean "
        "of 11 points of it.",
    ]
    if masks:
        lines.append(MASKS)
    if result["difficult"]:
        lines.append(
            f"{number(result['difficult'], 'difficult object')}: as any other for coco/, ignored by"
            " voc/ and voc07/."
        )
    if only := result["classes_only_difficult"]:
        lines.append(f"Only difficult objects, so not in the means of voc/: {', '.join(only)}.")
    if result["crowd"]:
        lines.append(f"{number(result['crowd'], 'crowd region')}: ignored by all.")
    silent = set(result["classes_without_detections"]) - set(result["classes_without_objects"])
    if silent and result["detections"]:
        never = ", ".join(name for name in records.names if name in silent)
        lines.append(f"Never detected: {never}.")
    for what in ("images", "classes"):
        if strange := result[f"detections_of_unknown_{what}"]:
            lines.append(
                f"{number(strange, 'detection')} of {what} that this split lacks: left out."
            )
    return "\n".join([*lines, *absent_classes(result)])


def class_rows(names: Sequence[str], result: Figures, columns: dict[str, str]) -> list[list[str]]:
    return [
        [name, *(figure(result[f"{prefix}/{name}"]) for prefix in columns.values())]
        for name in names
    ]


def absent_classes(result: Figures) -> list[str]:
    absent = result["classes_without_objects"]
    return [f"Not in the ground truth, so not in the means: {', '.join(absent)}."] if absent else []
