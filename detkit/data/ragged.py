"""Runs of different lengths in flat arrays: strings, and the corners of polygons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def offsets_of(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """(n + 1,) where each of n runs of those lengths begins."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def ragged_take(
    offsets: NDArray[np.int64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the elements of the chosen runs, run after run, and their new offsets."""
    lengths = offsets[chosen + 1] - offsets[chosen]
    new = offsets_of(lengths)
    shift = np.repeat(offsets[chosen] - new[:-1], lengths)
    return np.arange(new[-1], dtype=np.int64) + shift, new


@dataclass(frozen=True)
class Strings(Sequence[str]):
    """Many strings as one byte buffer.

    Attributes:
        buffer: (bytes,) uint8, their UTF-8 one after the other.
        offsets: (n + 1,) int64, where each begins.
    """

    buffer: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @staticmethod
    def of(texts: Iterable[str]) -> Strings:
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return Strings(np.frombuffer(b"".join(encoded), np.uint8), offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i):  # an index gives str; slices are not needed
        i = range(len(self))[i]  # negative ones, and an IndexError beyond the end
        start, end = self.offsets[i], self.offsets[i + 1]
        return self.buffer[start:end].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def take(self, indices: NDArray[np.int64]) -> Strings:
        chosen, offsets = ragged_take(self.offsets, indices)
        return Strings(self.buffer[chosen], offsets)


@dataclass(frozen=True)
class Masks:
    """Instance masks, as polygons or run lengths, in the file's image pixels.

    Attributes:
        points: (P, 2) float64, x and y of all polygon corners (float64: COCO's rasteriser rounds at
            fifths of a pixel, where float32 would fall on the other side).
        rings: (R + 1,) int64, where each polygon begins in `points`.
        objects: (N + 1,) int64, where each object's polygons begin in `rings`.
        rles: N compressed run lengths as COCO writes them, empty where polygons are given.
    """

    points: NDArray[np.float64]
    rings: NDArray[np.int64]
    objects: NDArray[np.int64]
    rles: Strings

    def take(self, indices: NDArray[np.int64]) -> Masks:
        rings, objects = ragged_take(self.objects, indices)
        points, offsets = ragged_take(self.rings, rings)
        return Masks(self.points[points], offsets, objects, self.rles.take(indices))

    def rle(self, n: int, height: int, width: int) -> dict:
        """The nth object as a COCO run-length record (`size`, `counts`)."""
        from pycocotools import mask

        if counts := self.rles[n]:
            return {"size": [height, width], "counts": counts.encode()}
        starts = self.rings[self.objects[n] : self.objects[n + 1] + 1]
        polygons = [self.points[a:b].ravel().tolist() for a, b in pairwise(starts)]
        if not polygons:
            return mask.encode(np.zeros((height, width), np.uint8, order="F"))
        return mask.merge(mask.frPyObjects(polygons, height, width))
