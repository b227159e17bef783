"""Ridge regression from sums alone: rows come and go, and D² numbers stay."""

from __future__ import annotations

import torch
from torch import Tensor


class Ridge:
    """minimise ‖[x, 1] W + mean(y) − y‖² + λ ‖W‖², the sums of rows that come in parts.

    Sums are float64: as exact as one solve with all rows.

    Args:
        inputs, outputs: D and E, the length of x and of y.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device | str = "cpu") -> None:
        # Apple's GPUs have no float64
        kind = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.count = 0
        self.square = torch.zeros(inputs + 1, inputs + 1, device=device, dtype=kind)
        self.cross = torch.zeros(inputs + 1, outputs, device=device, dtype=kind)
        self.total = torch.zeros(outputs, device=device, dtype=kind)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Some more rows: (N, D) and (N, E)."""
        x = torch.cat([x, x.new_ones(len(x), 1)], 1).to(self.square)
        y = y.to(self.square)
        self.count += len(x)
        self.square.addmm_(x.T, x)
        self.cross += x.T @ y
        self.total += y.sum(0)

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """W without its last row, (D, E), and that row with the mean, (E,), both float32."""
        mean = self.total / max(1, self.count)
        cross = self.cross - self.square[-1:].T * mean  # the last row of XᵀX is the sum of rows
        square = self.square.clone()
        square.diagonal().add_(penalty)
        factor = torch.linalg.cholesky(square)
        weight = torch.cholesky_solve(cross, factor)
        return weight[:-1].float(), (weight[-1] + mean).float()
