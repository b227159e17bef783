"""Metrics of the class of each image, from counts that grow image by image.

top-1 and top-5 accuracy as in ImageNet's challenge (Russakovsky et al. 2015, arXiv:1409.0575,
section 4.1); balanced accuracy is the mean of the classes' recalls, so that a rare class counts as
much as a frequent one. Images whose class is unknown count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from detkit.atomic import write_json
from detkit.draw import save_image
from detkit.evaluation.confusion import draw_confusion
from detkit.evaluation.costliest import Costly, costliest
from detkit.evaluation.text import aligned, figure, number
from detkit.predictions import Classification
from detkit.structures import Frame

if TYPE_CHECKING:
    from detkit.data.records import Records
    from detkit.evaluation.evaluate import Figures

AMONG = 5  # of top-5
OF_CLASS = ("precision", "recall", "F1")
TOLD = 5  # of the most frequent confusions, in the table


class LabelEvaluator:
    """Accuracy, balanced accuracy and the recall of each class."""

    headline: ClassVar[str] = "classify/top1"
    beside: ClassVar[tuple[str, ...]] = ("classify/balanced",)
    written: ClassVar[tuple[str, ...]] = ("confusion.json", "confusion.png")

    def __init__(self, records: Records) -> None:
        self.records = records
        self._counts = np.zeros((len(records.names),) * 2, np.int64)
        self._among = 0
        self._seen: set[int] = set()
        self.worst: list[Costly] = []

    def add(self, frames: Sequence[Frame], predictions: Sequence[Classification]) -> None:
        for frame, found in zip(frames, predictions, strict=True):
            label = self.records.annotation(frame.index).image_label
            if label is None or label < 0 or frame.index in self._seen:
                continue
            self._seen.add(frame.index)
            self._counts[label, found.label] += 1
            best = found.scores.topk(min(AMONG, len(found.scores))).indices.tolist()
            self._among += label in best
            cost = float(found.scores[found.label]) if found.label != label else 0.0
            self.worst = costliest(self.worst, [Costly(cost, frame.index, found.label)])

    def state(self) -> Any:
        return self._counts, self._among, self._seen, self.worst

    def merge(self, states: Sequence[Any]) -> None:
        # counts cannot tell images apart, so that the processes have to share them out (they do)
        counts, among, seen, worst = zip(*states, strict=True)
        self._counts, self._among = np.sum(counts, axis=0), sum(among)
        self._seen = set().union(*seen)
        if len(self._seen) != sum(map(len, seen)):
            raise ValueError("two processes evaluated the same image")
        self.worst = costliest(*worst)

    @property
    def confusion(self) -> np.ndarray:
        """(K, K) int64: how many images of class `row` were called class `column`."""
        return self._counts

    def result(self) -> Figures:
        names = self.records.names
        few = len(names) <= AMONG  # then the right class is always among them
        total = int(self._counts.sum())
        return {
            **accuracies(self._counts, names),
            "classify/top5": None if few or not total else self._among / total,
            "images": total,
            "images_without_class": len(self.records) - total,
            "classes_without_images": [
                name for name, n in zip(names, self._counts.sum(1), strict=True) if n == 0
            ],
        }

    def table(self, result: Figures) -> str:
        names, of_class = self.records.names, self._counts.sum(1).tolist()
        keys = {"top-1": "top1", "top-5": "top5", "balanced": "balanced"}
        means = [[name, figure(result[f"classify/{key}"])] for name, key in keys.items()]
        rows = [
            [name, *(figure(result[f"classify/{key}/{name}"]) for key in OF_CLASS), f"{n:,}"]
            for name, n in zip(names, of_class, strict=True)
        ]
        lines = [
            *aligned(means),
            "",
            *aligned([["class", *OF_CLASS, "images"], *rows]),
            "",
            f"{number(result['images'], 'image')}; top-1: the right class scores best, top-5: it is"
            " among the five best (– for five classes or fewer); balanced: mean of the recalls.",
            *self._confused(),
        ]
        if unknown := result["images_without_class"]:
            lines.append(f"{number(unknown, 'image')} without a class, or not seen: not counted.")
        if absent := result["classes_without_images"]:
            lines.append(f"Without an image, so not in the mean: {', '.join(absent)}.")
        return "\n".join(lines)

    def _confused(self) -> list[str]:
        """A line of which class was taken for which most often."""
        wrong = self._counts * (1 - np.eye(len(self._counts), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:TOLD]
        places = [divmod(int(place), len(wrong)) for place in order]
        names = self.records.names
        told = [f"{names[k]} for {names[j]} ({wrong[k, j]:,})" for k, j in places if wrong[k, j]]
        return [f"Most often mistaken: {', '.join(told)}."] if told else []

    def diagnose(self, result: Figures, foreign: bool) -> str | None:
        if not result["images"]:
            return "No image of this split has a class of its own, so nothing could be measured."
        called = np.flatnonzero(self._counts.sum(0))
        if len(called) == 1 and len(self.records.names) - len(result["classes_without_images"]) > 1:
            return (
                f"Every image is called {self.records.names[called[0]]}: the model has not learnt"
                " yet, or its learning rate is too high."
            )
        return None

    def save(self, output: Path) -> None:
        names = list(self.records.names)
        counts = {"names": names, "rows": "true", "columns": "predicted"}
        table, picture = self.written
        write_json(output / table, {**counts, "counts": self._counts.tolist()})
        save_image(output / picture, draw_confusion(self._counts, names))


def accuracies(counts: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """The metrics of summed counts.

    Args:
        counts: (K, K) int64, true class by predicted class.
    Returns:
        `classify/top1`, `classify/balanced`, and `classify/recall/NAME`, `classify/precision/NAME`
        and `classify/F1/NAME` for each class, as fractions of 1; None for a class without an image
        (of precision: that no image is called), and the mean runs over the others.
    """
    right, truth, called = np.diagonal(counts), counts.sum(1), counts.sum(0)
    found = truth > 0
    recall = np.divide(right, truth, out=np.zeros(len(right)), where=found)
    return {
        "classify/top1": float(right.sum() / truth.sum()) if found.any() else None,
        "classify/balanced": float(recall[found].mean()) if found.any() else None,
        **{
            f"classify/recall/{name}": float(recall[k]) if found[k] else None
            for k, name in enumerate(names)
        },
        **{
            f"classify/precision/{name}": float(right[k] / called[k]) if called[k] else None
            for k, name in enumerate(names)
        },
        **{
            f"classify/F1/{name}": float(2 * right[k] / (truth[k] + called[k]))
            if found[k]
            else None
            for k, name in enumerate(names)
        },
    }
