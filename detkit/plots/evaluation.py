"""The pictures of an evaluation, from its evaluator; what each shows lies beside it as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detkit.evaluation import operating
from detkit.evaluation.confusion import BACKGROUND, draw_confusion
from detkit.evaluation.labels import LabelEvaluator
from detkit.evaluation.mistakes import mistakes
from detkit.evaluation.ranking import ranked
from detkit.plots import canvas, scores, worst
from detkit.plots.worst_others import (
    draw_worst_labels,
    draw_worst_localizations,
    draw_worst_pixels,
)

if TYPE_CHECKING:
    from detkit.data.records import Records
    from detkit.evaluation.costliest import Costly
    from detkit.evaluation.evaluate import DetectionEvaluator, PixelEvaluator
    from detkit.evaluation.localization import LocalizationEvaluator

CURVES, CONFUSION, WORST = "precision_recall.png", "confusion.png", "worst.jpg"
PLOTS = (CURVES, CONFUSION, WORST)


def _with_numbers(*pictures: str) -> tuple[str, ...]:
    return tuple(name for plot in pictures for name in (plot, f"{Path(plot).stem}.json"))


OF_DETECTIONS = _with_numbers(*PLOTS)
OF_PIXELS = OF_LOCALIZATIONS = _with_numbers(CONFUSION, WORST)
OF_LABELS = (*LabelEvaluator.written, *_with_numbers(WORST))

Say = Callable[[str], Any]


def of_detections(evaluator: DetectionEvaluator, output: Path, say: Say) -> None:
    """Curves over the score, the confusion matrix with background, the worst pictures."""
    records, results, at = evaluator.records, evaluator.results(), evaluator.operating
    with canvas.attempted(output / CURVES, say):
        classes = ranked(records, results)
        points = operating.points(records, results, at)["operating_points"]
        scores.draw(classes, records.names, points["in_use"], points["best"], output / CURVES)
    found = mistakes(records, results, at.thresholds.of(records.names))
    with canvas.attempted(output / CONFUSION, say):
        counts = found.confusion(records.labels, len(records.names))
        names = [*records.names, BACKGROUND]
        _save_confusion(counts, names, output / CONFUSION, background=True)
    with canvas.attempted(output / WORST, say):
        least = "their class's score" if at.thresholds.classes else f"{at.thresholds.overall:g}"
        worst.draw(records, found, least, output / WORST)


def of_pixels(evaluator: PixelEvaluator, output: Path, say: Say) -> None:
    """The confusion matrix of pixels, and the pictures with the most wrong ones."""
    _confusion_and_worst(evaluator, draw_worst_pixels, output, say)


def of_localizations(evaluator: LocalizationEvaluator, output: Path, say: Say) -> None:
    """The confusion matrix of the classes, and the pictures with the costliest mistakes."""
    _confusion_and_worst(evaluator, draw_worst_localizations, output, say)


def of_labels(evaluator: LabelEvaluator, output: Path, say: Say) -> None:
    """The confusion matrix of images, and those that were most surely called something else."""
    with canvas.attempted(output / CONFUSION, say):
        evaluator.save(output)
    with canvas.attempted(output / WORST, say):
        draw_worst_labels(evaluator.records, evaluator.worst, output / WORST)


def _confusion_and_worst(
    evaluator: PixelEvaluator | LocalizationEvaluator,
    draw_worst: Callable[[Records, Sequence[Costly], Path], None],
    output: Path,
    say: Say,
) -> None:
    records = evaluator.records
    with canvas.attempted(output / CONFUSION, say):
        _save_confusion(evaluator.confusion, records.names, output / CONFUSION)
    with canvas.attempted(output / WORST, say):
        draw_worst(records, evaluator.worst, output / WORST)


def _save_confusion(
    counts: np.ndarray, names: Sequence[str], file: Path, background: bool = False
) -> None:
    numbers = {"names": list(names), "rows": "true", "columns": "predicted"}
    picture = draw_confusion(counts, names, background)
    canvas.save_picture(picture, file, {**numbers, "counts": counts.tolist()})
