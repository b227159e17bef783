"""Pictures and index masks: the value of a mask's pixel is its class, 255 does not count.

Layouts: a list of `picture mask` pairs per split (CamVid); `images/` + `masks/` (or `labels/`,
`gt/` …; where stems agree the pictures' folder may have any name), with or without split folders or
lists of names; `train/` + `trainannot/`. Masks are PNGs with the picture's stem, or the stem and
`_mask`, `_label`, `_gt` or `_seg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from detkit.data import checks, splits
from detkit.data.draft import pixel_draft
from detkit.data.formats import PIXELS, Needs, formats
from detkit.data.formats.mask_layout import LOOKS_FOR, all_pairs, existing_splits, pairs_of
from detkit.data.formats.mask_values import labels_of, listed_names
from detkit.data.records import Records
from detkit.errors import DetkitError

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
        bad_images: see `detkit.data.checks.finish`.
    """
    if "pixels" not in needs:
        raise DetkitError(
            "Index masks have no objects.",
            file=root,
            remedy="choose a model of pixels (model=unet), or a data set with boxes.",
        )
    everything = all_pairs(root)
    pairs, how, notes = pairs_of(root, split, everything)
    names, colours = listed_names(root)
    names = list(map(str, classes)) if classes else names
    masks = [mask for group in everything.values() for _, mask in group if mask]
    labels, names, told = labels_of(root, masks, values, ignore, names, colours)
    draft = pixel_draft(
        root,
        f"pictures and index masks, {how}",
        names,
        [splits.below(root, picture) for picture, _ in pairs],
        [splits.below(root, mask) for _, mask in pairs],
        labels,
        (*notes, *told),
        colours,
    )
    draft.image_ids = splits.ids_of(root, [picture for picture, _ in pairs])
    return checks.finish(draft, images=True, bad_boxes="error", bad_images=bad_images)


def recognises(root: Path, needs: Needs = PIXELS) -> str | None:
    """Why these are pictures and masks: the first pair. None if there is none."""
    if "pixels" not in needs or not root.is_dir():
        return None
    for picture, mask in (pair for pairs in all_pairs(root).values() for pair in pairs):
        if picture and mask:
            return f"{splits.below(root, mask)} is the mask of {splits.below(root, picture)}"
    return None
