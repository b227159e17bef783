"""Pictures and masks: the value, or the colour, of a mask's pixel is its class.

The value 255 does not count. A TIFF of several pages is a stack: each page of the pictures has its
page of the masks.

Layouts: a list of `picture mask` pairs per split (CamVid); `images/` + `masks/` (or `labels/`,
`gt/` …; where stems agree the pictures' folder may have any name), with or without split folders or
lists of names; `train/` + `trainannot/`. Masks are PNGs with the picture's stem, or the stem and
`_mask`, `_label`, `_gt` or `_seg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.data import checks, splits
from detkit.data.draft import pixel_draft
from detkit.data.formats import PIXELS, Needs, formats
from detkit.data.formats.mask_colours import colour_table
from detkit.data.formats.mask_layout import LOOKS_FOR, all_pairs, existing_splits, pages_of
from detkit.data.formats.mask_values import by_colour, labels_of, listed_names
from detkit.data.records import Records
from detkit.errors import DetkitError
from detkit.ranges import Count

__all__ = ["LOOKS_FOR", "existing_splits", "read", "recognises"]


@formats.register("mask_folder")
def read(
    root: Path,
    split: str,
    *,
    needs: Needs = PIXELS,
    classes: Sequence[str] | None = None,
    values: Mapping[int, int] | None = None,
    ignore: int | None = None,
    colours: Mapping[str, Sequence[int]] | str | None = None,
    channels: Count | None = None,
    bad_images: str = "error",
) -> Records:
    """Read one split.

    Args:
        root: the folder.
        split: a folder's name or a list; without any, a fifth is `val` by hash.
        needs: here always `pixels`.
        classes: the names by value from 0 on, an ignored one among them; by default those of a
            file with the data (`class_files`), else the numbers that the masks hold. With `values`
            by label.
        values: label by value in the file, where they differ; masks of 0 and 255 alone are read as
            0 and 1.
        ignore: the value of pixels that do not count, besides 255.
        colours: of masks in colour: red, green and blue of each class, in the order of the labels;
            `ignore` is the name of what does not count. Or a file of them, see `colour_table`.
        channels: of the pictures; None brings all to RGB, 1 to grey, another number takes the
            bands as they are (of more than four the pages of a TIFF).
        bad_images: see `detkit.data.checks.finish`.
    """
    if "pixels" not in needs:
        raise DetkitError(
            "Index masks have no objects.",
            file=root,
            remedy="choose a model of pixels (model=unet), or a data set with boxes.",
        )
    everything = all_pairs(root)
    found, how, notes = pages_of(root, split, everything, channels)
    pictures, masks, pages = (list(column) for column in zip(*found, strict=True))
    labels: NDArray[np.int16] | None = None
    table: NDArray[np.int16] | None = None
    if colours:
        _not_beside_colours(root, classes=classes, values=values, ignore=ignore)
        listed, of_colours, names = colour_table(root, colours)
        table = np.column_stack([listed, of_colours]).astype(np.int16)
    else:
        names, listed_colours = listed_names(root)
        names = list(map(str, classes)) if classes else names
        every = [mask for group in everything.values() for _, mask in group if mask]
        labels, names, told = labels_of(root, every, values, ignore, names, listed_colours)
        notes = (*notes, *told)
        table = by_colour(listed_colours, labels)
    draft = pixel_draft(
        root,
        f"pictures and {'masks in colour' if colours else 'index masks'}, {how}",
        names,
        [splits.below(root, picture) for picture in pictures],
        [splits.below(root, mask) for mask in masks],
        labels,
        notes,
        table,
    )
    if not how.startswith("the list"):
        draft.notes = (*draft.notes, *splits.merged(root, pictures))
    draft.channels = channels or 3
    single = dict.fromkeys(pictures)
    draft.image_ids = splits.ids_of(root, list(single))
    if len(single) < len(pictures):  # each page has an id of its own
        draft.pages = np.array(pages, np.int64)
        own = dict(zip(single, draft.image_ids, strict=True))
        draft.image_ids = [
            f"{own[picture]}_{page:03d}" for picture, page in zip(pictures, pages, strict=True)
        ]
    return checks.finish(draft, images=True, bad_boxes="error", bad_images=bad_images)


def _not_beside_colours(root: Path, **settings: object) -> None:
    """Raise for a setting that means nothing where colours are classes."""
    if given := [key for key, value in settings.items() if value is not None]:
        raise DetkitError(
            f"dataset.{given[0]} is for masks of values, and dataset.colours for masks of colours.",
            file=root,
            remedy="leave one of them out; dataset.colours names the classes, and `ignore` in it"
            " what does not count.",
        )


def recognises(root: Path, needs: Needs = PIXELS) -> str | None:
    """Why these are pictures and masks: the first pair. None if there is none."""
    if "pixels" not in needs or not root.is_dir():
        return None
    for picture, mask in (pair for pairs in all_pairs(root).values() for pair in pairs):
        if picture and mask:
            return f"{splits.below(root, mask)} is the mask of {splits.below(root, picture)}"
    return None
