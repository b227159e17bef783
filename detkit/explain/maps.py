"""What a layer answers to a picture: its maps, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from detkit.explain import canvas
from detkit.explain.page import Picture
from detkit.explain.watching import tensors

CHANNELS = 36  # on a sheet
CALLS = 5  # of a layer that is called several times (a head on each level)
SIDE, LARGEST = 96, 144  # pixels of a tile: about, and at most


def pictures(
    name: str, outputs: Sequence[Any], content: tuple[float, float] = (1.0, 1.0)
) -> list[Picture]:
    """
    Args:
        name: of the layer.
        outputs: what it gave, call by call: tensors, or dicts and lists of them.
        content: the part of the height and of the width of the network's image that is no padding.
    """
    found = [
        (f"{call} {way}".strip() if len(outputs) > 1 else way, tensor)
        for call, output in enumerate(outputs, 1)
        for way, tensor in tensors(output)
        if tensor.is_floating_point() and tensor.numel() and tensor.ndim
    ]
    return [
        _picture(f"Maps of {name} {way}".strip(), tensor, content) for way, tensor in found[:CALLS]
    ]


def _picture(title: str, tensor: Tensor, content: tuple[float, float]) -> Picture:
    values = tensor.detach().cpu().float()
    shape = " × ".join(map(str, values.shape))
    if values.ndim == 4 and values.shape[2] * values.shape[3] > 1:
        several, count, *cells = values.shape
        sides = cells
        if several == 1:  # of the whole picture, not of regions
            sides = [max(1, round(n * part)) for n, part in zip(cells, content, strict=True)]
        whole = values[0, :, : sides[0], : sides[1]]
        chosen = strongest(whole)
        tiles = [_tile(whole[channel].numpy()) for channel in chosen]
        some = f" Shown are the {len(chosen)} that vary most." if len(chosen) < count else ""
        first = f" Of {several} regions the first." if several > 1 else ""
        text = (
            f"{count} channels of {sides[0]}×{sides[1]} cells, each from its least (dark) to its"
            f" largest number (yellow).{some}{first}"
        )
        return Picture(title, text, canvas.grid(tiles))
    rows = values.reshape(-1, values.shape[-1] if values.ndim == 2 else values[0].numel())
    strip = canvas.signed(rows[:64, :1024].numpy())
    strip = strip.repeat(max(1, 720 // strip.shape[1]), 1).repeat(max(1, 48 // len(strip)), 0)
    return Picture(title, f"{shape} numbers, a row each vector: red above zero, blue below.", strip)


def strongest(maps: Tensor) -> list[int]:
    """The channels of (C, H, W) that vary most, in their order: the others are of one colour."""
    spread = maps.flatten(1).std(1, correction=0)
    return sorted(spread.topk(min(CHANNELS, len(spread))).indices.tolist())


def _tile(values: np.ndarray) -> np.ndarray:
    return canvas.shrunk(canvas.enlarged(canvas.heat(values), SIDE), LARGEST)
