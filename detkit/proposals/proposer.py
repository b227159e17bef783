"""What a model asks for boxes, and the names that it may be chosen by."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detkit.registry import Registry


class Proposer(Protocol):
    """Where a model's proposals come from."""

    def __call__(self, image: NDArray, *, image_id: int | str, file: str) -> NDArray[np.float32]:
        """The boxes of one image, best first.

        Args:
            image: (H, W, 3) uint8 RGB or float in 0 … 1, the file's upright image, not augmented.
            image_id: its id in the data set.
            file: its path as the data set has it.
        Returns:
            (P, 4) float32, xyxy, pixels of the file's image; P may be 0.
        """


proposers: Registry[Proposer] = Registry("proposer", "detkit.proposals")
