"""The class of each pixel of an image: from a file of values or colours, or from objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detkit.data import images
from detkit.errors import DetkitError
from detkit.structures import IGNORE

if TYPE_CHECKING:
    from detkit.data.records import Records

SHOWN = 5  # values, or colours, that an error names


def read(records: Records, i: int) -> NDArray[np.uint8]:
    """(H, W) uint8 labels of a data set with `pixel_files`.

    Raises:
        DetkitError: a value or colour outside the classes, or a mask of another size than its
            image.
    """
    path, page = records.mask_path(i), records.page(i)
    by_value = records.pixel_labels is not None
    if records.pixel_colours is not None and (not by_value or images.has_colours(path, page)):
        colours = images.read_colours(path, page)
        records.check_mask(i, colours.shape[:2], records.sizes[i])
        return _of_colours(records, i, colours)
    values = images.read_values(path, page)
    records.check_mask(i, values.shape, records.sizes[i])
    if records.pixel_labels is None:
        return values
    labels = records.pixel_labels[values]
    if (labels < 0).any():
        wrong, counts = np.unique(values[labels < 0], return_counts=True)
        raise DetkitError(
            f"The mask holds the value {_listed(wrong, counts)}; "
            f"the {len(records.names)} classes are 0 … {len(records.names) - 1}.",
            file=path,
            remedy="name every class in dataset.classes, map values with dataset.values"
            " (for 0/255 masks {0: 0, 255: 1}), or leave one out with dataset.ignore.",
        )
    return labels.astype(np.uint8)


def places(colours: NDArray[np.uint8], listed: NDArray) -> NDArray[np.int64]:
    """(H, W) where each pixel's colour is in a list of different ones, −1 where it is not.

    Args:
        colours: (H, W, 3) RGB.
        listed: (C, 3) RGB.
    """
    known, codes = _codes(listed), _codes(colours)
    order = np.argsort(known)
    found = order[np.searchsorted(known[order], codes).clip(max=len(known) - 1)]
    return np.where(known[found] == codes, found, -1)


def _codes(colours: NDArray) -> NDArray[np.int32]:
    """Each colour as one number."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _of_colours(records: Records, i: int, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) labels of (H, W, 3) colours."""
    assert records.pixel_colours is not None
    table = records.pixel_colours
    found = places(colours, table[:, :3])
    labels = np.where(found < 0, -1, table[found, 3])
    if (labels < 0).any():
        wrong, counts = np.unique(colours[labels < 0], axis=0, return_counts=True)
        most = np.argsort(-counts, kind="stable")
        names = [f"[{red}, {green}, {blue}]" for red, green, blue in wrong[most].tolist()]
        listed = _listed(names, counts[most])
        by_setting = records.pixel_labels is None
        source = "dataset.colours" if by_setting else "labelmap.txt"
        raise DetkitError(
            f"The mask holds the colour {listed}, which {source} does not name (it names"
            f" {len(table)}).",
            file=records.mask_path(i),
            remedy=(
                "add it to dataset.colours, as `ignore` where it does not count"
                if by_setting
                else "add the colour with its class to labelmap.txt"
            )
            + "; colours between two others come from smoothing: save masks without it.",
        )
    return labels.astype(np.uint8)


def _listed(values: object, counts: NDArray[np.int64]) -> str:
    """The first values, each with how many pixels have it."""
    pairs = list(zip(list(values), counts.tolist(), strict=True))  # type: ignore[call-overload]
    told = [f"{value} ({n:,} pixel{'' if n == 1 else 's'})" for value, n in pairs[:SHOWN]]
    return ", ".join(told) + (f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else "")


def paint(records: Records, i: int) -> NDArray[np.uint8]:
    """(H, W) uint8 labels drawn from the objects' masks: 0 where there is none.

    A smaller object lies over a larger one; a crowd does not count, where no object lies over it.
    """
    whole = np.zeros(tuple(map(int, records.sizes[i])), np.uint8)
    masks, truth = records.masks(i), records.annotation(i)
    assert masks is not None
    order = sorted(range(len(masks)), key=lambda n: (not truth.crowd[n], -truth.areas[n]))
    for n in order:
        whole[masks[n]] = IGNORE if truth.crowd[n] else truth.labels[n]
    return whole
