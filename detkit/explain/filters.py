"""The filters of a convolution on one sheet."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from detkit.explain import canvas
from detkit.explain.page import Picture

MOST = 64  # filters on a sheet of whole ones
ROWS, COLUMNS = 24, 16  # filters and input channels on a sheet of single ones
SIDE = 40  # pixels of a tile


def convolutions(model: nn.Module) -> dict[str, nn.modules.conv._ConvNd]:
    """Those of a model, by name, in the order in which they are listed."""
    parts = model.named_modules()
    return {name: part for name, part in parts if isinstance(part, nn.modules.conv._ConvNd)}


def picture(name: str, conv: nn.modules.conv._ConvNd, random: bool) -> Picture:
    """
    Args:
        random: whether nothing was ever learnt or loaded, which is then said.
    """
    weights = conv.weight.detach().cpu().float()
    if isinstance(conv, nn.modules.conv._ConvTransposeNd):
        weights = weights.transpose(0, 1)
    while weights.ndim < 4:  # in one dimension
        weights = weights[:, :, None]
    count, channels, height, width = weights.shape
    said = f"{count} filters of {height}×{width} over {channels} channels."
    if height == width == 1:
        sheet = _matrix(weights[:, :, 0, 0])
        how = "A row is a filter, a column the channel that it weighs: red above zero, blue below."
    elif channels == 3:
        sheet, how = _coloured(weights), "Each in the colours that it looks for; grey is zero."
    elif channels == 1:
        sheet = canvas.grid([_tile(each[0]) for each in weights[:MOST]])
        how = "Red weights count for, blue ones against."
    else:
        sheet = _single(weights)
        how = "A row is a filter, a column an input channel: red weights count for, blue against."
    shown = _left_out(count, channels, height * width)
    drawn = " They are random: nothing was learnt." if random else ""
    return Picture(f"Filters of {name}", f"{said} {how}{shown}{drawn}", sheet)


def _left_out(count: int, channels: int, cells: int) -> str:
    if cells == 1 or (channels in (1, 3) and count <= MOST):
        return ""
    if channels in (1, 3):
        return f" Shown are the first {MOST}."
    if count > ROWS or channels > COLUMNS:
        rows, columns = min(count, ROWS), min(channels, COLUMNS)
        return f" Shown are the first {rows} of them and the first {columns} channels."
    return ""


def _coloured(weights: torch.Tensor) -> np.ndarray:
    """(D, 3, k, l): zero is the middle grey, each filter by its own largest weight."""
    most = weights.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    shares = ((weights / most + 1) / 2 * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return canvas.grid([canvas.enlarged(each, SIDE) for each in shares[:MOST]])


def _single(weights: torch.Tensor) -> np.ndarray:
    tiles = []
    columns = min(COLUMNS, weights.shape[1])
    for each in weights[:ROWS]:
        most = float(each.abs().max())
        tiles += [_tile(part, most, SIDE * 3 // 5) for part in each[:columns]]
    return canvas.grid(tiles, columns=columns, gap=2)


def _tile(weights: torch.Tensor, most: float | None = None, side: int = SIDE) -> np.ndarray:
    return canvas.enlarged(canvas.signed(weights.numpy(), most), side)


def _matrix(weights: torch.Tensor) -> np.ndarray:
    sheet = canvas.signed(weights.numpy())
    return canvas.enlarged(sheet[:512, :512], 360)
