"""Segmentation of an image as a graph (Felzenszwalb and Huttenlocher 2004, IJCV 59(2)).

Pixels are nodes, each joined to its 8 neighbours; an edge weighs the distance of their colours.
From the lightest edge on, two components become one if the edge weighs no more than the heaviest
one inside either, plus k over that one's pixels (equations 3 and 4). Then components smaller than
`min_size` join the neighbour behind their lightest edge.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.ops.compiled import compiled

DIRECTIONS = 4  # of an edge from its pixel: right, down, down and right, down and left


class Edges(NamedTuple):
    """The edges of a pixel grid, the lightest first, those of equal weight by their code.

    Attributes:
        codes: (E,) uint32: 4 times the index of a pixel in rows, plus the direction.
        weights: (E,) float32, Euclidean distance of the two colours.
        height, width: of the grid.
    """

    codes: NDArray[np.uint32]
    weights: NDArray[np.float32]
    height: int
    width: int


def segment(
    image: NDArray, *, k: float, min_size: int = 0, sigma: float = 0.8
) -> NDArray[np.int32]:
    """The segment of each pixel.

    Args:
        image: (H, W, C) uint8 or float32, colours on any scale (k is for 0 … 255).
        k: how readily components grow, in units of colour times pixels.
        min_size: pixels that a segment has at least, unless it is the whole image.
        sigma: of the Gaussian that smooths the image first, pixels; 0 for none.
    Returns:
        (H, W) int32, 0 … n−1 in the order in which rows meet the segments.
    """
    return cut(grid_edges(smooth(image, sigma)), k, min_size)


def smooth(image: NDArray, sigma: float) -> NDArray[np.float32]:
    """(H, W, C) float32: the image after a Gaussian of `sigma` pixels, its border repeated."""
    smoothed = image.astype(np.float32)
    if sigma > 0:
        blurred = cv2.GaussianBlur(smoothed, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        smoothed = np.asarray(blurred, np.float32)
    return smoothed.reshape(image.shape)


def grid_edges(image: NDArray[np.float32]) -> Edges:
    """The edges of an (H, W, C) image, sorted: the part that does not depend on k."""
    height, width = image.shape[:2]
    codes, weights = _edges(np.ascontiguousarray(image))
    codes, weights = _sorted(codes, weights)
    return Edges(codes, weights, height, width)


def cut(edges: Edges, k: float, min_size: int) -> NDArray[np.int32]:
    """`segment` from sorted edges on."""
    labels = _cut(edges.codes, edges.weights, edges.height, edges.width, float(k), min_size)
    return labels.reshape(edges.height, edges.width)


@compiled
def _edges(image):
    """Codes and weights of all edges, in the order of their codes."""
    height, width, channels = image.shape
    number = height * (width - 1) + (height - 1) * width + 2 * (height - 1) * (width - 1)
    codes = np.empty(number, np.uint32)
    weights = np.empty(number, np.float32)
    n = 0
    for y in range(height):
        for x in range(width):
            for direction in range(4):
                y2 = y + (direction > 0)
                x2 = x + (0 if direction == 1 else 1 if direction != 3 else -1)
                if y2 < height and 0 <= x2 < width:
                    squares = np.float32(0)
                    for c in range(channels):
                        difference = image[y, x, c] - image[y2, x2, c]
                        squares += difference * difference
                    codes[n] = 4 * (y * width + x) + direction
                    weights[n] = np.sqrt(squares)
                    n += 1
    return codes, weights


@compiled
def _sorted(codes, weights):
    """Both by weight, equal ones in their order: a radix sort of the bits.

    The bits of floats without a sign, read as integers, have the order of the floats.
    """
    keys = weights.view(np.uint32)
    counts = np.zeros((3, 2048), np.int64)
    for key in keys:
        counts[0, key & 2047] += 1
        counts[1, (key >> 11) & 2047] += 1
        counts[2, key >> 22] += 1
    for digit in range(3):
        start = 0
        for value in range(2048):
            number = counts[digit, value]
            counts[digit, value] = start
            start += number
        shift = np.uint32(11 * digit)
        next_keys, next_codes = np.empty_like(keys), np.empty_like(codes)
        place = counts[digit]
        for i in range(len(keys)):
            value = (keys[i] >> shift) & np.uint32(2047)
            to = place[value]
            place[value] = to + 1
            next_keys[to] = keys[i]
            next_codes[to] = codes[i]
        keys, codes = next_keys, next_codes
    return codes, keys.view(np.float32)


@compiled
def _find(parents, node):
    """The root of a node's tree; the way there is made shorter."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled
def _cut(codes, weights, height, width, k, min_size):
    pixels = height * width
    steps = np.array([1, width, width + 1, width - 1])
    parents = np.arange(pixels).astype(np.int32)
    sizes = np.ones(pixels, np.int32)
    limits = np.full(pixels, k)  # heaviest edge inside, plus k / pixels
    apart = np.empty(len(codes), np.uint32)  # edges that lay between two components
    number = 0
    for i in range(len(codes)):
        code = np.int64(codes[i])
        a = _find(parents, code >> 2)
        b = _find(parents, (code >> 2) + steps[code & 3])
        if a == b:
            continue
        weight = np.float64(weights[i])
        if weight <= limits[a] and weight <= limits[b]:
            if sizes[a] < sizes[b]:
                a, b = b, a
            parents[b] = a
            sizes[a] += sizes[b]
            limits[a] = weight + k / sizes[a]
        else:
            apart[number] = codes[i]
            number += 1
    for i in range(number):  # still the lightest first
        code = np.int64(apart[i])
        a = _find(parents, code >> 2)
        b = _find(parents, (code >> 2) + steps[code & 3])
        if a != b and (sizes[a] < min_size or sizes[b] < min_size):
            if sizes[a] < sizes[b]:
                a, b = b, a
            parents[b] = a
            sizes[a] += sizes[b]
    labels = np.empty(pixels, np.int32)
    names = np.full(pixels, -1, np.int32)
    segments = 0
    for pixel in range(pixels):
        root = _find(parents, pixel)
        if names[root] < 0:
            names[root] = segments
            segments += 1
        labels[pixel] = names[root]
    return labels
