"""What a localizer says of one image: its class, and one box."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detkit.predictions import Answer, Classification, Detections
from detkit.structures import Frame


@dataclass
class Localization(Classification):
    """The class of one image and the box of its one object.

    Attributes:
        box: (4,) float32, xyxy; pixels of the network's image until `to_image`. Of an image whose
            object is not known, four zeros.
        size: (height, width) of the image that it is in pixels of, where that is known.
    """

    box: Tensor | None = None
    size: tuple[int, int] | None = None

    def to_image(self, frame: Frame) -> Localization:
        assert self.box is not None
        return replace(self, box=frame.boxes_to_image(self.box[None])[0], size=frame.original)

    def enlarged(self, size: tuple[int, int], factor: int) -> Localization:
        assert self.box is not None
        height, width = size
        return replace(self, box=self.box * factor, size=(height * factor, width * factor))

    def detections(self) -> Detections:
        """The same as one object: the best class, with its score, in the box."""
        assert self.box is not None
        label = torch.tensor([self.label] if len(self.scores) else [], dtype=torch.int64)
        boxes = self.box.reshape(1, 4)[: len(label)]
        scores = self.scores[label]
        return Detections(boxes, scores, label, self.names, annotated=self.annotated)

    def answers(self) -> list[Answer]:
        """The classes; the box is that of the likeliest, whichever is asked for."""
        return [replace(answer, box=self.box) for answer in super().answers()]

    def draw(self, image: Any) -> np.ndarray:
        """A copy of a picture with the box and its class on it; see `Prediction`."""
        return self.detections().draw(image)
