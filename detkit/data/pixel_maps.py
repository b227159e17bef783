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
    if records.pixel_colours is not None:
        colours = images.read_colours(path, page).astype(np.int32)
        records.check_mask(i, colours.shape[:2], records.sizes[i])
        return _of_colours(records, i, colours @ np.array([1 << 16, 1 << 8, 1], np.int32))
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


def _of_colours(records: Records, i: int, codes: NDArray[np.int32]) -> NDArray[np.uint8]:
    """(H, W) labels of colours, each written as one number."""
    assert records.pixel_colours is not None
    assert records.pixel_labels is not None
    known = records.pixel_colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    order = np.argsort(known)
    place = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    found = order[place]
    strange = known[found] != codes
    if strange.any():
        wrong, counts = np.unique(codes[strange], return_counts=True)
        most = np.argsort(-counts, kind="stable")
        names = [f"[{c >> 16}, {c >> 8 & 255}, {c & 255}]" for c in wrong[most].tolist()]
        raise DetkitError(
            f"The mask holds the colour {_listed(names, counts[most])}, which dataset.colours does"
            f" not name (it names {len(known)}).",
            file=records.mask_path(i),
            remedy="add it to dataset.colours, as `ignore` where it does not count; colours between"
            " two others come from smoothing: save masks without it.",
        )
    return records.pixel_labels[found].astype(np.uint8)


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
