"""Images of one object each: what a localizer learns from and is measured on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detkit.data.records import Records
from detkit.errors import DetkitError, unknown

ONE_OBJECT = "one_object"  # among what a model needs
HOW = ("drop", "error")


def single_of(records: Records, more_objects: str = "drop") -> Records:
    """The images with exactly one object; the others are left out and counted in a note.

    Crowds and difficult objects count as objects: a picture with one of these and a dog has two. A
    crowd alone is no object.

    Args:
        more_objects: `drop`, or `error`, which raises at the first image with several of them.
    Raises:
        DetkitError: another word, an image with several objects where `error` was asked for, or no
            image with one.
    """
    if more_objects not in HOW:
        raise unknown("dataset.more_objects", more_objects, HOW)
    counts = np.diff(records.offsets)
    several = np.flatnonzero(counts > 1)
    if len(several) and more_objects == "error":
        first = int(several[0])
        raise DetkitError(
            f"The image has {counts[first]} objects, a localizer finds one.",
            file=records.path(first),
            record=f"{len(several):,} such images of {len(records):,}",
            remedy="leave them out with dataset.more_objects=drop, or choose a model that detects"
            " all of them (model=faster_rcnn).",
        )
    one = np.flatnonzero(counts == 1)
    one = one[~records.crowd[records.offsets[one]]]
    if not len(one):
        raise DetkitError(
            f"None of the {len(records):,} images has exactly one object.",
            file=records.root,
            record=records.source,
            remedy="choose a model that detects all objects (model=faster_rcnn).",
        )
    kept = records.subset(one)
    if len(one) == len(records):
        return kept
    empty = len(records) - len(one) - len(several)
    left = f"{len(several):,} with more" + (f", {empty:,} without" if empty else "")
    note = f"{len(one):,} of the {len(records):,} images have one object; left out: {left}"
    return replace(kept, notes=(*kept.notes, note))
