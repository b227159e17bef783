"""`worst.jpg` of pixels, of whole pictures and of their one object: what was taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from detkit.draw import draw_labels, draw_pixels
from detkit.evaluation.costliest import Costly
from detkit.evaluation.mistakes import BADLY_PLACED, WRONG_CLASS
from detkit.evaluation.pixels import count, reduced
from detkit.lettering import lettered
from detkit.plots import canvas
from detkit.plots.contact import picture_of
from detkit.plots.worst import INK, WHITE, image_name, outline, sheet
from detkit.structures import IGNORE

if TYPE_CHECKING:
    from detkit.data.records import Records
    from detkit.evaluation.localization import Found

COMMONEST = 5  # confusions of a picture's pixels, in the numbers


def draw_worst_pixels(records: Records, worst: Sequence[Costly], file: Path) -> None:
    """Two copies of each picture: its wrong pixels as they were called, and as they are.

    Args:
        worst: `found` is (h, w) uint8, the class that each pixel was called, `reduced`.
    """
    pictures, captions, rows = [], [], []
    for one in worst:
        picture = picture_of(records, one.index)[0]
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)  # so that colours are classes
        labels = records.pixels(one.index)
        assert labels is not None
        truth = reduced(labels)
        wrong = (one.found != truth) & (truth != IGNORE)
        for classes in (one.found, truth):
            shown = np.where(wrong, classes, IGNORE).astype(np.uint8)
            shown = np.asarray(cv2.resize(shown, grey.shape[::-1], interpolation=0))  # nearest
            pictures.append(draw_pixels(grey, shown, records.names))
        confusions = _confusions(truth, one.found, records.names)
        most = "".join(f"; most: {c['class']} called {c['called']}" for c in confusions[:1])
        name = image_name(records, one.index)
        captions += [f"{name}: {one.cost:.1%} wrong; as called", f"as they are{most}"]
        rows.append(
            {
                "image": records.image_id(one.index),
                "wrong": round(one.cost, 6),
                "confusions": confusions,
            }
        )
    picture = sheet(pictures, captions, "no wrong pixel")
    canvas.save_picture(picture, file, {"pictures": rows})


def _confusions(
    truth: np.ndarray, called: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Which class was most often called which other one, as shares of the pixels that count."""
    counts = count(truth, called, len(names))
    total = max(int(counts.sum()), 1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:COMMONEST]
    places = [divmod(int(place), len(names)) for place in order]
    return [
        {"class": names[k], "called": names[other], "share": round(counts[k, other] / total, 6)}
        for k, other in places
        if counts[k, other]
    ]


def draw_worst_labels(records: Records, worst: Sequence[Costly], file: Path) -> None:
    """The pictures that were most surely given a wrong class.

    Args:
        worst: the cost is the score of the class that `found` is.
    """
    pictures, captions, rows = [], [], []
    for one in worst:
        label = records.annotation(one.index).image_label
        assert label is not None
        name, called = records.names[label], records.names[one.found]
        texts = [f"called {called} {one.cost:.2f}", f"is {name}"]
        picture, _ = picture_of(records, one.index)
        pictures.append(draw_labels(picture, texts, [one.found, label]))
        captions.append(f"{image_name(records, one.index)}: {name} called {called}")
        rows.append(_row(records, one.index, name, called, one.cost))
    picture = sheet(pictures, captions, "no picture has a wrong class")
    canvas.save_picture(picture, file, {"pictures": rows})


def draw_worst_localizations(records: Records, worst: Sequence[Costly], file: Path) -> None:
    """The box that was found, and in white the object's own.

    Args:
        worst: `found` is a `Found`.
    """
    pictures, captions, rows = [], [], []
    for one in worst:
        found: Found = one.found
        picture, factors = picture_of(records, one.index)
        truth = records.annotation(one.index)
        named = found.rank == 0
        outline(picture, truth.boxes[0] * factors, WHITE, 2)
        outline(picture, found.box * factors, INK[BADLY_PLACED if named else WRONG_CLASS], 2)
        name, called = records.names[found.label], records.names[found.called]
        text = f"{called} {found.score:.2f}" + ("" if named else f", is {name}")
        pictures.append(draw_labels(picture, [text], [found.called]))
        captions.append(f"{image_name(records, one.index)}: overlap {found.iou:.2f}")
        row = _row(records, one.index, name, called, found.score)
        rows.append({**row, "iou": round(found.iou, 4)})
    key = "white: the object; yellow: found elsewhere; purple: a wrong class"
    parts = [lettered(key, 15), sheet(pictures, captions, "every object is named and found")]
    canvas.save_picture(canvas.stacked(parts), file, {"pictures": rows})


def _row(records: Records, i: int, name: str, called: str, score: float) -> dict[str, Any]:
    return {
        "image": records.image_id(i),
        "class": name,
        "called": called,
        "score": round(score, 4),
    }
