"""Anchors of a data set: k-means over its boxes' widths and heights under the IoU.

Source: YOLOv2 (arXiv:1612.08242), section 2, "Dimension Clusters": the distance of a box and a
centre is 1 − IoU, both put at one corner.

Shapes: N boxes, A anchors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detkit.data.records import Records
from detkit.data.transforms import Transform
from detkit.errors import DetkitError

STARTS = 5  # of random centres, the best of which counts
SELDOM = 0.025  # share of the boxes that may be smaller than all sizes, and larger
ROUNDS = 100  # at most; it ends where no box changes its centre
PAPER = {5: 0.610, 9: 0.672}  # mean IoU of VOC 2007's boxes, table 1


def sizes_of(records: Records, transform: Transform) -> NDArray[np.float64]:
    """(N, 2) widths and heights of all objects, pixels of the network's image.

    Crowds and VOC's difficult objects are left out, as in the labels that the paper is about.

    Args:
        transform: that of inference.
    """
    return _sides(records, transform.sizes)


def shares_of(records: Records, transform: Transform) -> NDArray[np.float64]:
    """The same as shares of the network's image's width and height, a square's border included."""

    def shares(height: int, width: int) -> tuple[float, float]:
        h, w = transform.sizes(height, width)
        tall, wide = transform.canvas(h, w)
        return h / tall, w / wide

    return _sides(records, shares)


def _sides(
    records: Records, sizes: Callable[[int, int], tuple[float, float]]
) -> NDArray[np.float64]:
    """
    Args:
        sizes: (height, width) of a picture → what these are to be counted as.
    """
    counts = np.diff(records.offsets)
    shapes, place = np.unique(records.sizes, axis=0, return_inverse=True)
    factors = [
        np.divide(sizes(int(height), int(width)), (height, width)) for height, width in shapes
    ]
    factor = np.repeat(np.array(factors).reshape(-1, 2)[place.ravel()], counts, axis=0)
    sides = (records.boxes[:, 2:] - records.boxes[:, :2]) * factor[:, ::-1]
    return sides[~records.crowd & ~records.difficult & (sides > 0).all(1)]


def cluster(
    sizes: NDArray[np.float64], number: int, seed: int = 0
) -> tuple[NDArray[np.float64], float]:
    """K-means from several random beginnings, of which the best one counts.

    Args:
        sizes: (N, 2) widths and heights.
        number: A.
        seed: of the beginnings; the same one gives the same anchors.
    Returns:
        (A, 2) the smallest first, and the mean over the boxes of the IoU with the best of them.
    Raises:
        DetkitError: there are fewer different sizes than anchors.
    """
    different = np.unique(sizes, axis=0)
    if len(different) < number:
        raise DetkitError(
            f"{len(different)} different sizes of boxes are too few for {number} anchors.",
            remedy="write the anchors as numbers (model.anchors=[[10,13],…]), or choose fewer.",
        )
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(STARTS):
        centres = different[rng.choice(len(different), number, replace=False)]
        centres = _descend(sizes, centres)
        found.append((mean_iou(sizes, centres), centres))
    best, centres = max(found, key=lambda pair: pair[0])
    return centres[np.argsort(centres.prod(1), kind="stable")], best


def spread(sides: NDArray[np.float64], number: int) -> list[float]:
    """Sides of squares for most boxes, each as many times the one before it.

    Args:
        sides: (N,) of the squares that have the boxes' areas.
    Returns:
        From the 2.5th percentile to the 97.5th; one alone is their geometric mean.
    Raises:
        DetkitError: there are no boxes.
    """
    if not len(sides):
        raise DetkitError("There are no boxes to fit sizes to.", remedy="write them as numbers.")
    low, high = np.quantile(sides, [SELDOM, 1 - SELDOM])
    if number == 1:
        return [float(np.sqrt(low * high))]
    return np.geomspace(low, high, number).tolist()


def mean_iou(sizes: NDArray[np.float64], anchors: NDArray[np.float64]) -> float:
    """Mean over the boxes of the IoU with the best anchor."""
    return float(np.mean(shape_iou(sizes, anchors).max(1)))


def shape_iou(sizes: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2), (A, 2) → (N, A), all put at one corner."""
    common = np.minimum(sizes[:, None], anchors).prod(-1)
    return common / (sizes.prod(-1)[:, None] + anchors.prod(-1) - common)


def _descend(sizes: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes go to their nearest centre, centres to the mean of their boxes, until none moves."""
    owner = np.full(len(sizes), -1)
    for _ in range(ROUNDS):
        nearest = shape_iou(sizes, centres).argmax(1)
        if (nearest == owner).all():
            break
        owner = nearest
        counts = np.bincount(owner, minlength=len(centres))
        sums = [np.bincount(owner, side, len(centres)) for side in sizes.T]
        means = np.stack(sums, 1) / np.maximum(counts, 1)[:, None]
        centres = np.where(counts[:, None] > 0, means, centres)  # one without boxes stays
    return centres
