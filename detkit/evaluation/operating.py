"""What is right at a score: precision, recall and F1, and the score with the most F1.

AP says how well detections are ranked; whoever draws them needs one score from which on they count.
Right and wrong are VOC's (`evaluation.voc.judge`): a detection and its object overlap by more than
half, each object is found once, and what lies on a difficult object or a crowd counts nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from detkit.errors import DetkitError, unknown
from detkit.evaluation.results import Results
from detkit.evaluation.text import aligned, condensed, figure
from detkit.evaluation.voc import judge
from detkit.values import number

if TYPE_CHECKING:
    from detkit.data.records import Records

IOU = 0.5  # a detection and its object overlap by more
DEFAULT = 0.5  # the score where nothing better is known
PER_CLASS = "per_class"
KEYS = ("score_thresh", "precision", "recall", "f1")

Point = dict[str, Any]  # `KEYS`, and under `classes` the same of each class
Chosen = float | Mapping[str, float] | Literal["per_class"] | None


@dataclass(frozen=True)
class Thresholds:
    """The score from which on a detection counts.

    Attributes:
        overall: of all classes that have none of their own.
        classes: by the names of those that have.
        source: where they come from, for messages.
    """

    overall: float = DEFAULT
    classes: Mapping[str, float] = field(default_factory=dict)
    source: str = "the default"

    def of(self, names: Sequence[str]) -> np.ndarray:
        """(K,) float64."""
        return np.array([self.classes.get(name, self.overall) for name in names], np.float64)

    def value(self, names: Sequence[str]) -> float | dict[str, float]:
        """One number where it is that of all classes, else each one's: for `Prediction.filter`."""
        if not self.classes:
            return self.overall
        return {name: self.classes.get(name, self.overall) for name in names}

    def __str__(self) -> str:
        own = f"{len(self.classes)} of its own by class, else " if self.classes else ""
        return f"{own}{self.overall:g} ({self.source})"


@dataclass(frozen=True)
class Operating:
    """What an evaluation says of scores.

    Attributes:
        thresholds: those in use.
        split: the validation split's name, if it is this one that is measured; else None, and no
            best score is chosen.
    """

    thresholds: Thresholds = Thresholds()
    split: str | None = None


DEFAULTS = Operating()


def thresholds_of(chosen: Chosen, point: Point | None, names: Sequence[str]) -> Thresholds:
    """What `score_thresh=` means.

    Args:
        chosen: None: the best score that the checkpoint stored, else `DEFAULT`; a number; numbers
            of some classes by name, the others as for None; `per_class`: the best of each class.
        point: what the checkpoint stored.
        names: of the model's classes.
    Raises:
        DetkitError: no number, a class that is not there, or `per_class` where none are stored.
    """
    stored = Thresholds()
    if point is not None:
        told = (
            f"best on {point['split']}: precision {point['precision']:.2f}, recall"
            f" {point['recall']:.2f}"
        )
        stored = Thresholds(point["score_thresh"], {}, told)
    if chosen is None:
        return stored
    if isinstance(chosen, str):
        if chosen != PER_CLASS:
            raise DetkitError(
                f"score_thresh is {chosen[:80]!r}.",
                remedy="give a score of 0 … 1, {CLASS: SCORE, …} or per_class.",
            )
        if point is None:
            raise DetkitError(
                "The checkpoint stores no best score of each class.",
                remedy="give them yourself: score_thresh={CLASS: SCORE, …}.",
            )
        own = {k: v["score_thresh"] for k, v in point["classes"].items() if k in names}
        known = {name: value for name, value in own.items() if value is not None}
        return Thresholds(stored.overall, known, f"best of each class on {point['split']}")
    if isinstance(chosen, Mapping):
        chosen = {str(name): value for name, value in chosen.items()}
        for name in chosen:
            if name not in names:
                raise unknown("class", str(name)[:80], names)
        remedy = "give {CLASS: SCORE, …} with scores of 0 … 1."
        values = {k: _score(f"score_thresh of {k}", v, remedy) for k, v in chosen.items()}
        return Thresholds(stored.overall, values, f"given for some classes; else {stored.source}")
    return Thresholds(_score("score_thresh", chosen, "pass a score of 0 … 1."), {}, "given")


def _score(key: str, value: Any, remedy: str) -> float:
    score = number(key, value, remedy)
    if not 0 <= score <= 1:
        raise DetkitError(f"{key} is {score:g}.", remedy=remedy)
    return score


def is_point(value: Any, names: Sequence[str]) -> bool:
    """Whether a value from a file is a stored point of these classes."""

    def sound(figures: Any, empty: bool) -> bool:
        return isinstance(figures, dict) and all(
            _is_share(value) or (value is None and empty)
            for value in (figures.get(key, "") for key in KEYS)
        )

    return (
        sound(value, False)
        and isinstance(value.get("split"), str)
        and isinstance(value.get("classes"), dict)
        and all(name in names and sound(v, True) for name, v in value["classes"].items())
    )


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 1


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
        middle = round((kept + following) / 2, 3)
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


def point_at(classes: Sequence[Ranked], names: Sequence[str], thresholds: Thresholds) -> Point:
    """The figures of all and of each class at thresholds."""
    values = thresholds.of(names).tolist()
    counts = [c.at(value) for c, value in zip(classes, values, strict=True)]
    right, wrong = (sum(column) for column in zip((0, 0), *counts, strict=True))
    rows = zip(names, values, counts, classes, strict=True)
    return {
        "score_thresh": thresholds.overall,
        **shares(right, wrong, sum(c.objects for c in classes)),
        "classes": {
            name: {"score_thresh": value, **shares(*count, c.objects)}
            for name, value, count, c in rows
        },
    }


def best_point(classes: Sequence[Ranked], names: Sequence[str]) -> Point | None:
    """All classes at the one score that is best for them together, and each at its own best one.

    None where nothing right was found.
    """
    overall = pooled(classes).best()
    if overall is None:
        return None
    own = [c.best() for c in classes]
    rows = zip(names, own, classes, strict=True)
    return {
        **point_at(classes, names, Thresholds(overall)),
        "classes": {
            name: {"score_thresh": None, "precision": None, "recall": None, "f1": None}
            if value is None
            else {"score_thresh": value, **shares(*c.at(value), c.objects)}
            for name, value, c in rows
        },
    }


def points(records: Records, results: Results, operating: Operating) -> dict[str, Any]:
    """`in_use/…` and `best/…` of all classes, and `operating_points` with those of each."""
    classes = ranked(records, results)
    used = point_at(classes, records.names, operating.thresholds)
    best = best_point(classes, records.names) if operating.split else None
    if best is not None:
        best |= {"split": operating.split, "iou": IOU}
    return {
        **{f"in_use/{key}": used[key] for key in KEYS},
        **{f"best/{key}": None if best is None else best[key] for key in KEYS},
        "operating_points": {
            "in_use": {**used, "source": operating.thresholds.source},
            "best": best,
            "chosen_here": operating.split is not None,
        },
    }


def table(result: Mapping[str, Any]) -> list[str]:
    """The lines of both points."""
    used, best = (result["operating_points"][key] for key in ("in_use", "best"))
    shown = [used] if best is None or best == used else [used, best]
    head = [
        "class",
        "score",
        "precision",
        "recall",
        "F1",
        "best score",
        "precision",
        "recall",
        "F1",
    ]
    rows = [
        ["all", *(figure(point[key]) for point in shown for key in KEYS)],
        *(
            [name, *(figure(point["classes"][name][key]) for point in shown for key in KEYS)]
            for name in used["classes"]
        ),
    ]
    kept, left_out = condensed(rows, telling=slice(2, 5))
    told = f"score: in use, {used['source']}"
    if best is not None:
        told += (
            f"; best score: with the most F1 on {best['split']}, of all at one and of each class"
        )
    elif result["operating_points"]["chosen_here"]:
        told += "; no best score, since nothing right was found"
    else:
        told += "; a best score is chosen on the validation split alone"
    return [
        *aligned([head[: 1 + 4 * len(shown)], *kept]),
        *left_out,
        "",
        f"Detections that score at least so much, at overlaps above {IOU:g}. {told}.",
    ]


def line(result: Mapping[str, Any]) -> str:
    """Precision and recall at the score in use, a sentence of a last line; empty without them."""
    if result.get("in_use/recall") is None or result.get("in_use/precision") is None:
        return ""
    parts = (f"{key} {result[f'in_use/{key}']:.2f}" for key in ("precision", "recall"))
    several = len(
        {c["score_thresh"] for c in result["operating_points"]["in_use"]["classes"].values()}
    )
    at = "its class's score" if several > 1 else f"score {result['in_use/score_thresh']:g}"
    return f" {', '.join(parts).capitalize()} at {at}."
