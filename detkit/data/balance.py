"""Two remedies for rare classes: showing them more often, and weighing them more in a loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detkit.data.formats import BOXES, Needs
from detkit.data.records import Records
from detkit.errors import DetkitError
from detkit.structures import IGNORE

MOST_READ = 500  # pixel maps that are read for the classes' shares


def repeat_factors(records: Records, thresh: float) -> np.ndarray:
    """How often an epoch shows each image (LVIS, Gupta 2019, appendix B.2).

    A class in a share f of the images has r = max(1, sqrt(thresh / f)); an image takes the largest
    r of its classes (its objects' and its own), an image without any 1.

    Returns:
        (I,) float64, at least 1.
    """
    if not 0 < thresh <= 1:
        raise DetkitError(
            f"training.repeat_thresh is {thresh}.",
            remedy="choose a share of the images, 0 … 1: classes in fewer of them are repeated.",
        )
    images = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    pairs = np.stack([images, records.labels])[:, ~records.crowd]
    if records.image_labels is not None:
        known = np.flatnonzero(records.image_labels >= 0)
        pairs = np.hstack([pairs, np.stack([known, records.image_labels[known]])])
    if not pairs.size:
        raise DetkitError(
            "training.repeat_thresh counts objects, and these data have none.",
            remedy="set training.repeat_thresh=null; for pixels there is training.class_weights.",
        )
    pairs = np.unique(pairs, axis=1)
    share = np.bincount(pairs[1], minlength=len(records.names)) / max(1, len(records))
    rate = np.maximum(1, np.sqrt(thresh / np.maximum(share, 1e-12)))
    factors = np.ones(len(records))
    np.maximum.at(factors, pairs[0], rate[pairs[1]])
    return factors


def pixel_counts(records: Records, most: int) -> np.ndarray:
    """(256,) int64: how many pixels each label has in at most so many evenly chosen images.

    Raises:
        DetkitError: a mask that does not fit, see `Records.pixels`.
    """
    counts = np.zeros(IGNORE + 1, np.int64)
    for i in np.unique(np.linspace(0, len(records) - 1, most).astype(int)):
        values = records.pixels(i)
        if values is not None:
            counts += np.bincount(values.ravel(), minlength=IGNORE + 1)
    return counts


def class_weights(records: Records, needs: Needs = BOXES) -> Tensor:
    """Weights of the classes in a loss, by the inverse root of their share; 1 over all objects.

    Args:
        needs: of the model: `pixels` are counted in at most 500 evenly chosen images; with
            `image_labels` it is images, else objects.
    Returns:
        (K,) float32; 1 for a class that does not occur.
    """
    if "pixels" not in needs:
        labels = records.labels[~records.crowd]
        if "image_labels" in needs and records.image_labels is not None:
            labels = records.image_labels[records.image_labels >= 0]
        counts = np.bincount(labels, minlength=len(records.names))
    else:
        counts = pixel_counts(records, MOST_READ)
    counts = counts[: len(records.names)].astype(np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -0.5, 0)
    if counts.sum():
        weights *= counts.sum() / (weights * counts).sum()
    weights[counts == 0] = 1
    return torch.from_numpy(weights.astype(np.float32))
