"""Hard negative mining for the SVM of a class (R-CNN, section 2.3), with bounded memory.

    image ─▶ negatives that score above −1 ─▶ kept; from 2,000 new ones on: fit, drop the easy ones

The first negatives are all kept, for there is no SVM yet; each image is seen once, as in the paper.
Where they are more than there is room for, an SVM is fitted as soon as it is full, and of those
that are not easy the hardest three quarters stay.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.models.heads.kept_rows import move_up
from detkit.ops.linear_svm import fit_svm

HARD = -1.0001  # a negative that scores more is kept …
EASY = -1.2  # … and goes again when it scores less; both of the published code
FIT_EVERY = 2000  # new negatives


class Miner:
    """The SVM of one class, and the rows that matter to it.

    Args:
        positives: (P, C) float32, features of the class's objects.
        penalty: C of the SVM; times `positive_weight` for the positives.
        most: negatives that there is room for, at least 2.

    Attributes:
        weight, bias: of the SVM, None before the first fit.
        left_out: negatives that were not easy, but for which there was no room.
    """

    def __init__(
        self, positives: NDArray[np.float32], penalty: float, positive_weight: float, most: int
    ) -> None:
        count, channels = positives.shape
        self.penalty, self.positive_weight, self.most = penalty, positive_weight, most
        self.weight: Tensor | None = None
        self.bias = 0.0
        self.left_out = 0
        self._rows = np.empty((count + most, channels), np.float32)  # the positives come first
        self._rows[:count] = positives
        self._positives = self._used = self._fitted = count
        self._duals = np.zeros(count, np.float32)

    @property
    def negatives(self) -> NDArray[np.float32]:
        """(N, C), those that are kept."""
        return self._rows[self._positives : self._used]

    def see(self, features: Tensor) -> None:
        """The negatives of an image, (N, C)."""
        if self.weight is not None:
            features = features[features @ self.weight.to(features) + self.bias > HARD]
        new = features.cpu().numpy()
        while len(new):
            some = new[: len(self._rows) - self._used]
            self._rows[self._used : self._used + len(some)] = some
            self._used += len(some)
            if self._used == len(self._rows) or self._used - self._fitted >= FIT_EVERY:
                self.fit()
            new = new[len(some) :]

    def fit(self) -> None:
        """The SVM of what is kept; what is easy for it goes."""
        rows, count = self._rows[: self._used], self._positives
        positive = np.arange(len(rows)) < count
        penalty = np.where(positive, self.positive_weight, 1.0) * self.penalty
        start = np.pad(self._duals, (0, len(rows) - len(self._duals)))
        weight, bias, duals = fit_svm(rows, positive, penalty.astype(np.float32), start=start)
        self.weight, self.bias = torch.from_numpy(weight), bias
        scores = self.negatives @ weight + bias
        hard = (scores >= EASY).nonzero()[0]
        kept = np.sort(hard[np.argsort(-scores[hard], kind="stable")[: max(1, self.most * 3 // 4)]])
        self.left_out += len(hard) - len(kept)
        move_up(self.negatives, kept)
        self._duals = np.concatenate([duals[:count], duals[count:][kept]])
        self._used = self._fitted = count + len(kept)
