"""Hard negative mining for the SVM of a class (R-CNN, section 2.3), with bounded memory.

    image ─▶ negatives that score above −1 ─▶ kept; from 2,000 new ones on: fit, drop the easy ones

The first negatives are all kept, for there is no SVM yet; each image is seen once, as in the paper.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.ops.linear_svm import fit_svm

HARD = -1.0001  # a negative that scores more is kept …
EASY = -1.2  # … and goes again when it scores less; both of the published code
FIT_EVERY = 2000  # new negatives


class Miner:
    """The SVM of one class, and the rows that matter to it.

    Args:
        positives: (P, C) float32, features of the class's objects.
        penalty: C of the SVM; times `positive_weight` for the positives.
        most: negatives that may be kept, at least 1; the hardest ones are.

    Attributes:
        weight, bias: of the SVM, None before the first fit.
        negatives: (N, C) float32, those kept.
    """

    def __init__(
        self, positives: NDArray[np.float32], penalty: float, positive_weight: float, most: int
    ) -> None:
        self.positives, self.penalty = positives, penalty
        self.positive_weight, self.most = positive_weight, most
        self.negatives = positives[:0]
        self.weight: Tensor | None = None
        self.bias = 0.0
        self._new: list[NDArray[np.float32]] = []
        self._duals = np.zeros(len(positives), np.float32)

    def see(self, features: Tensor) -> None:
        """The negatives of an image, (N, C)."""
        if self.weight is not None:
            features = features[features @ self.weight.to(features) + self.bias > HARD]
        waiting = sum(map(len, self._new))
        self._new.append(features[: self.most - waiting].cpu().numpy())
        if waiting + len(self._new[-1]) >= min(FIT_EVERY, self.most):
            self.fit()

    def fit(self) -> None:
        """The SVM of what is kept; what is easy for it goes."""
        self.negatives = np.concatenate([self.negatives, *self._new])
        self._new = []
        rows = np.concatenate([self.positives, self.negatives])
        positive = np.arange(len(rows)) < len(self.positives)
        penalty = np.where(positive, self.positive_weight, 1.0) * self.penalty
        start = np.pad(self._duals, (0, len(rows) - len(self._duals)))
        weight, bias, duals = fit_svm(rows, positive, penalty.astype(np.float32), start=start)
        self.weight, self.bias = torch.from_numpy(weight), bias
        scores = self.negatives @ weight + bias
        # room for as many new ones again, so that memory stays under twice the number
        kept = np.sort(np.argsort(-scores, kind="stable")[: self.most])
        kept = kept[scores[kept] >= EASY]
        self.negatives = self.negatives[kept]
        count = len(self.positives)
        self._duals = np.concatenate([duals[:count], duals[count:][kept]])
