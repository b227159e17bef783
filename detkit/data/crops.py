"""Objects as pictures of their own: what a classifier learns from data with boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detkit.data.records import Records, Strings, offsets_of
from detkit.errors import DetkitError

CROWDS = (
    "take them as objects with dataset.crowds=objects, or write iscrowd: 0 for each that is one."
)
LEAST_SIDE = 8  # pixels of an object's shorter side
ROUNDING = 0.01  # pixels that a box may be off whole ones (fractions of a side, written short)


def crops_of(records: Records, crop_context: float = 0.0, least_side: int = LEAST_SIDE) -> Records:
    """One image an object, the part of the photo that its box and some context cover.

    Boxes are rounded outwards to whole pixels and cut at the photo's edges. Crowds, difficult
    objects and small ones are left out, and counted in a note.

    Args:
        crop_context: what each side of the crop takes from around the box, as a part of the box's
            side.
        least_side: objects are left out whose boxes are narrower or lower, in pixels.
    Returns:
        Records with `crops` and `image_labels`, without objects; the id of an image is the photo's
        and the object's number in it, `000005_2`.
    Raises:
        DetkitError: a context below 0 or a side below 1, data without objects to cut out, or drawn
            ones, which have no photos.
    """
    if not (0 <= crop_context <= 10 and least_side >= 1):
        raise DetkitError(
            f"dataset.crop_context is {crop_context:g}, dataset.least_side is {least_side}.",
            remedy="choose a context of 0 … 10 times the box's side, and a side of at least 1"
            " pixel.",
        )
    if records.render is not None:
        raise DetkitError(
            "These data are drawn, and say no class of a whole picture.",
            record=records.source,
            remedy="choose other data, or a model that detects boxes.",
        )
    owner = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    extent = records.boxes[:, 2:] - records.boxes[:, :2]
    small = (extent < least_side - ROUNDING).any(1)
    reasons = {
        "crowds": records.crowd,
        "difficult": records.difficult & ~records.crowd,
        f"narrower or lower than {least_side} pixels": small & ~records.crowd & ~records.difficult,
    }
    kept = np.flatnonzero(~(records.crowd | records.difficult | small))
    if not len(kept):
        raise DetkitError(
            f"There is no object to cut out: {_counted(reasons) or 'the images have none'}.",
            file=records.root,
            remedy=CROWDS
            if len(records.crowd) and records.crowd.all()
            else "choose a split with objects, or a lower dataset.least_side.",
        )
    owner, numbers = owner[kept], kept - records.offsets[owner[kept]] + 1
    crops = _rounded(records.boxes[kept], crop_context, records.sizes[owner])
    ids = (f"{records.image_ids[i]}_{n}" for i, n in zip(owner, numbers, strict=True))
    left_out = _counted(reasons)
    photos = len(np.unique(owner))
    note = f"{len(kept):,} objects are cut out of {photos:,} of the {len(records):,} images"
    return replace(
        records,
        source=f"{records.source}, its objects cut out",
        files=records.files.take(owner),
        image_ids=Strings.of(ids),
        integer_ids=False,
        sizes=(crops[:, [3, 2]] - crops[:, [1, 0]]).astype(np.int32),
        offsets=offsets_of(np.zeros(len(kept), np.int64)),
        boxes=np.zeros((0, 4)),
        labels=np.zeros(0, np.int64),
        crowd=np.zeros(0, bool),
        difficult=np.zeros(0, bool),
        areas=np.zeros(0),
        instances=None,
        pixel_files=None,
        image_labels=records.labels[kept].astype(np.int64),
        crops=crops,
        notes=(*records.notes, f"{note}; left out: {left_out}" if left_out else note),
    )


def _rounded(
    boxes: NDArray[np.float64], context: float, sizes: NDArray[np.int32]
) -> NDArray[np.int64]:
    """(N, 4) whole pixels around the boxes, inside images of (N, 2) height and width."""
    around = np.tile((boxes[:, 2:] - boxes[:, :2]) * context, 2) * [-1, -1, 1, 1]
    grown = boxes + around
    sides = np.where(sizes > 0, sizes, np.iinfo(np.int32).max)[:, ::-1]  # 0: nobody knows it
    low = np.floor(grown[:, :2] + ROUNDING).clip(0, sides - 1)
    high = np.ceil(grown[:, 2:] - ROUNDING).clip(low + 1, sides)
    return np.hstack([low, high]).astype(np.int64)


def _counted(reasons: dict[str, NDArray[np.bool_]]) -> str:
    return ", ".join(f"{of.sum():,} {what}" for what, of in reasons.items() if of.any())
