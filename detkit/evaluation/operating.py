"""What is right at a score: precision, recall and F1, and the score with the most F1.

AP says how well detections are ranked; whoever draws them needs one score from which on they count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detkit.evaluation.ranking import IOU, Ranked, pooled, ranked, shares
from detkit.evaluation.results import Results
from detkit.evaluation.text import aligned, condensed, figure
from detkit.evaluation.thresholds import KEYS, NOT_CHOSEN, Point, Thresholds

if TYPE_CHECKING:
    from detkit.data.records import Records


@dataclass(frozen=True)
class Operating:
    """What an evaluation says of scores.

    Attributes:
        thresholds: those in use.
        split: the validation split's name, if it is this one that is measured; else None, and no
            best score is chosen.
    """

    thresholds: Thresholds = NOT_CHOSEN
    split: str | None = None


DEFAULTS = Operating()


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
    shown = [used] if best is None else [used, best]
    figures = ("precision", "recall", "F1")
    head = ["class", "score", *figures, "best score", *figures]
    rows = [
        ["all", *(figure(point[key]) for point in shown for key in KEYS)],
        *(
            [name, *(figure(point["classes"][name][key]) for point in shown for key in KEYS)]
            for name in used["classes"]
        ),
    ]
    kept, left_out = condensed(rows, beside=(1, 5))
    meaning = f"score: the one in use ({used['source']}); "
    if best is not None:
        meaning += (
            f"best score: with the most F1 on {best['split']}, of all classes at one score, of"
            " each class at its own"
        )
    elif result["operating_points"]["chosen_here"]:
        meaning += "no best score, since nothing right was found"
    else:
        meaning += "a best score is chosen on the validation split alone"
    return [
        *aligned([head[: 1 + 4 * len(shown)], *kept]),
        *left_out,
        "",
        f"{meaning}. A detection is right at an overlap above {IOU:g}.",
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
