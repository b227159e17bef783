"""Detections by falling score, each right or wrong: what any threshold would keep.

Right and wrong are VOC's (`evaluation.voc.judge`): a detection and its object overlap by more than
half, each object is found once, and what lies on a difficult object or a crowd counts nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detkit.evaluation.results import Results
from detkit.evaluation.voc import judge

if TYPE_CHECKING:
    from detkit.data.records import Records

IOU = 0.5  # a detection and its object overlap by more


@dataclass(frozen=True)
class Ranked:
    """Detections of a class, or of all, best first.

    Attributes:
        scores: (D,) float64.
        hits, misses: (D,) bool, right and wrong ones; some are neither.
        objects: how many could be found.
    """

    scores: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    objects: int

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(T,) each different score, falling, and how many are right and wrong from it on."""
        last = np.flatnonzero(np.diff(self.scores, append=-np.inf) != 0)
        return self.scores[last], np.cumsum(self.hits)[last], np.cumsum(self.misses)[last]

    def at(self, threshold: float) -> tuple[int, int]:
        """How many are right and wrong that score at least so much."""
        kept = self.scores >= threshold
        return int((self.hits & kept).sum()), int((self.misses & kept).sum())

    def best(self) -> float | None:
        """The score with the most F1, the highest of several; None where nothing is right.

        It lies between the last detection that it keeps and the next one.
        """
        scores, right, wrong = self.curve()
        if not self.objects or not right.any():
            return None
        place = int(np.argmax(2 * right / (right + wrong + self.objects)))
        kept = float(scores[place])
        following = float(scores[place + 1]) if place + 1 < len(scores) else kept
        for digits in (3, 4, 5, 6):  # a short number, where one lies between
            middle = round((kept + following) / 2, digits)
            if following < middle <= kept:
                return middle
        return kept if following < kept else (math.floor(kept * 1000) / 1000 or kept)


def ranked(records: Records, results: Results) -> list[Ranked]:
    """The detections of each class."""
    images = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    ignored = records.crowd | records.difficult
    boxes = records.boxes.astype(np.float64)
    found = []
    for label in range(len(records.names)):
        ours = records.labels == label
        theirs = np.flatnonzero(results.labels == label)
        theirs = theirs[np.argsort(-results.scores[theirs], kind="stable")]
        objects = images[ours], boxes[ours], ignored[ours]
        hits, misses = judge(objects, (results.images[theirs], results.boxes[theirs]), IOU, True)
        count = int(np.count_nonzero(~ignored[ours]))
        found.append(Ranked(results.scores[theirs], hits, misses, count))
    return found


def pooled(classes: Sequence[Ranked]) -> Ranked:
    """The detections of all classes in one ranking."""
    scores, hits, misses = (
        np.concatenate([getattr(c, key) for c in classes] or [np.zeros(0, kind)])
        for key, kind in (("scores", float), ("hits", bool), ("misses", bool))
    )
    order = np.argsort(-scores, kind="stable")
    return Ranked(scores[order], hits[order], misses[order], sum(c.objects for c in classes))


def shares(right: int, wrong: int, objects: int) -> dict[str, float | None]:
    """Precision, recall and F1; None where there is nothing to count."""
    return {
        "precision": right / (right + wrong) if right + wrong else None,
        "recall": right / objects if objects else None,
        "f1": 2 * right / (right + wrong + objects) if objects else None,
    }
