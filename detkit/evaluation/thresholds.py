"""The scores from which on detections count: what `score_thresh=` means, beside what is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from detkit.errors import DetkitError, unknown
from detkit.evaluation import text
from detkit.values import number

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
        own = (
            f"{text.number(len(self.classes), 'class')} at their own, else " if self.classes else ""
        )
        return f"{own}{self.overall:g} ({self.source})"


NOT_CHOSEN = Thresholds()


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
    stored = NOT_CHOSEN if point is None else _stored(point)
    if chosen is None:
        return stored
    if isinstance(chosen, str):
        return _of_each(chosen, point, names)
    if isinstance(chosen, Mapping):
        return _of_some(chosen, stored, names)
    return Thresholds(_score("score_thresh", chosen, "pass a score of 0 … 1."), {}, "given")


def _stored(point: Point) -> Thresholds:
    shares = f"precision {point['precision']:.2f}, recall {point['recall']:.2f}"
    return Thresholds(point["score_thresh"], {}, f"best on {point['split']}: {shares}")


def _of_each(word: str, point: Point | None, names: Sequence[str]) -> Thresholds:
    """The best score of each class; one of which nothing was found has that of all."""
    if word != PER_CLASS:
        raise DetkitError(
            f"score_thresh is {word[:80]!r}.",
            remedy="give a score of 0 … 1, {CLASS: SCORE, …} or per_class.",
        )
    if point is None:
        raise DetkitError(
            "The checkpoint stores no best score of each class.",
            remedy="give them yourself: score_thresh={CLASS: SCORE, …}.",
        )
    scores = {k: v["score_thresh"] for k, v in point["classes"].items() if k in names}
    known = {name: score for name, score in scores.items() if score is not None}
    return Thresholds(point["score_thresh"], known, f"best of each class on {point['split']}")


def _of_some(chosen: Mapping[str, float], stored: Thresholds, names: Sequence[str]) -> Thresholds:
    values: dict[str, float] = {}
    for name, value in ((str(key), value) for key, value in chosen.items()):
        if name not in names:
            raise unknown("class", name[:80], names)
        remedy = "give {CLASS: SCORE, …} with scores of 0 … 1."
        values[name] = _score(f"score_thresh of {name}", value, remedy)
    return Thresholds(stored.overall, values, f"given for some classes; else {stored.source}")


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
