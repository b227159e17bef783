"""What selective search knows of a region: size, box, colours, texture and neighbours.

Uijlings et al. 2013, section 3.2: a histogram of 25 bins for each colour channel, and one of 10
bins for each of 8 orientations of a Gaussian derivative with σ = 1 in each channel. They are kept
as counts, so that those of two regions that become one are added.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.ops.compiled import compiled

COLOUR_BINS = 25
TEXTURE_BINS = 10
ORIENTATIONS = 8
SIGMA = 1.0  # of the Gaussian derivative
# The largest derivative of 8-bit channels: that of a step from 0 to 255, blurred by the Gaussian.
STEEPEST = 255 / (SIGMA * np.sqrt(2 * np.pi))
COLOUR_SPACES = ("hsv", "lab", "rgi", "h", "i")


class Bins(NamedTuple):
    """In which bins each of P pixels counts, C channels.

    Attributes:
        colours: (P, C) uint8, 0 … 24.
        textures: (P, 4 C) uint8, for each channel and each pair of opposite orientations: 10 times
            the orientation along which the channel grows, plus the bin. In the opposite
            orientation it does not grow: bin 0.
    """

    colours: NDArray[np.uint8]
    textures: NDArray[np.uint8]


class Regions(NamedTuple):
    """N regions of an image, as the numbers that grouping needs.

    Attributes:
        sizes: (N,) int32, pixels.
        boxes: (N, 4) int32, xyxy, whole pixels, right and lower side exclusive.
        colours: (N, 25 C) int32, pixels in each bin.
        textures: (N, 80 C) int32, pixels in each bin.
        pairs: (E, 2) int32, which regions touch, in 8 directions; each pair once, ascending.
    """

    sizes: NDArray[np.int32]
    boxes: NDArray[np.int32]
    colours: NDArray[np.int32]
    textures: NDArray[np.int32]
    pairs: NDArray[np.int32]


def colour_space(image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """An RGB image in one of the paper's colour spaces (section 3.2), each channel on 0 … 255.

    Args:
        image: (H, W, 3) uint8 RGB.
        name: `hsv`, `lab`, `rgi` (normalised red and green, and intensity), `h` (hue) or `i`
            (intensity).
    Returns:
        (H, W, C) uint8, C is 3 or 1.
    """
    codes = {"lab": cv2.COLOR_RGB2LAB, "hsv": cv2.COLOR_RGB2HSV_FULL, "h": cv2.COLOR_RGB2HSV_FULL}
    colours = np.asarray(cv2.cvtColor(image, codes.get(name, cv2.COLOR_RGB2GRAY)), np.uint8)
    if name == "h":
        return colours[..., :1].copy()
    if name == "i":
        return colours[..., None]
    if name != "rgi":
        return colours
    total = np.maximum(image.sum(2, dtype=np.int32), 1)
    red, green = (image[..., c].astype(np.int32) * 255 // total for c in (0, 1))
    return np.stack([red, green, colours], 2).astype(np.uint8)


def pixel_bins(image: NDArray[np.uint8]) -> Bins:
    """The bins of an (H, W, C) image, pixel by pixel in rows."""
    colours = (np.arange(256) * COLOUR_BINS // 256).astype(np.uint8)[image]
    along_x, along_y = (_derivative(image, axis).reshape(-1) for axis in (0, 1))
    textures = _texture_bins(along_x, along_y, TEXTURE_BINS / STEEPEST)
    channels = image.shape[2]
    return Bins(colours.reshape(-1, channels), textures.reshape(-1, 4 * channels))


def describe(labels: NDArray[np.int32], bins: Bins) -> Regions:
    """
    Args:
        labels: (H, W) int32, the region of each pixel, 0 … N−1, each with at least one.
    """
    number = int(labels.max()) + 1
    sizes, boxes, pairs = _shapes(labels, number)
    colours, textures = _histograms(labels.reshape(-1), number, sizes, *bins)
    return Regions(sizes, boxes, colours, textures, pairs)


def _derivative(image: NDArray[np.uint8], axis: int) -> NDArray[np.float32]:
    """(H, W, C) float32: the Gaussian derivative along x (axis 0) or y (axis 1)."""
    reach = np.arange(-4, 5)
    blur = np.exp(-(reach**2) / (2 * SIGMA**2))
    blur /= blur.sum()
    slope = reach / SIGMA**2 * blur
    row, column = (slope, blur) if axis == 0 else (blur, slope)
    found = cv2.sepFilter2D(image, cv2.CV_32F, row, column, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32).reshape(image.shape)


@compiled
def _texture_bins(along_x, along_y, scale):
    diagonal = np.float32(np.sqrt(0.5))
    scale = np.float32(scale)
    found = np.empty((len(along_x), 4), np.uint8)
    for i in range(len(along_x)):
        x, y = along_x[i] * scale, along_y[i] * scale
        slopes = (x, (x + y) * diagonal, y, (y - x) * diagonal)
        for orientation in range(4):
            slope = slopes[orientation]
            opposite = 40 if slope < 0 else 0
            found[i, orientation] = opposite + 10 * orientation + min(int(abs(slope)), 9)
    return found


@compiled
def _histograms(labels, number, sizes, colour_bins, texture_bins):
    channels = colour_bins.shape[1]
    colours = np.zeros((number, channels * 25), np.int32)
    textures = np.zeros((number, channels * 80), np.int32)
    for i in range(len(labels)):
        label = labels[i]
        for c in range(channels):
            colours[label, 25 * c + colour_bins[i, c]] += 1
            for orientation in range(4):
                textures[label, 80 * c + texture_bins[i, 4 * c + orientation]] += 1
    for label in range(number):  # every pixel counts in one bin of each orientation
        for orientation in range(8 * channels):
            others = 0
            for b in range(1, 10):
                others += textures[label, 10 * orientation + b]
            textures[label, 10 * orientation] = sizes[label] - others
    return colours, textures


@compiled
def _shapes(labels, number):
    """Sizes, boxes and touching pairs."""
    height, width = labels.shape
    sizes = np.zeros(number, np.int32)
    boxes = np.empty((number, 4), np.int32)
    boxes[:, :2], boxes[:, 2:] = max(height, width), 0
    firsts, seconds = np.empty(1024, np.int32), np.empty(1024, np.int32)
    found = 0
    for y in range(height):
        start = 0
        for x in range(width):
            label = labels[y, x]
            if x + 1 == width or labels[y, x + 1] != label:  # the end of a run
                sizes[label] += x + 1 - start
                boxes[label, 0] = min(boxes[label, 0], start)
                boxes[label, 1] = min(boxes[label, 1], y)
                boxes[label, 2] = max(boxes[label, 2], x + 1)
                boxes[label, 3] = y + 1
                start = x + 1
            for direction in range(4):
                y2, x2 = y, x + 1
                if direction > 0:
                    y2, x2 = y + 1, x + direction - 2
                if y2 == height or x2 < 0 or x2 == width or labels[y2, x2] == label:
                    continue
                first, second = min(label, labels[y2, x2]), max(label, labels[y2, x2])
                if found and firsts[found - 1] == first and seconds[found - 1] == second:
                    continue
                if found == len(firsts):
                    firsts, seconds = _doubled(firsts), _doubled(seconds)
                firsts[found], seconds[found] = first, second
                found += 1
    return sizes, boxes, _unique(firsts[:found], seconds[:found], number)


@compiled
def _doubled(array):
    longer = np.empty(2 * len(array), array.dtype)
    longer[: len(array)] = array
    return longer


@compiled
def _unique(firsts, seconds, number):
    """Each pair once, ascending: sorted by the second, then by the first, where twins meet."""
    order = _counting_sort(seconds, np.arange(len(seconds)), number)
    order = _counting_sort(firsts, order, number)
    pairs = np.empty((len(firsts), 2), np.int32)
    n = 0
    for i in order:
        if n == 0 or pairs[n - 1, 0] != firsts[i] or pairs[n - 1, 1] != seconds[i]:
            pairs[n, 0], pairs[n, 1] = firsts[i], seconds[i]
            n += 1
    return pairs[:n].copy()


@compiled
def _counting_sort(values, order, number):
    """The order in which indices into `values`, 0 … number−1, ascend; equal ones as they were."""
    starts = np.zeros(number + 1, np.int64)
    for value in values:
        starts[value + 1] += 1
    for value in range(number):
        starts[value + 1] += starts[value]
    found = np.empty_like(order)
    for i in order:
        found[starts[values[i]]] = i
        starts[values[i]] += 1
    return found
