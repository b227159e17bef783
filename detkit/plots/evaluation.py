"""The pictures of an evaluation, from its evaluator; what each shows lies beside it as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.evaluation import operating
from detkit.evaluation.confusion import draw_confusion
from detkit.evaluation.mistakes import mistakes
from detkit.plots import canvas, scores, worst

if TYPE_CHECKING:
    from detkit.evaluation.evaluate import DetectionEvaluator, PixelEvaluator
    from detkit.evaluation.labels import LabelEvaluator

BACKGROUND = "background"
PLOTS = ("precision_recall.png", "confusion.png", "worst.jpg")
OF_DETECTIONS = tuple(name for plot in PLOTS for name in (plot, f"{Path(plot).stem}.json"))
OF_PIXELS = ("confusion.png", "confusion.json")

Say = Callable[[str], Any]


def of_detections(evaluator: DetectionEvaluator, output: Path, say: Say) -> None:
    """Curves over the score, the confusion matrix with background, the worst pictures."""
    records, results, at = evaluator.records, evaluator.results(), evaluator.operating
    curves, confusion, pictures = (output / name for name in PLOTS)
    with canvas.attempted(curves, say):
        classes = operating.ranked(records, results)
        points = operating.points(records, results, at)["operating_points"]
        scores.draw(classes, records.names, points["in_use"], points["best"], curves)
    found = mistakes(records, results, at.thresholds.of(records.names))
    with canvas.attempted(confusion, say):
        names = [*records.names, BACKGROUND]
        counts = found.confusion(records.labels, len(records.names))
        numbers = {"names": names, "rows": "true", "columns": "predicted"}
        canvas.save_picture(
            draw_confusion(counts, names), confusion, {**numbers, "counts": counts.tolist()}
        )
    with canvas.attempted(pictures, say):
        worst.draw(records, found, pictures)


def of_pixels(evaluator: PixelEvaluator, output: Path, say: Say) -> None:
    """The confusion matrix of pixels."""
    file = output / OF_PIXELS[0]
    with canvas.attempted(file, say):
        names, counts = list(evaluator.records.names), evaluator.confusion
        numbers = {"names": names, "rows": "true", "columns": "predicted"}
        canvas.save_picture(
            draw_confusion(counts, names), file, {**numbers, "counts": counts.tolist()}
        )


def of_labels(evaluator: LabelEvaluator, output: Path, say: Say) -> None:
    """The confusion matrix of images."""
    with canvas.attempted(output / evaluator.written[-1], say):
        evaluator.save(output)
