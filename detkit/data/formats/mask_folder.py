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
from detkit.data import images as decoder
from detkit.data.draft import pixel_draft
from detkit.data.formats import PIXELS, Needs, formats
from detkit.data.formats.mask_colours import colour_table
from detkit.data.formats.mask_layout import LOOKS_FOR, Found, all_pairs, existing_splits, pages_of
from detkit.data.records import Records
from detkit.errors import DetkitError
from detkit.ranges import Count
from detkit.structures import IGNORE

GAP = 4  # the highest value is so many times their count: they are no class indices
LOOKED_AT = 500  # masks whose values tell how many classes there are, when nobody names them

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
        classes: the names by value from 0 on, an ignored one among them; by default classes.txt,
            else the numbers that the masks hold. With `values` by label.
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
    found, how = pages_of(root, split, everything, channels)
    pictures, masks, pages = (list(column) for column in zip(*found, strict=True))
    names = list(map(str, classes)) if classes else _listed_names(root)
    table = None
    if colours:
        _not_beside_colours(root, classes=classes, values=values, ignore=ignore)
        table, labels, names = colour_table(root, colours)
        told: tuple[str, ...] = ()
    else:
        labels, names, told = _labels(root, everything, values, ignore, names)
    draft = pixel_draft(
        root,
        f"pictures and {'masks in colour' if colours else 'index masks'}, {how}",
        names,
        [splits.below(root, picture) for picture in pictures],
        [splits.below(root, mask) for mask in masks],
        labels,
        told,
    )
    draft.pixel_colours, draft.channels = table, channels or 3
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


def _listed_names(root: Path) -> list[str]:
    """Class names from classes.txt, if it is there."""
    path = root / "classes.txt"
    return splits.class_names(path) if path.is_file() else []


def _labels(
    root: Path,
    groups: Mapping[str, Found],
    values: Mapping[int, int] | None,
    ignore: int | None,
    names: Sequence[str],
) -> tuple[NDArray[np.int16], list[str], tuple[str, ...]]:
    """(256,) label by value, the names of the labels, and what to tell."""
    told: tuple[str, ...] = ()
    if ignore is not None and not 0 <= ignore <= IGNORE:
        raise DetkitError(
            f"dataset.ignore is {ignore}, which no mask can hold.",
            file=root,
            remedy=f"set it to a value of 0 … {IGNORE}, or to null.",
        )
    if values is None:
        masks = [mask for group in groups.values() for _, mask in group if mask]
        most = LOOKED_AT // 20 if names else LOOKED_AT  # only: are there but 0 and 255?
        seen = _values(masks[:: len(masks) // most + 1])
        if seen == {0, IGNORE} and len(names) in (0, 2) and ignore is None:
            values, told = {0: 0, IGNORE: 1}, ("masks of 0 and 255: read as classes 0 and 1",)
        else:
            counted = seen - {IGNORE, ignore}
            highest = max(counted, default=0)
            if not names and counted and highest >= GAP * len(counted):
                raise _no_indices(root, sorted(seen - {ignore}))
            named = names or [str(number) for number in range(highest + 1)]
            numbers = [number for number in range(len(named)) if number != ignore]
            values = {number: label for label, number in enumerate(numbers)}
            names = [named[number] for number in numbers]
    used = [label for label in values.values() if label != IGNORE]
    names = list(names) or [str(label) for label in range(max(used, default=0) + 1)]
    allowed = np.full(256, -1, np.int16)
    allowed[[IGNORE] if ignore is None else [IGNORE, ignore]] = IGNORE
    for value, label in values.items():
        if not (0 <= value <= IGNORE and (0 <= label < len(names) or label == IGNORE)):
            raise DetkitError(
                f"dataset.values makes {value} the label {label}, of {len(names)} classes.",
                file=root,
                remedy=f"values are 0 … {IGNORE}, labels 0 … {len(names) - 1} (or {IGNORE}).",
            )
        allowed[value] = label
    return allowed, names, told


def _no_indices(root: Path, seen: Sequence[int]) -> DetkitError:
    """The error for masks of 0, 127 and 254, which would be taken for 255 classes."""
    setting = ", ".join(f"{value}: {label}" for label, value in enumerate(seen))
    void = f" ({IGNORE}: {IGNORE} where that does not count)" if IGNORE in seen else ""
    return DetkitError(
        f"The masks hold the values {', '.join(map(str, seen))}: hardly the numbers of classes.",
        file=root,
        remedy=f"say which class each is with 'dataset.values={{{setting}}}'{void}, or if they are"
        " numbers, name the classes by number in classes.txt or dataset.classes.",
    )


def _values(masks: Sequence[Path]) -> set[int]:
    seen = np.zeros(256, bool)
    for path in masks:
        try:
            seen[decoder.read_values(path)] = True
        except DetkitError:  # a bad mask is told of where its image is checked
            continue
    return set(map(int, np.flatnonzero(seen)))
