"""The convolutions that the YOLOs have behind their backbone."""

from __future__ import annotations

import math

import torch
from torch import nn

from detkit.backbones.darknet import ConvNorm

PRIOR = 1e-3  # objectness of an untrained predictor


def convolution(taken: int, given: int, side: int, stride: int = 1) -> ConvNorm:
    """Darknet's unit, started for its leaky ReLU."""
    unit = ConvNorm(taken, given, side, stride)
    nn.init.kaiming_normal_(unit[0].weight, a=0.1)  # type: ignore[arg-type]
    return unit


def predictors(taken: int, outputs: int, anchors: int) -> nn.Conv2d:
    """The last convolution, linear and 1×1: it starts at its anchors' boxes and at `PRIOR`."""
    last = nn.Conv2d(taken, outputs, 1)
    start_predictors(last, anchors)
    return last


@torch.no_grad()
def start_predictors(last: nn.Conv2d, anchors: int) -> None:
    """Starts such a convolution, which has a bias."""
    nn.init.normal_(last.weight, std=0.01)
    assert last.bias is not None
    bias = last.bias.zero_().view(anchors, -1)
    bias[:, 4] = math.log(PRIOR / (1 - PRIOR))
