"""A task of one's own as a plugin of one file: how many objects a picture shows."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import normalize
from detkit.draw import draw_labels
from detkit.evaluation.evaluate import Figures
from detkit.inference.tasks import Task, tasks
from detkit.models.model import Model, Wants, models
from detkit.predictions import Prediction


@dataclass
class Count(Prediction):
    number: Tensor  # () float32
    names: tuple[str, ...] = ()

    every_class: ClassVar[bool] = False

    def to_image(self, frame):
        return self

    def relabelled(self, label_of, names):
        return replace(self, names=tuple(names))

    def draw(self, image):
        return draw_labels(image, [f"{float(self.number):.1f} objects"], [0])


@models.register("counter")
class Counter(Model):
    """A mean of the last map and one linear layer."""

    task, needs = "count", frozenset({"boxes"})

    def __init__(self, backbone, classes) -> None:
        super().__init__(backbone, classes)
        (channels,) = backbone.channels.values()
        self.number = nn.Linear(channels, 1)

    @classmethod
    def wants(cls, fpn, settings) -> Wants:
        return Wants(levels=("5",))

    def forward(self, images, targets=None, sizes=None):
        (features,) = self.backbone(normalize(images, self.mean_std, sizes)).values()
        numbers = self.number(features.mean((2, 3)))[:, 0]
        if targets is None:
            return [Count(number) for number in numbers]
        wanted = numbers.new_tensor([float(len(target)) for target in targets])
        return {"number": F.smooth_l1_loss(numbers.float(), wanted)}


class CountEvaluator:
    headline: ClassVar[str] = "count/accuracy"
    beside: ClassVar[tuple[str, ...]] = ("count/error",)
    written: ClassVar[tuple[str, ...]] = ()

    def __init__(self, records) -> None:
        self.records, self.found = records, {}

    def add(self, frames, predictions) -> None:
        self.found |= {f.index: float(p.number) for f, p in zip(frames, predictions, strict=True)}

    def state(self):
        return self.found

    def merge(self, states) -> None:
        self.found = {i: n for state in states for i, n in state.items()}

    def result(self) -> Figures:
        wanted = np.diff(self.records.offsets)
        off = np.array([abs(number - wanted[i]) for i, number in self.found.items()] or [0.0])
        return {"count/accuracy": float((off < 0.5).mean()), "count/error": float(off.mean())}

    def table(self, result) -> str:
        return f"off by {result['count/error']:.2f} objects on average"

    def diagnose(self, result, foreign):
        return None

    def save(self, output) -> None:
        (output / "counts.txt").write_text("\n".join(map(str, self.found.values())))


class CountWriter:
    tables: ClassVar[tuple[str, ...]] = ("counts.csv",)
    leaves: ClassVar[str] = "counts.csv"

    def __init__(self, output, names, category_ids, *, part="", videos=True) -> None:
        self.file = (output / "counts.csv").open("w", newline="")
        self.rows, self.found = csv.writer(self.file), 0

    def add(self, picture, prediction) -> None:
        self.rows.writerow([picture.item.file, f"{float(prediction.number):.2f}"])
        self.found += 1

    def close(self) -> None:
        self.file.close()


def truth(records, i) -> Count:
    return Count(torch.tensor(float(np.diff(records.offsets)[i])), records.names)


tasks["count"] = Task(Count, CountEvaluator, CountWriter, truth, "count")
