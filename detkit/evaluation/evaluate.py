"""What a task is measured by: predictions of image after image in, figures and a table out.

An evaluator counts each image once, in one process or in several: each process adds its part, and
one of them merges the others' states.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from detkit.evaluation.boundaries import count_boundaries
from detkit.evaluation.coco import coco
from detkit.evaluation.costliest import Costly, costliest
from detkit.evaluation.diagnosis import LITTLE, diagnose
from detkit.evaluation.files import write_coco
from detkit.evaluation.operating import DEFAULTS, Operating
from detkit.evaluation.pixels import boundaries, count, pixels, reduced, wrong_share
from detkit.evaluation.results import Results
from detkit.evaluation.tables import (
    Figures,
    absent_classes,
    class_rows,
    detection_figures,
    detection_table,
)
from detkit.evaluation.text import aligned, condensed, figure, number
from detkit.predictions import Detections, Segmentation
from detkit.structures import Frame

if TYPE_CHECKING:
    from detkit.data.records import Records

# boxes, scores, labels and run lengths of an image's detections, see `Results`
Part = tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]] | None]


class Evaluator(Protocol):
    """The measure of one task.

    Attributes:
        headline: the key of the figure by which checkpoints are compared, more is better.
        beside: keys of other figures that are told with it.
        records: the ground truth.
    """

    headline: ClassVar[str]
    beside: ClassVar[tuple[str, ...]]
    records: Records

    def __init__(self, records: Records) -> None: ...

    def add(self, frames: Sequence[Frame], predictions: Sequence[Any]) -> None:
        """Predictions in pixels of the files' images; only the first ones of an image count."""

    def state(self) -> Any:
        """What was added, to be pickled and merged elsewhere."""

    def merge(self, states: Sequence[Any]) -> None:
        """Replaces what was added by several states, this one's own among them."""

    def result(self) -> Figures:
        """All figures, as fractions of 1 under flat keys; None where nothing could be measured."""

    def table(self, result: Figures) -> str:
        """The result to read, with what each figure means."""

    def diagnose(self, result: Figures, foreign: bool) -> str | None:
        """Why the result is next to nothing, if it is and that can be seen.

        Args:
            foreign: the predictions came from a file, not from a model of ours.
        """

    def save(self, output: Path) -> None:
        """Write what was found beside `results.json`, in the files that `written` names."""

    written: ClassVar[tuple[str, ...]]


class DetectionEvaluator:
    """COCO's figures and both VOC metrics of boxes.

    Args:
        given: detections of all images, from a file; then nothing is added.
        operating: from which scores on detections count, and whether the best one is chosen here.
    """

    headline: ClassVar[str] = "voc/mAP"
    beside: ClassVar[tuple[str, ...]] = ("coco/AP50", "coco/AP")
    written: ClassVar[tuple[str, ...]] = ("predictions.json",)

    def __init__(
        self,
        records: Records,
        given: Results | None = None,
        operating: Operating = DEFAULTS,
    ) -> None:
        self.records, self.operating = records, operating
        self._given = given
        self._parts: dict[int, Part] = {}

    def add(self, frames: Sequence[Frame], predictions: Sequence[Detections]) -> None:
        for frame, found in zip(frames, predictions, strict=True):
            if frame.index not in self._parts:
                self._parts[frame.index] = self.part(found)

    def part(self, found: Detections) -> Part:
        """What is kept of an image's detections."""
        part = (found.boxes.double(), found.scores.double(), found.labels)
        boxes, scores, labels = (tensor.cpu().numpy() for tensor in part)
        return boxes, scores, labels, None

    def state(self) -> Any:
        return self._parts

    def merge(self, states: Sequence[Any]) -> None:
        self._parts = {index: part for state in reversed(states) for index, part in state.items()}

    def results(self) -> Results:
        """All detections, in the order of the images."""
        if self._given is not None:
            return self._given
        if not self._parts:
            return Results.empty()
        order = sorted(self._parts)
        *arrays, masks = zip(*(self._parts[i] for i in order), strict=True)
        boxes, scores, labels = map(np.concatenate, arrays)
        images = np.repeat(order, [len(self._parts[i][1]) for i in order])
        known = None if None in masks else [mask for of_image in masks for mask in of_image]
        return Results(images, boxes, scores, labels, known)

    def result(self) -> Figures:
        return detection_figures(self.records, self.results(), self.operating)

    def table(self, result: Figures) -> str:
        return detection_table(self.records, result)

    def diagnose(self, result: Figures, foreign: bool) -> str | None:
        return diagnose(self.records, self.results(), result["coco/AP50"], foreign)

    def save(self, output: Path) -> None:
        write_coco(self.results(), self.records, output / self.written[0])


class InstanceEvaluator(DetectionEvaluator):
    """COCO's figures of masks as well; of each mask only its run lengths are kept."""

    headline: ClassVar[str] = "segm/AP"
    beside: ClassVar[tuple[str, ...]] = ("segm/AP50", "coco/AP")

    def part(self, found: Detections) -> Part:
        boxes, scores, labels, _ = super().part(found)
        return boxes, scores, labels, found.run_lengths()

    def result(self) -> Figures:
        results = self.results()
        return {**coco(self.records, results, masks=True), **super().result()}

    def table(self, result: Figures) -> str:
        return detection_table(self.records, result, ("segm", "coco"))

    def diagnose(self, result: Figures, foreign: bool) -> str | None:
        reason = super().diagnose(result, foreign)
        boxes, masks = result["coco/AP50"] or 0, result["segm/AP50"] or 0
        if reason or boxes < LITTLE or masks >= LITTLE:
            return reason
        return (
            f"Boxes are found (coco/AP50 {boxes:.3f}), their masks are not the objects' (segm/AP50"
            f" {masks:.3f}): the mask head has learned little yet, or the data's masks are not"
            " where their boxes are."
        )


PIXEL_COLUMNS = {
    "IoU": "pixels/IoU",
    "Dice": "pixels/Dice",
    "boundary IoU": "pixels/boundary_IoU",
    "precision": "pixels/precision",
    "recall": "pixels/recall",
}


class PixelEvaluator:
    """Mean intersection over union, Dice, accuracy of pixels, and the same near outlines."""

    headline: ClassVar[str] = "pixels/mIoU"
    beside: ClassVar[tuple[str, ...]] = ()
    written: ClassVar[tuple[str, ...]] = ()

    def __init__(self, records: Records) -> None:
        self.records = records
        self._counts = np.zeros((len(records.names),) * 2, np.int64)
        self._near = np.zeros((2, len(records.names)), np.int64)
        self._seen: set[int] = set()
        self.worst: list[Costly] = []

    def add(self, frames: Sequence[Frame], predictions: Sequence[Segmentation]) -> None:
        for frame, found in zip(frames, predictions, strict=True):
            truth = self.records.pixels(frame.index)
            if truth is not None and frame.index not in self._seen:
                self.count(truth, found)
                self._seen.add(frame.index)
                labels = found.labels.cpu().numpy()
                share = wrong_share(truth, labels)
                self.worst = costliest(self.worst, [Costly(share, frame.index, reduced(labels))])

    def count(self, truth: np.ndarray, found: Segmentation) -> None:
        """Adds one image; `truth` is (H, W) uint8."""
        labels = found.labels.cpu().numpy()
        self._counts += count(truth, labels, len(self._counts))
        self._near += count_boundaries(truth, labels, len(self._counts))

    def state(self) -> Any:
        return (self._counts, self._near), self._seen, self.worst

    def merge(self, states: Sequence[Any]) -> None:
        # counts cannot tell images apart, so that the processes have to share them out (they do)
        counts, seen, worst = zip(*states, strict=True)
        self._counts, self._near = (np.sum(part, axis=0) for part in zip(*counts, strict=True))
        self._seen = set().union(*seen)
        if len(self._seen) != sum(map(len, seen)):
            raise ValueError("two processes evaluated the same image")
        self.worst = costliest(*worst)

    @property
    def confusion(self) -> np.ndarray:
        """(K, K) int64: how many pixels of class `row` were called class `column`."""
        return self._counts

    def result(self) -> Figures:
        names, there = self.records.names, self._counts.sum(1) > 0
        absent = [name for name, found in zip(names, there, strict=True) if not found]
        return {
            **pixels(self._counts, names),
            **boundaries(self._near, there, names),
            "images": len(self._seen),
            "classes_without_objects": absent,
        }

    def table(self, result: Figures) -> str:
        rows, left_out = condensed(class_rows(self.records.names, result, PIXEL_COLUMNS))
        means = ("pixels/mIoU", "pixels/mDice", "pixels/boundary_mIoU")
        mean = ["mean", *(figure(result[key]) for key in means), "", ""]
        accuracy = figure(result["pixels/accuracy"])
        lines = [
            *aligned([["class", *PIXEL_COLUMNS], mean, *rows]),
            *left_out,
            "",
            f"{number(result['images'], 'image')}. Pixel accuracy {accuracy}.",
            "IoU: right pixels of a class / pixels that are or were called it, over the whole set; "
            "pixels that are marked as void count nowhere. Dice (F1): twice the right ones / the"
            " sum of both. Boundary IoU: of pixels within 2 % of the diagonal from the outline.",
            "Precision: right pixels / those called it; recall: right ones / those of the class;"
            " each pixel has its best class, so that there is no score to choose.",
            *absent_classes(result),
        ]
        return "\n".join(lines)

    def diagnose(self, result: Figures, foreign: bool) -> str | None:
        return None

    def save(self, output: Path) -> None:
        """Nothing: the counts are in the figures, and maps would take gigabytes."""
