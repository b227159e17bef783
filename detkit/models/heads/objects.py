"""The objects of a batch in one row, and which of them a predictor learns: what grids share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from detkit.structures import Targets


class Objects(NamedTuple):
    """N objects of all images, image by image.

    Attributes:
        image: (N,) int64, the image of each.
        boxes: (N, 4) float32, xyxy, pixels of the network's image.
        labels: (N,) int64.
        crowd: (N,) bool.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor


def objects_of(targets: Sequence[Targets]) -> Objects:
    """Those of a batch, also where nothing says which of them are crowds."""
    images = [torch.full_like(target.labels, i) for i, target in enumerate(targets)]
    crowds = [
        torch.zeros_like(t.labels, dtype=torch.bool) if t.crowd is None else t.crowd
        for t in targets
    ]
    boxes, labels = [t.boxes for t in targets], [t.labels for t in targets]
    return Objects(torch.cat(images), torch.cat(boxes), torch.cat(labels), torch.cat(crowds))


def winners(position: Tensor, crowd: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """Who learns where several objects ask for one place: the first one that is no crowd.

    Returns:
        (N,) bool, the objects that are learnt; (places,) bool, the places that have one.
    """
    number = torch.arange(len(position), device=position.device)
    nobody = len(position)
    owner = torch.full((places,), nobody, device=position.device).scatter_reduce(
        0, position, number.masked_fill(crowd, nobody), "amin"
    )
    return (owner[position] == number) & ~crowd, owner < nobody
