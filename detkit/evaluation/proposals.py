"""How well proposals cover the objects, whatever their class: recall, average recall, MABO.

Of each object only its best overlap among the first n boxes of its image counts. Difficult objects
and crowd regions are left out, as in VOC's protocol. All figures are means over the classes that
have an object (Uijlings et al. 2013, section 5.1; Hosang et al. 2016, arXiv:1502.05082, for AR).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detkit.evaluation.voc import mean

if TYPE_CHECKING:
    from detkit.data.records import Records

Figures = dict[str, float | None]
RECALL_AT = (0.5, 0.7)
AR_AT = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # COCO's thresholds


def best_overlaps(
    objects: np.ndarray, boxes: np.ndarray, numbers: Sequence[int | None]
) -> np.ndarray:
    """The largest IoU of each object with the first boxes of its image.

    Args:
        objects: (N, 4), xyxy; boxes: (P, 4), xyxy, best first, in the same pixels.
        numbers: C numbers of boxes that count; None for all.
    Returns:
        (C, N) float64, 0 where nothing overlaps.
    """
    objects, boxes = objects.astype(np.float64), boxes.astype(np.float64)
    low = np.maximum(objects[:, None, :2], boxes[None, :, :2])
    high = np.minimum(objects[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clip(min=0).prod(2)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (objects, boxes)]
    union = areas[0][:, None] + areas[1][None] - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.stack([iou[:, :number].max(1, initial=0) for number in numbers])


def proposal_figures(
    records: Records,
    proposals: Iterable[np.ndarray],
    *,
    numbers: Sequence[int | None] = (None,),
    recall_at: Sequence[float] = RECALL_AT,
) -> Figures:
    """Recall, AR and MABO of proposals.

    Args:
        records: the ground truth of I images.
        proposals: I times (P, 4), xyxy, pixels of the file's image, best first; none is kept.
        numbers: of boxes an image that count; None for all.
        recall_at: IoU that finds an object, if reached.
    Returns:
        For each number n `proposals/recall@0.5`, …, `proposals/AR` (the mean recall at 0.5, 0.55,
        … 0.95) and `proposals/MABO` (the mean of best overlaps), with `@n` behind it unless n is
        None; each also as `…/CLASS`. Fractions of 1; None without an object. `proposals/boxes` is
        the mean number an image.
    """
    counted = ~(records.crowd | records.difficult)
    found = np.zeros((len(numbers), len(counted)))
    counts = []
    for i, boxes in enumerate(proposals):
        counts.append(len(boxes))
        if i >= len(records):
            continue
        of_image = slice(records.offsets[i], records.offsets[i + 1])
        found[:, of_image] = best_overlaps(records.boxes[of_image], boxes, numbers)
    if len(counts) != len(records):
        raise ValueError(f"{len(counts)} images have proposals, {len(records)} have objects")
    figures: Figures = {"proposals/boxes": mean(counts)}
    for number, overlaps in zip(numbers, found, strict=True):
        ending = "" if number is None else f"@{number}"
        of_class = [
            _of_class(overlaps[counted & (records.labels == k)], recall_at)
            for k in range(len(records.names))
        ]
        for key in _of_class(np.zeros(0), recall_at):
            figures[f"proposals/{key}{ending}"] = mean(values[key] for values in of_class)
            for name, values in zip(records.names, of_class, strict=True):
                figures[f"proposals/{key}{ending}/{name}"] = values[key]
    return figures


def proposal_table(
    figures: Figures,
    *,
    numbers: Sequence[int | None] = (None,),
    recall_at: Sequence[float] = RECALL_AT,
) -> str:
    """The means to read: a row for each number of boxes."""
    columns = [*(f"recall@{iou:g}" for iou in recall_at), "AR", "MABO"]
    rows = [["boxes", *columns]]
    for number in numbers:
        ending = "" if number is None else f"@{number}"
        values = (figures[f"proposals/{column}{ending}"] for column in columns)
        shown = ["–" if value is None else f"{value:.3f}" for value in values]
        rows.append(["all" if number is None else f"{number:,}", *shown])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(
        [
            *lines,
            "",
            "Means over classes, without difficult objects and crowds. recall@t: objects that a box"
            " overlaps by IoU t or more; AR: its mean at 0.5, 0.55 … 0.95; MABO: the mean of each"
            " object's best IoU.",
        ]
    )


def _of_class(overlaps: np.ndarray, recall_at: Sequence[float]) -> Figures:
    def recall(iou: float) -> float | None:
        return float((overlaps >= iou).mean()) if len(overlaps) else None

    return {
        **{f"recall@{iou:g}": recall(iou) for iou in recall_at},
        "AR": mean(recall(iou) for iou in AR_AT),
        "MABO": float(overlaps.mean()) if len(overlaps) else None,
    }
