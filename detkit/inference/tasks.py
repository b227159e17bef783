"""What a task is: one row says all that the commands have to know of it.

A task of one's own is a row of one's own: `tasks["count"] = Task(…)` in a plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from detkit.errors import unknown
from detkit.evaluation.evaluate import (
    DetectionEvaluator,
    Evaluator,
    InstanceEvaluator,
    PixelEvaluator,
)
from detkit.evaluation.labels import LabelEvaluator
from detkit.evaluation.localization import LocalizationEvaluator
from detkit.evaluation.operating import DEFAULTS, Operating
from detkit.inference.write import DetectionWriter, InstanceWriter, Writer
from detkit.inference.write_labels import LabelWriter
from detkit.inference.write_localizations import LocalizationWriter
from detkit.inference.write_pixels import PixelWriter
from detkit.localization import Localization
from detkit.plots.evaluation import (
    OF_DETECTIONS,
    OF_LABELS,
    OF_LOCALIZATIONS,
    OF_PIXELS,
    of_detections,
    of_labels,
    of_localizations,
    of_pixels,
)
from detkit.predictions import Classification, Detections, Prediction, Segmentation

if TYPE_CHECKING:
    from detkit.data.records import Records


Plots = Callable[[Any, Path, Callable[[str], Any]], None]
Measure = Callable[["Records", Any], Evaluator]


@dataclass(frozen=True)
class Task:
    """
    Attributes:
        prediction: what a model of this task gives for an image.
        evaluator: measures it.
        writer: leaves it on disk.
        truth: what the data say of an image, as such a prediction in the file's pixels.
        noun: what messages count, in the singular; empty where there is nothing to count.
        plots: draws what an evaluator measured into a folder, in the files that `plotted` names.
        scored: whether predictions count from a score on, which its evaluator takes as `operating`.
        measures: other evaluators, by the setting of `detkit evaluate` that asks for one: of the
            records and all settings.
    """

    prediction: type[Prediction]
    evaluator: type[Evaluator]
    writer: type[Writer]
    truth: Callable[[Records, int], Prediction]
    noun: str = ""
    scored: bool = False
    plots: Plots | None = None
    plotted: tuple[str, ...] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)

    def measured(self, records: Records, operating: Operating = DEFAULTS) -> Evaluator:
        """An evaluator of these records; `operating` where detections count from a score on."""
        if not self.scored:
            return self.evaluator(records)
        return self.evaluator(records, operating=operating)  # type: ignore[call-arg]


class Tasks(dict[str, Task]):
    """By name, as `Model.task` has it."""

    def __missing__(self, name: str) -> Task:
        raise unknown("task", name, self)


def objects(records: Records, i: int) -> Detections:
    """The objects of an image."""
    truth = records.annotation(i)
    boxes, labels = torch.from_numpy(truth.boxes), torch.from_numpy(truth.labels)
    return Detections(boxes, torch.ones(len(labels)), labels, records.names, annotated=True)


def instances(records: Records, i: int) -> Detections:
    """The objects of an image with their masks."""
    truth = objects(records, i)
    truth.masks = torch.from_numpy(np.array(records.masks(i)))
    return truth


def pixels(records: Records, i: int) -> Segmentation:
    """The classes of an image's pixels."""
    labels = records.pixels(i)
    assert labels is not None
    return Segmentation(torch.zeros(0), records.names, annotated=torch.from_numpy(labels))


def image_class(records: Records, i: int) -> Classification:
    """The class of an image; no scores at all where it is unknown."""
    label = records.annotation(i).image_label
    known = label is not None and label >= 0
    scores = torch.eye(len(records.names))[label] if known else torch.zeros(0)
    return Classification(scores, records.names, annotated=True)


def localized(records: Records, i: int) -> Localization:
    """The one object of an image; no scores at all where there is another number of them."""
    truth = records.annotation(i)
    if len(truth.labels) != 1:
        return Localization(torch.zeros(0), records.names, annotated=True, box=torch.zeros(4))
    scores = torch.eye(len(records.names))[truth.labels[0]]
    box = torch.from_numpy(truth.boxes[0])
    return Localization(scores, records.names, annotated=True, box=box)


def membranes(records: Records, settings: Any) -> Evaluator:
    """The ISBI challenge's errors, of `settings.membrane`."""
    from detkit.evaluation.membranes import MembraneEvaluator  # numba's import takes a second

    return MembraneEvaluator(records, settings.membrane, settings.membrane_thresh)


OF_OBJECTS: dict[str, Any] = {
    "scored": True,
    "plots": of_detections,
    "plotted": OF_DETECTIONS,
}

tasks = Tasks(
    detect=Task(Detections, DetectionEvaluator, DetectionWriter, objects, "object", **OF_OBJECTS),
    segment_instances=Task(
        Detections, InstanceEvaluator, InstanceWriter, instances, "object", **OF_OBJECTS
    ),
    segment_pixels=Task(
        Segmentation,
        PixelEvaluator,
        PixelWriter,
        pixels,
        plots=of_pixels,
        plotted=OF_PIXELS,
        measures={"membrane": membranes},
    ),
    classify=Task(
        Classification,
        LabelEvaluator,
        LabelWriter,
        image_class,
        plots=of_labels,
        plotted=OF_LABELS,
    ),
    localize=Task(
        Localization,
        LocalizationEvaluator,
        LocalizationWriter,
        localized,
        "object",
        plots=of_localizations,
        plotted=OF_LOCALIZATIONS,
    ),
)
