"""Rows of features in memory that is set aside once, of which the part not yet written takes none.

So a bound holds from the first row on; lists of small arrays would leave holes that are not given
back when they grow and go.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MOVED = 1024  # rows that are copied at once


def move_up(rows: NDArray[np.float32], kept: NDArray[np.int64]) -> None:
    """Moves the rows of these numbers, which ascend, to the front, in place."""
    for first in range(0, len(kept), MOVED):
        some = kept[first : first + MOVED]
        rows[first : first + len(some)] = rows[some]


class ObjectRows:
    """The features of all objects, or as many as there is room for: then those of the classes with
    the most are a random part of theirs, each object as likely as any other of its class.

    Args:
        most: rows, at least 2 a class.
        channels: of a row.
        num_classes: K.
        seed: of what is drawn.
    """

    def __init__(self, most: int, channels: int, num_classes: int, seed: int) -> None:
        self._rows = np.empty((most, channels), np.float32)
        self._labels = np.zeros(most, np.int64)
        self._lots = np.zeros(most)  # a row stays while its lot is up to the limit of its class
        self._limits = np.ones(num_classes)
        self._count = 0
        self._generator = np.random.default_rng(seed)

    def add(self, rows: Tensor, labels: Tensor) -> None:
        """Some more: (N, C) float32, and (N,) the class of each."""
        new, of = rows.cpu().numpy(), labels.cpu().numpy()
        lots = self._generator.random(len(new))
        while len(new):
            if self._count == len(self._rows):
                self._thin()
            room = len(self._rows) - self._count
            place = slice(self._count, self._count + len(new[:room]))
            self._rows[place], self._labels[place] = new[:room], of[:room]
            self._lots[place] = lots[:room]
            self._count = place.stop
            new, of, lots = new[room:], of[room:], lots[room:]

    def of(self, label: int) -> NDArray[np.float32]:
        """(N, C) of a class, in the order in which they came."""
        return self._rows[: self._count][self._its(label)]

    def number(self, label: int) -> int:
        """The rows of a class."""
        return int(self._its(label).sum())

    def _its(self, label: int) -> NDArray[np.bool_]:
        return self._stays() & (self._labels[: self._count] == label)

    def _stays(self) -> NDArray[np.bool_]:
        return self._lots[: self._count] <= self._limits[self._labels[: self._count]]

    def _thin(self) -> None:
        """Halves the largest classes, until a quarter of the room is free."""
        stays = self._stays()
        while stays.sum() > len(self._rows) * 3 // 4:
            largest = int(np.bincount(self._labels[: self._count][stays]).argmax())
            self._limits[largest] = np.median(self._lots[: self._count][self._its(largest)])
            stays = self._stays()
        kept = stays.nonzero()[0]
        move_up(self._rows, kept)
        self._labels[: len(kept)] = self._labels[kept]
        self._lots[: len(kept)] = self._lots[kept]
        self._count = len(kept)
