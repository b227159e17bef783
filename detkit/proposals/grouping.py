"""Hierarchical grouping: the two most alike neighbours become one region, until one is left.

Uijlings et al. 2013, algorithm 1, with the four similarities of section 3.2.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.proposals.compiled import compiled
from detkit.proposals.regions import ORIENTATIONS, Regions

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
            alike the one that was found with the lowest region numbers comes first.
    """
    shape = regions.boxes[:, :2].min(0), regions.boxes[:, 2:].max(0)
    pixels = int(np.prod(shape[1] - shape[0]))
    channels = regions.textures.shape[1] // (ORIENTATIONS * 10)
    chosen = np.array([letter in measures for letter in MEASURES])
    return Hierarchy(*_group(*regions, float(pixels), channels, chosen))


@compiled
def _shares(counts, scale, found):
    for i in range(len(counts)):
        found[i] = np.int32(counts[i] * scale)


@compiled
def _intersection(a, b):
    total = np.int32(0)
    for i in range(len(a)):
        total = np.int32(total + min(a[i], b[i]))
    return total


@compiled
def _root(parents, region):
    """The region that this one has become part of."""
    while parents[region] != region:
        parents[region] = parents[parents[region]]
        region = parents[region]
    return region


@compiled
def _similarity(a, b, sizes, boxes, colours, textures, pixels, chosen):
    """The sum of the chosen similarities of two regions (equations 1 to 6)."""
    total = 0.0
    if chosen[0]:
        total += _intersection(colours[a], colours[b]) / 16777216.0
    if chosen[1]:
        total += _intersection(textures[a], textures[b]) / 16777216.0
    together = float(sizes[a]) + float(sizes[b])
    if chosen[2]:
        total += 1.0 - together / pixels
    if chosen[3]:
        width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
        height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
        total += 1.0 - (float(width) * float(height) - together) / pixels
    return total


@compiled
def _group(sizes_, boxes_, colours_, textures_, pairs, pixels, channels, chosen):
    n = len(sizes_)
    most = 2 * n - 1
    sizes, boxes = np.zeros(most, np.int32), np.zeros((most, 4), np.int32)
    sizes[:n], boxes[:n] = sizes_, boxes_
    colour_counts = np.zeros((most, colours_.shape[1]), np.int32)
    texture_counts = np.zeros((most, textures_.shape[1]), np.int32)
    colour_counts[:n], texture_counts[:n] = colours_, textures_
    colours, textures = np.empty_like(colour_counts), np.empty_like(texture_counts)
    for region in range(n):
        unit = 16777216.0 / (sizes[region] * channels)
        _shares(colour_counts[region], unit, colours[region])
        _shares(texture_counts[region], unit / 8, textures[region])
    # The neighbours of a region are a chain of cells. What they name may have become part of
    # another region meanwhile, so the root is asked.
    head = np.full(most, -1, np.int32)
    after, neighbour = np.empty(2 * len(pairs), np.int32), np.empty(2 * len(pairs), np.int32)
    heap = [(0.0, 0, 0) for _ in range(0)]
    for e in range(len(pairs)):
        a, b = int(pairs[e, 0]), int(pairs[e, 1])
        neighbour[2 * e], after[2 * e], head[a] = b, head[a], 2 * e
        neighbour[2 * e + 1], after[2 * e + 1], head[b] = a, head[b], 2 * e + 1
        alike = _similarity(a, b, sizes, boxes, colours, textures, pixels, chosen)
        heap.append((-alike, a, b))
    heapq.heapify(heap)
    parents = np.arange(most)
    seen = np.full(most, -1, np.int64)
    parts = np.empty((n - 1, 2), np.int32)
    new, crowded = n, 4 * len(heap) + 1024
    while heap:
        _, a, b = heapq.heappop(heap)
        if parents[a] != a or parents[b] != b:  # one of them is part of another region by now
            continue
        parts[new - n, 0], parts[new - n, 1] = a, b
        parents[a] = parents[b] = new
        sizes[new] = sizes[a] + sizes[b]
        for side in range(2):
            boxes[new, side] = min(boxes[a, side], boxes[b, side])
            boxes[new, side + 2] = max(boxes[a, side + 2], boxes[b, side + 2])
        colour_counts[new] = colour_counts[a] + colour_counts[b]
        texture_counts[new] = texture_counts[a] + texture_counts[b]
        unit = 16777216.0 / (sizes[new] * channels)
        _shares(colour_counts[new], unit, colours[new])
        _shares(texture_counts[new], unit / 8, textures[new])
        for old in (a, b):
            cell = head[old]
            while cell >= 0:
                following = after[cell]
                other = _root(parents, neighbour[cell])
                if other != new and seen[other] != new:
                    seen[other] = new
                    neighbour[cell], after[cell], head[new] = other, head[new], cell
                    alike = _similarity(other, new, sizes, boxes, colours, textures, pixels, chosen)
                    heapq.heappush(heap, (-alike, int(other), new))
                cell = following
        new += 1
        if len(heap) > crowded:  # mostly of regions that are gone
            heap = [e for e in heap if parents[e[1]] == e[1] and parents[e[2]] == e[2]]
            heapq.heapify(heap)
            crowded = 4 * len(heap) + 1024
    return boxes[:new], parts[: new - n]
