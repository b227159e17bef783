"""Boxes as offsets from other boxes (R-CNN, appendix C; Fast R-CNN, section 2.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_RATIO = math.log(1000 / 16)  # a width grows at most 62 times: keeps exp() finite early on


@dataclass(frozen=True)
class BoxCoder:
    """`deltas` = weights · ((x − xa)/wa, (y − ya)/ha, log(w/wa), log(h/ha)) of centres and sizes.

    Attributes:
        weights: a factor for the two of the centre and one for the two of the size, so that each
            has about unit variance. Numbers, for a tensor would have to be sent to the GPU.
    """

    weights: tuple[float, float] = (1.0, 1.0)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """(…, 4) deltas that turn `anchors` into `boxes`, both (…, 4) xyxy of positive size."""
        centre, size = _centre_size(boxes)
        anchor_centre, anchor_size = _centre_size(anchors)
        shift, growth = (centre - anchor_centre) / anchor_size, (size / anchor_size).log()
        return torch.cat([shift * self.weights[0], growth * self.weights[1]], -1)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """(…, 4) boxes, the inverse; sizes grow at most by `exp(MAX_LOG_RATIO)`."""
        shift, growth = deltas[..., :2] / self.weights[0], deltas[..., 2:] / self.weights[1]
        anchor_centre, anchor_size = _centre_size(anchors)
        centre = shift * anchor_size + anchor_centre
        half = growth.clamp(max=MAX_LOG_RATIO).exp() * anchor_size / 2
        return torch.cat([centre - half, centre + half], dim=-1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size
