"""`precision_recall.png`: what each score would give, on the left as precision over recall, on the
right as F1 over the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detkit.evaluation.ranking import IOU, Ranked, pooled
from detkit.evaluation.thresholds import Point
from detkit.plots import canvas

NAMED = 12  # classes up to which each is named; more are thin grey lines
POINTS = 200  # of a curve in the JSON


def curve(ranked: Ranked) -> dict[str, np.ndarray]:
    """`score` (falling), `precision`, `recall` and `f1` at each different score, (T,) each."""
    scores, right, wrong = ranked.curve()
    called = np.maximum(right + wrong, 1)
    objects = max(ranked.objects, 1)
    return {
        "score": scores,
        "precision": right / called,
        "recall": right / objects,
        "f1": 2 * right / np.maximum(right + wrong + ranked.objects, 1),
    }


def draw(
    classes: Sequence[Ranked],
    names: Sequence[str],
    used: Point,
    best: Point | None,
    file: Path,
) -> None:
    """Writes the picture and its numbers.

    Args:
        classes: the judged detections of each class.
        used, best: the points that are marked.
    """
    curves = {name: curve(c) for name, c in zip(names, classes, strict=True) if c.objects}
    whole = curve(pooled(classes))
    with canvas.sheet(1300, 560, names, ncols=2) as (figure, (left, right)):
        for place, name in enumerate(curves):
            look: dict[str, Any] = {"color": "#c8c8c8", "linewidth": 0.8}
            if len(curves) <= NAMED and len(names) > 1:
                look = {
                    "color": canvas.paint(names.index(name)),
                    "linewidth": 1.4,
                    "label": f"{canvas.short(name)}  {_best_f1(curves[name])}",
                }
            elif place == 0 and len(curves) > 1:
                look["label"] = f"each of {len(curves)} classes"
            _both(left, right, curves[name], look)
        label = f"all  {_best_f1(whole)}"
        _both(left, right, whole, {"color": "black", "linewidth": 2.4, "label": label})
        _mark(left, right, used, "in use", "s")
        if best is not None and best["score_thresh"] != used["score_thresh"]:
            _mark(left, right, best, f"best on {best['split']}", "*")
        title = f"precision over recall, as the score falls (overlaps above {IOU:g})"
        _label(left, title, "recall", "precision")
        _label(right, "F1 over the score from which detections count", "score", "F1")
        if not len(whole["score"]):
            left.text(0.5, 0.5, "no detections", ha="center", fontsize=14)
        right.legend(loc="lower center", title="highest F1, and its score")
        left.legend(*_points_of(left), loc="lower left")
        numbers = {"all": _numbers(whole), "classes": {k: _numbers(v) for k, v in curves.items()}}
        canvas.save(figure, file, {**numbers, "in_use": used, "best": best})


def _both(left: Any, right: Any, curve: Mapping[str, np.ndarray], look: dict[str, Any]) -> None:
    recall, precision = np.append(0.0, curve["recall"]), curve["precision"]
    left.plot(recall, np.append(precision[:1] if len(precision) else 0.0, precision), **look)
    if len(curve["score"]):
        scores = np.concatenate([[1.0], curve["score"], [0.0]])
        f1 = np.concatenate([[0.0], curve["f1"], curve["f1"][-1:]])
        right.step(scores, f1, where="pre" if scores[0] < scores[-1] else "post", **look)
    else:
        right.plot([0, 1], [0, 0], **look)


def _mark(left: Any, right: Any, point: Point, what: str, marker: str) -> None:
    if point["precision"] is None or point["recall"] is None:
        return
    look = {"marker": marker, "markersize": 11, "color": "#7f00ff", "linestyle": "", "zorder": 5}
    shares = ", ".join(f"{key} {point[key]:.2f}" for key in ("precision", "recall"))
    label = f"score {point['score_thresh']:g} ({what}): {shares}"
    left.plot([point["recall"]], [point["precision"]], label=label, **look)
    right.plot([point["score_thresh"]], [point["f1"]], **look)


def _points_of(axes: Any) -> tuple[list[Any], list[str]]:
    """The marks' entries of the legend; the lines have theirs beside."""
    handles, labels = axes.get_legend_handles_labels()
    pairs = [
        (h, text) for h, text in zip(handles, labels, strict=True) if text.startswith("score ")
    ]
    return [h for h, _ in pairs], [text for _, text in pairs]


def _label(axes: Any, title: str, across: str, up: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)


def _best_f1(curve: Mapping[str, np.ndarray]) -> str:
    if not len(curve["f1"]):
        return "–"
    place = int(curve["f1"].argmax())
    return f"{curve['f1'][place]:.2f} at {curve['score'][place]:.2f}"


def _numbers(curve: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """At most `POINTS` of a curve, from end to end."""
    count = len(curve["score"])
    places = np.unique(np.linspace(0, max(count - 1, 0), min(count, POINTS)).round().astype(int))
    return (
        {key: values[places].round(6).tolist() for key, values in curve.items()}
        if count
        else {key: [] for key in curve}
    )
