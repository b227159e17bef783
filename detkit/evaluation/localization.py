"""ILSVRC's localisation error (Russakovsky et al. 2015, arXiv:1409.0575, section 4.2).

A picture is localised where its class is named and the box overlaps its object by at least a half.
Five guesses of the class count for top-5; they share the one box of ours. Beside the error stands
that of the trivial box: the same classes with a box around the picture's middle, of the size that
is best on the very pictures that are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch

from detkit.evaluation.costliest import Costly, costliest
from detkit.evaluation.labels import AMONG
from detkit.evaluation.text import aligned, figure, number
from detkit.ops.boxes import paired_overlap
from detkit.structures import Frame

if TYPE_CHECKING:
    from pathlib import Path

    from detkit.data.records import Records
    from detkit.evaluation.evaluate import Figures
    from detkit.localization import Localization

ENOUGH = 0.5  # IoU
SHARES = np.linspace(0.3, 1.0, 15)  # of the picture's sides, that trivial boxes have
KEYS = ("top1", "error", "error5", "centre_error", "centre_error5", "class", "box", "iou")


class Found(NamedTuple):
    """What is kept of a picture.

    Attributes:
        label, called: its class, and the one that was named.
        score: how sure that one was.
        box: (4,) float64 xyxy, the one that was found, pixels of the file's image.
        rank: how many classes were thought likelier than that, 0 where it was named first.
        iou: of the box with the object.
        centre: (15,) float64, the same of a box around the middle, for each of `SHARES`.
    """

    label: int
    called: int
    score: float
    box: np.ndarray
    rank: int
    iou: float
    centre: np.ndarray


class LocalizationEvaluator:
    """The error of class and box together, and of each alone."""

    headline: ClassVar[str] = "localize/top1"
    beside: ClassVar[tuple[str, ...]] = ("localize/class", "localize/box")
    written: ClassVar[tuple[str, ...]] = ()

    def __init__(self, records: Records) -> None:
        self.records = records
        self._found: dict[int, Found] = {}

    def add(self, frames: Sequence[Frame], predictions: Sequence[Localization]) -> None:
        for frame, found in zip(frames, predictions, strict=True):
            truth = self.records.annotation(frame.index)
            if frame.index in self._found or len(truth.labels) != 1:
                continue
            label, wanted = int(truth.labels[0]), torch.from_numpy(truth.boxes[0]).double()
            assert found.box is not None
            box = found.box.cpu().double()
            self._found[frame.index] = Found(
                label,
                found.label,
                float(found.scores[found.label]),
                box.numpy(),
                int((found.scores > found.scores[label]).sum()),
                float(paired_overlap(box, wanted)),
                paired_overlap(centred(frame.original), wanted).numpy(),
            )

    def state(self) -> Any:
        return self._found

    def merge(self, states: Sequence[Any]) -> None:
        self._found = {i: found for state in reversed(states) for i, found in state.items()}

    @property
    def confusion(self) -> np.ndarray:
        """(K, K) int64: how many images of class `row` were called class `column`."""
        counts = np.zeros((len(self.records.names),) * 2, np.int64)
        for one in self._found.values():
            counts[one.label, one.called] += 1
        return counts

    @property
    def worst(self) -> list[Costly]:
        """A wrong class costs its score and 1, a box what it lacks of its object."""
        wrong = {i: one for i, one in self._found.items() if not _right(one)}
        costs = {i: 1 - one.iou + (one.rank > 0) * (1 + one.score) for i, one in wrong.items()}
        return costliest([Costly(costs[i], i, one) for i, one in wrong.items()])

    def result(self) -> Figures:
        found = [self._found[i] for i in sorted(self._found)]
        names = self.records.names
        labels = np.array([one.label for one in found], np.int64)
        return {
            **localization_figures(found, len(names)),
            **{
                f"localize/top1/{name}": _share([_right(one) for one in found if one.label == k])
                for k, name in enumerate(names)
            },
            "images": len(found),
            "images_without_one_object": len(self.records) - len(found),
            "classes_without_images": [
                name for k, name in enumerate(names) if not (labels == k).any()
            ],
        }

    def table(self, result: Figures) -> str:
        names = self.records.names
        labels = [one.label for one in self._found.values()]
        rows = [
            [name, figure(result[f"localize/top1/{name}"]), f"{labels.count(k):,}"]
            for k, name in enumerate(names)
        ]
        errors = [
            ["", "top-1", "top-5"],
            *(
                [what, figure(result[f"localize/{key}"]), figure(result[f"localize/{key}5"])]
                for what, key in {
                    "localisation error": "error",
                    "with a box around the middle": "centre_error",
                }.items()
            ),
        ]
        parts = " ".join(
            f"{what} {figure(result[f'localize/{key}'])}"
            for what, key in {"class": "class", "box": "box", "mean IoU": "iou"}.items()
        )
        lines = [
            *aligned(errors),
            "",
            f"right alone: {parts}",
            "",
            *aligned([["class", "localised", "images"], *rows]),
            "",
            f"{number(result['images'], 'image')}; localised: the right class in a box with an IoU"
            " of at least 0.5; top-5: the right class is among the five likeliest (– for five"
            " classes or fewer).",
            "The box around the middle has the size that is best on these images"
            f" ({figure(result['localize/centre_share'])} of their sides) and the model's classes.",
        ]
        if absent := result["classes_without_images"]:
            lines.append(f"Without an image: {', '.join(absent)}.")
        return "\n".join(lines)

    def diagnose(self, result: Figures, foreign: bool) -> str | None:
        if not result["images"]:
            return "No image of this split has exactly one object, so nothing could be measured."
        return None

    def save(self, output: Path) -> None:
        """Nothing: the figures are all there is."""


def localization_figures(found: Sequence[Found], classes: int) -> dict[str, float | None]:
    """Fractions of 1, None where there is no picture (top-5: for five classes or fewer).

    Returns:
        Under `localize/`: `top1`, pictures whose class and box are right; `error`, the others;
        `error5`, of five guesses; `centre_error`, `centre_error5` and `centre_share`, the same of
        the box around the middle, and its sides; `class` and `box`, what is right alone; `iou`,
        the mean.
    """
    ranks = np.array([one.rank for one in found])
    ious = np.array([one.iou for one in found])
    centres = np.array([one.centre for one in found]).reshape(-1, len(SHARES)) >= ENOUGH
    best = int(centres.sum(0).argmax())
    first, among, boxed = ranks == 0, ranks < AMONG, ious >= ENOUGH
    few = classes <= AMONG
    figures = {
        "top1": first & boxed,
        "error": ~(first & boxed),
        "error5": None if few else ~(among & boxed),
        "centre_error": ~(first & centres[:, best]),
        "centre_error5": None if few else ~(among & centres[:, best]),
        "class": first,
        "box": boxed,
        "iou": ious,
    }
    means = {f"localize/{k}": None if v is None else _share(v) for k, v in figures.items()}
    return {**means, "localize/centre_share": float(SHARES[best]) if len(found) else None}


def centred(size: tuple[int, int]) -> torch.Tensor:
    """(15, 4) float64 xyxy boxes around the middle of a picture of (height, width)."""
    height, width = size
    sides = torch.from_numpy(SHARES)[:, None] * torch.tensor([width, height])
    middle = torch.tensor([width, height]) / 2
    return torch.cat([middle - sides / 2, middle + sides / 2], 1)


def _right(one: Found) -> bool:
    return one.rank == 0 and one.iou >= ENOUGH


def _share(values: Sequence[bool] | np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
