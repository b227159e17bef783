"""Selective search (Uijlings, van de Sande, Gevers, Smeulders 2013, IJCV 104(2)).

    image ─▶ colour spaces ─▶ segments for each k ─▶ hierarchies for each similarity ─▶ boxes
             (section 3.2)    (graph.py)              (grouping.py)      ranked at random (3.3)

The strategies are those of the paper's table 5 and of the authors' code: σ is 0.8, a segment has at
least k pixels, boxes narrower or lower than 20 pixels are left out, of equal ones the first stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.errors import unknown
from detkit.proposals.graph import cut, grid_edges, smooth
from detkit.proposals.grouping import Hierarchy, group
from detkit.proposals.regions import colour_space, describe, pixel_bins

VERSION = 1  # to be raised with every change of what comes out: caches are made anew then
WIDTH = 500  # pixels, as R-CNN resizes images for it
TALLEST = 2  # times the width: a taller image is resized to this height
MIN_SIDE = 20  # pixels of the resized image
SIGMA = 0.8  # of the smoothing before the segmentation, pixels


@dataclass(frozen=True)
class Strategies:
    """Each colour space with each k and each sum of similarities gives one hierarchy."""

    colour_spaces: tuple[str, ...]
    ks: tuple[int, ...]
    measures: tuple[str, ...]


MODES = {
    "single": Strategies(("hsv",), (100,), ("CTSF",)),
    "fast": Strategies(("hsv", "lab"), (50, 100), ("CTSF", "TSF")),
    "quality": Strategies(
        ("hsv", "lab", "rgi", "h", "i"), (50, 100, 150, 300), ("CTSF", "TSF", "F", "S")
    ),
}


def selective_search(
    image: NDArray,
    *,
    mode: str = "fast",
    seed: int = 0,
    width: int | None = WIDTH,
    min_side: int = MIN_SIDE,
) -> NDArray[np.float32]:
    """Boxes that may hold an object of any class, best first.

    The same image, settings and seed give the same boxes, in any process and with any number of
    threads.

    Args:
        image: (H, W, 3) uint8 RGB; also (H, W, 1) or (H, W) grey, and float in 0 … 1.
        mode: `single`, `fast` or `quality`: some 350, 2,000 or 10,000 boxes.
        seed: of the random factors in the ranking.
        width: to which the image is resized before (its height at most to twice that); None keeps
            its size.
        min_side: pixels of the resized image that both sides of a box have at least.
    Returns:
        (P, 4) float32, xyxy, pixels of the image, inside it. P is at least 1: where no box is large
        enough, the whole image is one.
    Raises:
        DetkitError: no such mode.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    image = rgb(image)
    resized = _resized(image, width)
    generator = np.random.default_rng(seed)
    boxes, ranks = [], []
    for hierarchy in hierarchies(resized, MODES[mode]):
        number = len(hierarchy.boxes)
        boxes.append(hierarchy.boxes)
        # The region that was made last, the whole image, has rank 1 (section 3.3).
        ranks.append(np.arange(number, 0, -1) * generator.random(number))
    ranked = np.concatenate(boxes)[np.argsort(np.concatenate(ranks), kind="stable")]
    large = (ranked[:, 2:] - ranked[:, :2] >= min_side).all(1)
    _, first = np.unique(ranked[large], axis=0, return_index=True)
    kept = ranked[large][np.sort(first)]
    height, width = resized.shape[:2]
    if not len(kept):
        kept = np.array([[0, 0, width, height]])
    sides = np.array(image.shape[1::-1] * 2)
    scaled = kept * (sides / np.array([width, height] * 2))
    return np.minimum(scaled, sides).astype(np.float32)


def hierarchies(image: NDArray[np.uint8], strategies: Strategies) -> Iterator[Hierarchy]:
    """The regions of an (H, W, 3) RGB image, strategy by strategy."""
    for name in strategies.colour_spaces:
        colours = colour_space(image, name)
        bins = pixel_bins(colours)
        edges = grid_edges(smooth(colours, SIGMA))
        for k in strategies.ks:
            regions = describe(cut(edges, k, min_size=k), bins)
            for measures in strategies.measures:
                yield group(regions, measures)


def rgb(image: NDArray) -> NDArray[np.uint8]:
    """An image of 1 or 3 channels, uint8 or float in 0 … 1, as (H, W, 3) uint8."""
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    image = image if image.ndim == 3 else image[..., None]
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _resized(image: NDArray[np.uint8], width: int | None) -> NDArray[np.uint8]:
    if width is None:
        return image
    scale = min(width / image.shape[1], TALLEST * width / image.shape[0])
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
