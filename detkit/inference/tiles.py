"""Large pictures in overlapping tiles: of each only the middle counts, so that no seam is seen.

    ┌────────────┐
    │  reach     │    side: what the network sees at once
    │   ┌────┐   │    core: side − 2 · reach, what is kept of it
    │   │core│   │
    │   └────┘   │
    └────────────┘

Tiles begin at multiples of `CELL`, so that pooling falls on the same pixels as in the whole
picture. At the picture's edge a tile ends with it: there the network does what it does at any edge
(zeros, or U-Net's mirror image). Where `Model.reach` is all that an output sees, as with unpadded
convolutions, nothing but rounding differs from the whole picture.
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from torch import Tensor, nn

from detkit.errors import DetkitError
from detkit.models.model import Model
from detkit.predictions import Prediction, Segmentation

CELL = 32  # pixels: the coarsest stride
IN_MEMORY = 2**28  # bytes of logits, beyond which they lie in a file without a name


class Tiled(nn.Module):
    """A model of pixels that sees its pictures in tiles.

    Args:
        model: ready for inference.
        side: pixels a side of what it sees at once.
    Raises:
        DetkitError: a model that cannot be taken in tiles, or tiles smaller than what an output
            depends on.
    """

    def __init__(self, model: Model, side: int) -> None:
        super().__init__()
        if model.reach is None:
            raise DetkitError(
                "This model's pictures cannot be taken in tiles: it looks at the whole of them.",
                record="tiles",
                remedy="set tiles=null; models of pixels (model=unet) can.",
            )
        self.model, self.reach = model, model.reach
        self.core = (side - 2 * self.reach) // CELL * CELL
        if self.core < CELL:
            raise DetkitError(
                f"Tiles of {side} pixels are smaller than the network's receptive field: it takes"
                f" {self.reach} more on each side of what it tells of.",
                record="tiles",
                remedy=f"set tiles to {2 * self.reach + CELL} or more; 1024 wastes little.",
            )

    def forward(self, images: Tensor, sizes: Tensor) -> list[Prediction]:
        """
        Args:
            images: (B, C, H, W). sizes: (B, 2), as a `Model` takes them.
        """
        pairs = zip(images, sizes.tolist(), strict=True)
        return [Segmentation(self._logits(image, size)) for image, size in pairs]

    def _logits(self, image: Tensor, size: list[int]) -> Tensor:
        """(K, height, width) float32 of one image, on the CPU."""
        height, width = size
        whole: Tensor | None = None
        for top in range(0, height, self.core):
            for left in range(0, width, self.core):
                (y, rows), (x, columns) = self._part(top, height), self._part(left, width)
                high, wide = min(height, rows.stop) - y, min(width, columns.stop) - x
                seen = torch.tensor([[high, wide]], device=image.device)
                (found,) = self.model(images=image[None, :, rows, columns], sizes=seen)
                bottom, right = min(top + self.core, height), min(left + self.core, width)
                kept = found.logits[:, top - y : bottom - y, left - x : right - x]
                whole = room(len(kept), height, width) if whole is None else whole
                whole[:, top:bottom, left:right] = kept.float().cpu()
        assert whole is not None
        return whole

    def _part(self, start: int, length: int) -> tuple[int, slice]:
        """Where the tile of a core begins, and its pixels; with what pads the batch at its end."""
        first, last = max(0, start - self.reach), start + self.core + self.reach
        return first, slice(first, last if last < length else -(-length // CELL) * CELL)


def room(classes: int, height: int, width: int) -> Tensor:
    """(K, height, width) float32 to be filled: in memory, or where that is much in a file."""
    if classes * height * width * 4 <= IN_MEMORY:
        return torch.empty(classes, height, width)
    file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the map, then is gone
    return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(classes, height, width)))
