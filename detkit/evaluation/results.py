"""Detections of a whole data set as flat arrays; how a file's ids meet those of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from detkit.data.records import Records


@dataclass(frozen=True)
class Results:
    """D detections.

    Attributes:
        images: (D,) int64, index of the image in the records.
        boxes: (D, 4) float64, xyxy, pixels of the file's image.
        scores: (D,) float64, any scale.
        labels: (D,) int64, 0 … K−1.
        masks: D run-length records (`size`, `counts`), or None.
        unknown_images: how many detections were left out for each image id that the data lack.
        unknown_classes: the same for category ids or class names.
    """

    images: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Sequence[dict[str, Any]] | None = None
    unknown_images: Counter[str] = field(default_factory=Counter)
    unknown_classes: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def empty() -> Results:
        none = np.zeros(0, np.int64)
        return Results(none, np.zeros((0, 4)), np.zeros(0), none)

    def select(self, keep: np.ndarray) -> Results:
        """The detections that `keep` (a bool mask or indices) names."""
        places: list[int] = np.arange(len(self))[keep].tolist()
        return replace(
            self,
            images=self.images[places],
            boxes=self.boxes[places],
            scores=self.scores[places],
            labels=self.labels[places],
            masks=None if self.masks is None else [self.masks[i] for i in places],
        )

    def known(self, ids: Sequence[Any], classes: Sequence[Any]) -> Results:
        """Without the detections of image −1 and label −1, which are counted by their own names."""
        strangers = np.flatnonzero(self.images < 0).tolist()
        nameless = np.flatnonzero(self.labels < 0).tolist()
        return replace(
            self.select((self.images >= 0) & (self.labels >= 0)),
            unknown_images=Counter(str(ids[i]) for i in strangers),
            unknown_classes=Counter(str(classes[i]) for i in nameless),
        )


def image_index(records: Records) -> dict[str, int]:
    """Index of each image by its id; an all-digit id also without its leading zeros."""
    exact = {image: i for i, image in enumerate(records.image_ids)}
    numbers: dict[str, int] = {}
    for image, i in exact.items():
        if image.isdecimal():
            short = image.lstrip("0") or "0"
            numbers[short] = -1 if short in numbers else i  # −1: two ids are the same number
    return {**{short: i for short, i in numbers.items() if i >= 0}, **exact}


def find_image(index: dict[str, int], image: Any) -> int:
    """Index of an image id as a file gives it, −1 if there is none."""
    text = str(int(image)) if isinstance(image, float) and image.is_integer() else str(image)
    if text not in index and text.isdecimal():
        text = text.lstrip("0") or "0"
    return index.get(text, -1)


def find_label(label_of: dict[int, int], category: Any) -> int:
    """Label of a category id as a file gives it, −1 if there is none."""
    if isinstance(category, float) and not category.is_integer():
        return -1
    try:
        return label_of.get(int(category), -1)
    except (TypeError, ValueError):
        return -1
