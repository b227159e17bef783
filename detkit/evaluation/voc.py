"""Pascal VOC's average precision, by the development kit's rules (Everingham et al. 2010, 4.2).

A detection goes to the object of its image and class that it overlaps most. It is right if they
overlap by more than half and no better scored detection has that object already; a second one for
the same object is wrong. A detection that goes to a difficult object does not count, nor does the
object.
Crowd regions of COCO data, which the kit does not know, are treated as difficult.

The kit measures inclusive pixels (width = xmax − xmin + 1). `Records` and `Results` hold the same
boxes continuously, so plain IoU here is the kit's IoU and nothing is ever added.

The kit's text says "must exceed 50 %" and its Python successor compares with `>`, which is the rule
here; the original Matlab function compares with `>=`. `strict=False` gives that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detkit.evaluation.results import Results

if TYPE_CHECKING:
    from detkit.data.records import Records

# k · 0.1 in floating point, as in both development kits: 0.3, 0.6 and 0.7 come out one rounding
# above the fractions, so that a recall of exactly 6/10 does not reach the point 0.6.
RECALL_POINTS = np.arange(11) * 0.1


def voc(
    records: Records,
    results: Results,
    *,
    iou: float = 0.5,
    strict: bool = True,
    count_difficult: bool = False,
) -> dict[str, float | None]:
    """Both VOC metrics: the area under the curve (since 2010) and the mean of 11 points (2007).

    Args:
        iou: overlap that a detection needs.
        strict: it needs more than that, else at least that.
        count_difficult: difficult objects are ordinary ones (not the kit's rule).
    Returns:
        `voc/mAP`, `voc07/mAP`, and `voc/AP/NAME`, `voc07/AP/NAME` for each class, as fractions of
        1; None for a class without a countable object, and the means run over the others.
    """
    area: dict[str, float | None] = {}
    points: dict[str, float | None] = {}
    for one in judged(records, results, iou, strict, count_difficult):
        area[one.name], points[one.name] = average_precision(
            one.hits, one.misses, len(one.object_images)
        )
    return {
        "voc/mAP": mean(area.values()),
        "voc07/mAP": mean(points.values()),
        **{f"voc/AP/{name}": value for name, value in area.items()},
        **{f"voc07/AP/{name}": value for name, value in points.items()},
    }


def interval(
    records: Records, results: Results, *, draws: int = 500, share: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """Between which values `voc/mAP` would lie on other images such as these, by the bootstrap: the
    images are drawn anew, with replacement, so many times (Efron 1979, Ann. Statist. 7(1)).

    Args:
        share: of the draws that lie between both.
    Returns:
        Two fractions of 1; None where nothing could be measured.
    """
    classes = list(judged(records, results))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        times = np.bincount(rng.integers(len(records), size=len(records)), minlength=len(records))
        values = []
        for one in classes:
            each = times[one.images]
            objects = int(times[one.object_images].sum())
            values.append(average_precision(one.hits * each, one.misses * each, objects)[0])
        if (value := mean(values)) is not None:
            drawn.append(value)
    if not drawn:
        return None
    low, high = np.quantile(drawn, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


class Judged(NamedTuple):
    """The detections of one class, best first, and its objects.

    Attributes:
        name: of the class.
        hits, misses: (D,) bool, which are right and which are wrong; ignored ones are neither.
        images: (D,) int64, the image of each.
        object_images: (N,) int64, the image of each object that counts.
    """

    name: str
    hits: np.ndarray
    misses: np.ndarray
    images: np.ndarray
    object_images: np.ndarray


def judged(
    records: Records,
    results: Results,
    iou: float = 0.5,
    strict: bool = True,
    count_difficult: bool = False,
) -> Iterator[Judged]:
    """Each class in its order; the arguments are those of `voc`."""
    images = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    ignored = records.crowd if count_difficult else records.crowd | records.difficult
    boxes = records.boxes.astype(np.float64)
    for label, name in enumerate(records.names):
        ours = records.labels == label
        theirs = np.flatnonzero(results.labels == label)
        theirs = theirs[np.argsort(-results.scores[theirs], kind="stable")]
        hits, misses = judge(
            (images[ours], boxes[ours], ignored[ours]),
            (results.images[theirs], results.boxes[theirs]),
            iou,
            strict,
        )
        yield Judged(name, hits, misses, results.images[theirs], images[ours][~ignored[ours]])


def judge(
    objects: tuple[np.ndarray, np.ndarray, np.ndarray],
    detections: tuple[np.ndarray, np.ndarray],
    iou: float,
    strict: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Which detections of one class are right and which are wrong; ignored ones are neither.

    Args:
        objects: (N,) image in ascending order, (N, 4) boxes, (N,) whether ignored.
        detections: (D,) image, (D, 4) boxes, best first.
    Returns:
        (D,) bool each: right, wrong.
    """
    object_images, object_boxes, ignored = objects
    images, boxes = detections
    overlaps, nearest = best_overlaps(object_images, object_boxes, images, boxes)
    met = overlaps > iou if strict else overlaps >= iou
    counted = np.flatnonzero(met & ~np.append(ignored, False)[nearest])
    hits = np.zeros(len(images), bool)
    # np.unique gives the first place of each object, and the best detection stands first
    hits[counted[np.unique(nearest[counted], return_index=True)[1]]] = True
    wrong = ~met
    wrong[counted] = ~hits[counted]
    return hits, wrong


def best_overlaps(
    object_images: np.ndarray, object_boxes: np.ndarray, images: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The largest IoU of each detection with an object of its image, and which object that is.

    Args:
        object_images: (N,) int64 in ascending order; object_boxes: (N, 4) float64.
        images: (D,) int64; boxes: (D, 4) float64.
    Returns:
        (D,) float64, −inf where the image has no object; (D,) int64, the first of equals, else −1.
    """
    first = np.searchsorted(object_images, images, "left")
    counts = np.searchsorted(object_images, images, "right") - first
    overlaps, nearest = np.full(len(images), -np.inf), np.full(len(images), -1)
    some = np.flatnonzero(counts)
    if not len(some):
        return overlaps, nearest
    first, counts = first[some], counts[some]
    starts = np.cumsum(counts) - counts  # of each detection's run of pairs
    pairs = np.arange(counts.sum()) - np.repeat(starts - first, counts)  # the object of each pair
    ious = box_iou(object_boxes[pairs], np.repeat(boxes[some], counts, axis=0))
    best = np.maximum.reduceat(ious, starts)
    at_best = np.flatnonzero(ious == np.repeat(best, counts))
    overlaps[some] = best
    nearest[some] = pairs[at_best[np.searchsorted(at_best, starts)]]
    return overlaps, nearest


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of (N, 4) boxes with (N, 4) boxes, row by row, in float64; 0 where both have no area."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = sides.clip(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def average_precision(
    hits: np.ndarray, misses: np.ndarray, objects: int
) -> tuple[float | None, float | None]:
    """Area under the interpolated curve, and the mean of its values at 11 recalls.

    Args:
        hits, misses: (D,) bool, or how often each counts, best detection first; a detection may be
            neither.
        objects: how many could have been found.
    Returns:
        Two fractions of 1, or None twice if there was no object to find.
    """
    if objects == 0:
        return None, None
    right, wrong = np.cumsum(hits), np.cumsum(misses)
    recall = right / objects
    precision = right / np.maximum(right + wrong, 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    area = float(np.sum(np.diff(recall, prepend=0.0) * envelope[:-1]))
    points = float(envelope[np.searchsorted(recall, RECALL_POINTS, "left")].mean())
    return area, points


def mean(values) -> float | None:
    """Of those that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
