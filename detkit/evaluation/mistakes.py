"""What is wrong with detections that count: which objects were missed, and why each box is there.

Right is as in `evaluation.ranking`. Of what is wrong, in this order: a box that overlaps an
object of another class by more than half names the wrong class; one that overlaps an object of
its class by more than a tenth is badly placed, or a double where that object was found; any other
is false. Boxes that lie on difficult objects or crowds count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detkit.evaluation.ranking import IOU
from detkit.evaluation.results import Results
from detkit.evaluation.voc import judge

if TYPE_CHECKING:
    from detkit.data.records import Records

NEAR = 0.1  # overlap from which a box was meant for an object
RIGHT, IGNORED, WRONG_CLASS, BADLY_PLACED, DOUBLE, FALSE, MISSED = range(7)
KINDS = ("right", "ignored", "wrong class", "badly placed", "found twice", "false", "missed")


@dataclass(frozen=True)
class Mistakes:
    """D detections that count and N objects.

    Attributes:
        results: the detections.
        kinds: (D,) int64, one of `KINDS` for each.
        objects: (D,) int64, the object that it was meant for, −1 none.
        found: (N,) int64, `RIGHT` or `IGNORED`; how it was mistaken (`WRONG_CLASS`,
            `BADLY_PLACED`); else `MISSED`.
        images: (N,) int64, the image of each object.
    """

    results: Results
    kinds: np.ndarray
    objects: np.ndarray
    found: np.ndarray
    images: np.ndarray

    def confusion(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """(K + 1, K + 1) int64: a row a true class, a column what it was called.

        The last row is background that was called something, the last column objects that no box
        answers for; boxes badly placed are in both.

        Args:
            labels: (N,) of the objects.
        """
        counts = np.zeros((classes + 1,) * 2, np.int64)
        named = np.isin(self.kinds, (RIGHT, WRONG_CLASS))
        np.add.at(counts, (labels[self.objects[named]], self.results.labels[named]), 1)
        nothing = np.isin(self.kinds, (FALSE, DOUBLE, BADLY_PLACED))
        np.add.at(counts[classes], self.results.labels[nothing], 1)
        np.add.at(counts[:, classes], labels[np.isin(self.found, (MISSED, BADLY_PLACED))], 1)
        return counts


def mistakes(records: Records, results: Results, thresholds: np.ndarray) -> Mistakes:
    """
    Args:
        results: all detections.
        thresholds: (K,) scores from which on they count.
    """
    results = results.select(np.flatnonzero(results.scores >= thresholds[results.labels]))
    images = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    ignored = records.crowd | records.difficult
    boxes = records.boxes.astype(np.float64)
    kinds = np.full(len(results), FALSE)
    meant = np.full(len(results), -1)
    found = np.where(ignored, IGNORED, MISSED)
    order = np.argsort(-results.scores, kind="stable")
    for label in range(len(records.names)):
        ours = np.flatnonzero(records.labels == label)
        theirs = order[results.labels[order] == label]
        hits, misses = judge(
            (images[ours], boxes[ours], ignored[ours]),
            (results.images[theirs], results.boxes[theirs]),
            IOU,
            True,
        )
        kinds[theirs[hits]] = RIGHT
        kinds[theirs[~hits & ~misses]] = IGNORED
    by_image = np.searchsorted(
        results.images[by := np.argsort(results.images, kind="stable")], np.arange(len(records) + 1)
    )
    for image in range(len(records)):
        here = by[by_image[image] : by_image[image + 1]]
        if not len(here):
            continue
        first, last = records.offsets[image : image + 2].tolist()
        if first == last:
            continue
        here = here[np.argsort(-results.scores[here], kind="stable")]
        iou = _overlaps(results.boxes[here], boxes[first:last])
        same = results.labels[here][:, None] == records.labels[first:last]
        _explain(here, first, iou, same, kinds, meant, found)
    return Mistakes(results, kinds, meant, found, images)


def _explain(
    here: np.ndarray,
    first: int,
    iou: np.ndarray,
    same: np.ndarray,
    kinds: np.ndarray,
    meant: np.ndarray,
    found: np.ndarray,
) -> None:
    """The detections of one image, best first; fills the last three arrays.

    Args:
        here: (D,) places of the detections.
        first: place of the image's first object.
        iou, same: (D, N) overlaps, and whether the classes agree.
    """
    for row, place in enumerate(here.tolist()):
        if kinds[place] == RIGHT:
            meant[place] = first + int(np.where(same[row], iou[row], -1).argmax())
            found[meant[place]] = RIGHT
    for row, place in enumerate(here.tolist()):
        if kinds[place] in (RIGHT, IGNORED):
            continue
        open_ones = found[first : first + iou.shape[1]] == MISSED
        other = np.where(~same[row] & open_ones, iou[row], -1)
        own = np.where(same[row], iou[row], -1)
        if other.max() > IOU and other.max() > own.max():
            kinds[place], meant[place] = WRONG_CLASS, first + int(other.argmax())
            found[meant[place]] = WRONG_CLASS
        elif own.max() > NEAR:
            meant[place] = first + int(own.argmax())
            if found[meant[place]] == MISSED:
                kinds[place] = found[meant[place]] = BADLY_PLACED
            elif found[meant[place]] == IGNORED:
                meant[place] = -1
            elif own.max() > IOU:
                kinds[place] = DOUBLE


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(D, N) IoU."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    common = (high - low).clip(min=0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, others)]
    return common / np.maximum(areas[0][:, None] + areas[1] - common, 1e-9)
