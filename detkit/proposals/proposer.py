"""What a model asks for boxes, and the names that it may be chosen by."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detkit.errors import DetkitError
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


def proposer_of(name: str, file: str | None, **settings: Any) -> Proposer:
    """The proposer that a model's settings name.

    Args:
        name: `model.proposer`.
        file: `model.proposals_file`, for a proposer that reads one.
        settings: of all proposers that detkit has; those that this one does not take are nothing to
            it.
    Raises:
        DetkitError: no such proposer, no file for one that reads it, or a file for another.
    """
    takes = proposers.settings(name)
    if ("path" in takes) != (file is not None):
        raise DetkitError(
            f"model.proposer={name} {'names' if file is None else 'reads'} no file.",
            record="model.proposals_file",
            remedy="set model.proposer=file and model.proposals_file=FILE, or neither.",
        )
    given = {**settings, "path": file}
    return proposers[name](**{key: value for key, value in given.items() if key in takes})
