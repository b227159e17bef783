"""Hierarchical grouping: the two most alike neighbours become one region, until one is left.

Uijlings et al. 2013, algorithm 1, with the four similarities of section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.ops.compiled import compiled
from detkit.proposals.regions import COLOUR_BINS, ORIENTATIONS, Regions

MEASURES = "CTSF"  # colour, texture, size, fill
# Shares of a histogram are whole numbers of 1 / UNIT: their sums are the same in any order.
UNIT = 2**24


class Hierarchy(NamedTuple):
    """All regions of a grouping: the N initial ones, then each that two of them became.

    Attributes:
        boxes: (M, 4) int32, xyxy, whole pixels; M is 2 N − 1 where all regions are connected.
        parts: (M − N, 2) int32: region N + i is the union of these two, which come before it.
    """

    boxes: NDArray[np.int32]
    parts: NDArray[np.int32]


def group(regions: Regions, measures: str) -> Hierarchy:
    """
    Args:
        measures: the similarities that are added up: letters of `CTSF`. Of pairs that are equally
            alike the one with the lower region numbers comes first.
    """
    low, high = regions.boxes[:, :2].min(0), regions.boxes[:, 2:].max(0)
    histograms = np.concatenate([regions.colours, regions.textures], 1)
    boxes, parts = _group(
        regions.sizes,
        regions.boxes,
        histograms,
        regions.colours.shape[1],
        regions.pairs,
        float(np.prod(high - low)),
        np.array([letter in measures for letter in MEASURES]),
    )
    return Hierarchy(boxes, parts)


@compiled
def _group(sizes_, boxes_, histograms, colours, pairs, pixels, chosen):
    n = len(sizes_)
    most = 2 * n - 1
    sizes, boxes = np.zeros(most, np.int32), np.zeros((most, 4), np.int32)
    counts = np.zeros((most, histograms.shape[1]), np.int32)
    sizes[:n], boxes[:n], counts[:n] = sizes_, boxes_, histograms
    shares = np.zeros_like(counts)
    for region in range(n):
        _share(shares, counts, sizes, region, colours)
    # The neighbours of a region are a chain of cells. What a cell names may have become part of
    # another region meanwhile, so its root is asked for.
    head = np.full(most, -1)
    after, neighbour = np.empty(2 * len(pairs), np.int64), np.empty(2 * len(pairs), np.int64)
    heap = np.empty((2 * len(pairs) + 1024, 3))  # rows: minus the similarity, two regions
    for e in range(len(pairs)):
        a, b = pairs[e, 0], pairs[e, 1]
        neighbour[2 * e], after[2 * e], head[a] = b, head[a], 2 * e
        neighbour[2 * e + 1], after[2 * e + 1], head[b] = a, head[b], 2 * e + 1
        alike = _similarity(a, b, sizes, boxes, shares, colours, pixels, chosen)
        heap[e, 0], heap[e, 1], heap[e, 2] = -alike, a, b
    length = len(pairs)
    _order(heap, length)
    parents, seen = np.arange(most), np.full(most, -1)
    parts = np.empty((n - 1, 2), np.int32)
    new = n
    while length:
        a, b = int(heap[0, 1]), int(heap[0, 2])
        length -= 1
        _swap(heap, 0, length)
        _sink(heap, 0, length)
        if parents[a] != a or parents[b] != b:  # one of them is part of another region by now
            continue
        parts[new - n, 0], parts[new - n, 1] = a, b
        parents[a] = parents[b] = new
        _join(sizes, boxes, counts, a, b, new)
        _share(shares, counts, sizes, new, colours)
        for old in (a, b):
            cell = head[old]
            while cell >= 0:
                following = after[cell]
                other = _root(parents, neighbour[cell])
                if other != new and seen[other] != new:
                    seen[other] = new
                    neighbour[cell], after[cell], head[new] = other, head[new], cell
                    if length == len(heap):
                        heap, length = _tidied(heap, parents)
                    alike = _similarity(other, new, sizes, boxes, shares, colours, pixels, chosen)
                    heap[length, 0], heap[length, 1], heap[length, 2] = -alike, other, new
                    _rise(heap, length)
                    length += 1
                cell = following
        new += 1
    return boxes[:new], parts[: new - n]


@compiled
def _similarity(a, b, sizes, boxes, shares, colours, pixels, chosen):
    """The sum of the chosen similarities of two regions (section 3.2)."""
    total = 0.0
    if chosen[0]:
        total += _intersection(shares[a, :colours], shares[b, :colours])
    if chosen[1]:
        total += _intersection(shares[a, colours:], shares[b, colours:])
    together = float(sizes[a]) + float(sizes[b])
    if chosen[2]:
        total += 1.0 - together / pixels
    if chosen[3]:
        width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
        height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
        total += 1.0 - (float(width) * float(height) - together) / pixels
    return total


@compiled
def _intersection(a, b):
    total = np.int32(0)
    for i in range(len(a)):
        total = np.int32(total + min(a[i], b[i]))
    return total / UNIT


@compiled
def _share(shares, counts, sizes, region, colours):
    """The histograms of a region, each divided by its sum, in units."""
    unit = UNIT / (sizes[region] * (colours // COLOUR_BINS))
    for i in range(colours):
        shares[region, i] = int(counts[region, i] * unit)
    for i in range(colours, counts.shape[1]):
        shares[region, i] = int(counts[region, i] * (unit / ORIENTATIONS))


@compiled
def _join(sizes, boxes, counts, a, b, new):
    """What is known of the union of two regions."""
    sizes[new] = sizes[a] + sizes[b]
    for side in range(2):
        boxes[new, side] = min(boxes[a, side], boxes[b, side])
        boxes[new, side + 2] = max(boxes[a, side + 2], boxes[b, side + 2])
    for i in range(counts.shape[1]):
        counts[new, i] = counts[a, i] + counts[b, i]


@compiled
def _root(parents, region):
    """The region that this one has become part of."""
    while parents[region] != region:
        parents[region] = parents[parents[region]]
        region = parents[region]
    return region


@compiled
def _tidied(heap, parents):
    """A full heap without the regions that are gone, with room for as many again."""
    kept = np.empty_like(heap)
    length = 0
    for entry in range(len(heap)):
        a, b = int(heap[entry, 1]), int(heap[entry, 2])
        if parents[a] == a and parents[b] == b:
            kept[length] = heap[entry]
            length += 1
    if 2 * length > len(heap):
        larger = np.empty((2 * len(heap), 3))
        larger[:length] = kept[:length]
        kept = larger
    _order(kept, length)
    return kept, length


@compiled
def _order(heap, length):
    for entry in range(length // 2 - 1, -1, -1):
        _sink(heap, entry, length)


@compiled
def _before(heap, a, b):
    """Whether row a leaves the heap before row b: the lower in the first column that differs."""
    for column in range(3):
        if heap[a, column] != heap[b, column]:
            return heap[a, column] < heap[b, column]
    return False


@compiled
def _swap(heap, a, b):
    for column in range(3):
        heap[a, column], heap[b, column] = heap[b, column], heap[a, column]


@compiled
def _rise(heap, entry):
    while entry > 0 and _before(heap, entry, (entry - 1) // 2):
        _swap(heap, entry, (entry - 1) // 2)
        entry = (entry - 1) // 2


@compiled
def _sink(heap, entry, length):
    while 2 * entry + 1 < length:
        child = 2 * entry + 1
        if child + 1 < length and _before(heap, child + 1, child):
            child += 1
        if not _before(heap, child, entry):
            return
        _swap(heap, child, entry)
        entry = child
