"""What every prediction can do: be brought to the file's image, relabelled, filtered, drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from detkit.errors import DetkitError
from detkit.structures import Frame, Tensors


@dataclass(frozen=True)
class Answer:
    """One thing that a prediction says, for whoever asks where it comes from.

    Attributes:
        text: a few words: a class and how sure it is.
        value: () float32, what grows with how sure it is; inside a model with its graph.
        local: whether it is of a place in the picture.
        box: (4,) xyxy of that place, pixels of the prediction's image, or None.
    """

    text: str
    value: Tensor
    local: bool
    box: Tensor | None = None


class Prediction(Tensors, ABC):
    """What a model says of one image.

    Attributes:
        names: the K class names, or empty inside a model, which does not know them.
        every_class: whether it speaks of all classes at once, so that data to measure it on need
            the very same ones.
        picture: of which it is, as the predictor was given it: a path, an array …; or None.
    """

    names: tuple[str, ...]
    every_class: ClassVar[bool] = True
    picture: Any = None

    @abstractmethod
    def to_image(self, frame: Frame) -> Prediction:
        """The same in pixels of the file's image."""

    @abstractmethod
    def relabelled(self, label_of: Tensor, names: Sequence[str]) -> Prediction:
        """The same with other data's labels, without the classes that these lack.

        Args:
            label_of: (K,) int64, their label of each of its classes, −1 where they lack it.
            names: their classes.
        """

    @abstractmethod
    def draw(self, image: Any) -> np.ndarray:
        """An (H, W, 3) uint8 RGB copy of a picture that shows it.

        Args:
            image: an (H, W, 3) RGB array, or whatever else the predictor takes.
        Raises:
            DetkitError: it is no picture.
        """

    def show(self) -> None:
        """Shows the drawn picture: in a notebook below the cell, else in a window.

        Raises:
            DetkitError: its picture is not known, or nothing here shows pictures.
        """
        from detkit import notebook

        if self.picture is None:
            raise DetkitError(
                "The picture is not known.", remedy="draw one with found.draw(picture)."
            )
        notebook.show(self.draw(self.picture))

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows of it, where the picture is known."""
        from detkit import notebook

        return None if self.picture is None else notebook.png(self.draw(self.picture))

    def filter(
        self,
        score_thresh: float | Mapping[str, float] = 0.0,
        classes: Sequence[str | int] | None = None,
    ) -> Prediction:
        """Without what is too unsure or of other classes, where that can be left out."""
        return self

    def separate(self, nms_iou: float, per_class: bool = False) -> Prediction:
        """Without what a surer object (of its class, or of any) overlaps by more."""
        return self

    def enlarged(self, size: tuple[int, int], factor: int) -> Prediction:
        """For a copy of its image of height and width `size`, `factor` times as large."""
        return self

    def caption(self, score_thresh: float | Mapping[str, float]) -> str:
        """A few words for the line below a drawn picture."""
        return "found"

    def ground_truth(self) -> Prediction:
        """The same drawn without scores: it is what somebody annotated."""
        return self

    def answers(self) -> list[Answer]:
        """What it says, one by one, the surest first."""
        return []

    def inside(self, image: Any) -> np.ndarray | None:
        """A picture of how the model came to it, beside its input, where the model has one."""
        return None
