"""A linear SVM, by dual coordinate descent (Hsieh et al. 2008, ICML, algorithm 1).

    minimise  ½ ‖w‖² + ½ b² / s² + C · Σ max(0, 1 − y (w·x + b)),     s the bias's own scale

It ends when the dual's value proves that the minimum is near. The order of the rows is drawn from a
seed, so the same rows give the same SVM.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detkit.ops.compiled import compiled

PASSES = 1000  # at most


def fit_svm(
    rows: NDArray[np.float32],
    positive: NDArray[np.bool_],
    penalty: NDArray[np.float32],
    *,
    bias_scale: float = 10.0,
    gap: float = 1e-4,
    start: NDArray[np.float32] | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.float32], float, NDArray[np.float32]]:
    """The SVM of some rows.

    Args:
        rows: (N, D).
        positive: (N,), which of them are of the class.
        penalty: (N,), C of each row.
        bias_scale: s above; the larger, the less the bias is held back.
        gap: how far the objective may be above the minimum, as a fraction of it.
        start: (N,) dual variables to go on from, such as those of an SVM of most of these rows.
    Returns:
        weight: (D,). bias. duals: (N,), 0 where a row does not matter to the SVM.
    """
    signs = np.where(positive, 1.0, -1.0)
    duals = np.zeros(len(rows)) if start is None else start.astype(np.float64)
    duals = np.minimum(duals, penalty)
    weight = np.einsum("n,nd->d", duals * signs, rows, dtype=np.float64)  # copies no rows
    bias = float(bias_scale**2 * (duals * signs).sum())
    curvature = np.einsum("nd,nd->n", rows, rows, dtype=np.float64) + bias_scale**2
    generator = np.random.default_rng(seed)
    for _ in range(PASSES):
        order = generator.permutation(len(rows))
        bias = _descend(rows, signs, penalty, duals, weight, bias, curvature, bias_scale**2, order)
        norm = weight @ weight + (bias / bias_scale) ** 2
        margins = signs * (rows @ weight.astype(np.float32) + bias)
        primal = norm / 2 + penalty @ np.maximum(0, 1 - margins)
        dual = duals.sum() - norm / 2
        if primal - dual <= gap * primal:
            break
    return weight.astype(np.float32), bias, duals.astype(np.float32)


@compiled
def _descend(rows, signs, penalty, duals, weight, bias, curvature, bias_square, order):
    """A pass over the rows: each dual variable to its best value. Returns the bias."""
    for i in order:
        row = rows[i]
        score = bias
        for d in range(len(row)):
            score += weight[d] * row[d]
        slope = signs[i] * score - 1.0
        best = min(max(duals[i] - slope / curvature[i], 0.0), penalty[i])
        change = (best - duals[i]) * signs[i]
        if change != 0.0:
            duals[i] = best
            bias += change * bias_square
            for d in range(len(row)):
                weight[d] += change * row[d]
    return bias
