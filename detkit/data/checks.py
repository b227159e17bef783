"""From what a format's reader found to Records: are the images there, can the boxes be true?

The checks are the same for every format. What a reader hands over still has the names of files and
objects, so that a message can say where the fault is; Records no longer need them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detkit.data import alike, splits
from detkit.data import images as decoder
from detkit.data.draft import Draft
from detkit.data.records import Records, Strings, offsets_of
from detkit.errors import DetkitError, unknown

SLACK = 1.0  # pixels that a box may reach over the edge: 0-based tools in 1-based formats, rounding
REMARKED = 12  # pictures of which it is looked at how they are read
MANY = 2000  # images, from which on the header check shows its progress


def finish(draft: Draft, *, images: bool, bad_boxes: str, bad_images: str) -> Records:
    """Check a draft and make it Records.

    Args:
        images: the pictures are needed; False where only results are scored.
        bad_boxes: `error`, `drop` (leave the box out), or `clip` (to the image; what has no extent
            after that is left out).
        bad_images: `error` or `drop` (leave the image out).
    Raises:
        DetkitError: the first fault, or a wrong choice.
    """
    for setting, value, choices in (
        ("bad_boxes", bad_boxes, ("error", "drop", "clip")),
        ("bad_images", bad_images, ("error", "drop")),
    ):
        if value not in choices:
            raise unknown(f"choice for dataset.{setting}", value, choices)
    if not len(draft.files):
        raise DetkitError(
            f"The split has no images ({draft.source}).",
            file=draft.root,
            remedy="add images, or name a split that has some with dataset.val_split"
            " (dataset.train_split).",
        )
    _no_twins(draft)
    if not len(draft.names):
        raise DetkitError(
            "There are no classes: no annotation has an object.",
            file=draft.root,
            remedy="name the classes with dataset.classes.",
        )
    draft = _with_masks(draft, bad_boxes)
    draft.notes = (*draft.notes, *alike.note_of_classes(draft.names))
    records = _flat(draft)
    whole = np.ones(len(records), bool)
    if images or draft.relative:
        sizes, whole, note = _check_images(draft, records, bad_images)
        records = replace(records, sizes=sizes, notes=records.notes + note)
        records = replace(records, notes=records.notes + _remarks(records, whole))
    if draft.relative:
        records = _in_pixels(records)
    records = _check_boxes(draft, records, whole, bad_boxes)
    if not whole.all():
        records = records.subset(np.flatnonzero(whole))
    if not len(records):
        raise DetkitError(
            "No image is left.", file=draft.root, remedy="see the faults of bad_images=error."
        )
    return records


def _with_masks(draft: Draft, bad_boxes: str) -> Draft:
    """The draft without its objects that have no mask, where masks are read; or the error."""
    if draft.instances is None or not len(draft.labels):
        return draft
    empty = draft.instances.empty()
    if not empty.any():
        return draft
    file, record = draft.where(int(empty.argmax()))
    share = f"{empty.sum():,} of {len(empty):,}"
    if empty.all():
        raise DetkitError(
            f"None of the {len(empty):,} objects has a mask: these are boxes alone.",
            file=file,
            remedy="export the objects' outlines (polygons, run lengths) with them, or choose a"
            " model of boxes (model=faster_rcnn).",
        )
    if bad_boxes == "error":
        raise DetkitError(
            "The object has no mask: no outline, or one without an area in the image.",
            file=file,
            record=record,
            remedy="draw its outline, or leave such objects out with dataset.bad_boxes=drop"
            f" ({share}).",
        )
    note = f"left out {share} objects without a mask (bad_boxes={bad_boxes}). First: {file}"
    return draft.keep(~empty, f"{note}, {record}")


def _flat(draft: Draft) -> Records:
    n = len(draft.labels)
    boxes = draft.boxes.reshape(n, 4)
    extent = boxes[:, 2:] - boxes[:, :2]
    areas = extent.prod(1) if draft.areas is None else draft.areas
    ids = range(1, len(draft.names) + 1) if draft.category_ids is None else draft.category_ids
    size = np.zeros((len(draft.files), 2), np.int32) if draft.sizes is None else draft.sizes
    return Records(
        names=tuple(draft.names),
        category_ids=np.array(ids, np.int64),
        source=draft.source,
        root=draft.root,
        files=Strings.of(draft.files),
        image_ids=Strings.of(draft.image_ids),
        integer_ids=draft.integer_ids,
        sizes=np.asarray(size, np.int32),
        offsets=offsets_of(draft.counts),
        boxes=boxes,
        labels=draft.labels.astype(np.int64),
        crowd=np.zeros(n, bool) if draft.crowd is None else draft.crowd,
        difficult=np.zeros(n, bool) if draft.difficult is None else draft.difficult,
        areas=areas,
        instances=draft.instances,
        pixel_files=None if draft.pixel_files is None else Strings.of(draft.pixel_files),
        pixel_labels=draft.pixel_labels,
        pixel_colours=draft.pixel_colours,
        pages=draft.pages,
        channels=draft.channels,
        image_labels=draft.image_labels,
        notes=draft.notes,
    )


def _in_pixels(records: Records) -> Records:
    """Fractions of the image's sides → pixels."""
    counts = np.diff(records.offsets)
    sides = np.repeat(records.sizes[:, ::-1], counts, 0).astype(np.float64)
    boxes, instances = records.boxes * np.tile(sides, 2), records.instances
    if instances is not None:
        corners = np.diff(instances.rings[instances.objects])
        instances = replace(instances, points=instances.points * np.repeat(sides, corners, 0))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return replace(records, boxes=boxes, areas=areas, instances=instances)


def _no_twins(draft: Draft) -> None:
    first: dict[str, int] = {}
    for i, image_id in enumerate(draft.image_ids):
        if first.setdefault(image_id, i) != i:
            raise DetkitError(
                f"Two images have the id {image_id!r}: "
                f"{draft.files[first[image_id]]} and {draft.files[i]}.",
                file=draft.annotation_files[i],
                remedy="give each image an id of its own.",
            )


def _check_images(
    draft: Draft, records: Records, bad_images: str
) -> tuple[NDArray[np.int32], NDArray[np.bool_], tuple[str, ...]]:
    """Upright sizes from the headers, which images are whole, and what was left out."""
    sizes, whole = records.sizes.copy(), np.ones(len(records), bool)
    faults: list[DetkitError] = []
    todo = range(len(records))
    for i in tqdm(todo, "checking images", leave=False, disable=len(records) < MANY):
        try:
            sizes[i] = _size(records, i, draft)
            if records.pixel_files is not None:
                mask = decoder.check(records.mask_path(i), index=True, page=records.page(i))
                records.check_mask(i, mask, tuple(sizes[i]))
        except DetkitError as error:
            fault = splits.with_twin(error)
            if bad_images == "error":
                advice = f"{(fault.remedy or '').rstrip('.')}, or leave such images out with "
                where = f"annotated in {draft.annotation_files[i]}"
                advice += f"dataset.bad_images=drop (image {i + 1:,} of {len(records):,})."
                raise DetkitError(
                    fault.problem, file=fault.file, record=fault.record or where, remedy=advice
                ) from None
            faults.append(fault)
            whole[i] = False
    if not faults:
        return sizes, whole, ()
    first = str(faults[0]).partition("\n")[0]
    note = f"left out {len(faults):,} of {len(records):,} images (bad_images=drop). First: {first}"
    return sizes, whole, (note,)


def _remarks(records: Records, whole: NDArray[np.bool_]) -> tuple[str, ...]:
    """What to tell of how pictures are read, from some of them."""
    chosen = np.flatnonzero(whole)
    chosen = chosen[:: len(chosen) // REMARKED + 1]
    found: dict[str, list[int]] = {}
    for i in chosen.tolist():
        try:
            if remark := decoder.remark(records.path(i), records.channels, records.page(i)):
                found.setdefault(remark.partition(" (")[0], []).append(i)
        except DetkitError:  # told where it is read
            continue
    return tuple(
        f"{len(where):,} of {len(chosen):,} pictures looked at {remark}. First: "
        f"{records.files[where[0]]}"
        for remark, where in found.items()
    )


def _size(records: Records, i: int, draft: Draft) -> tuple[int, int]:
    """(height, width) of the picture, which must be what the annotation says, if it says so."""
    size = decoder.check(records.path(i), page=records.page(i))
    stated = tuple(map(int, records.sizes[i]))
    if not all(stated) or stated == size:
        return size
    upright, remedy = "", "put the picture back that was annotated"
    if stated == size[::-1]:
        boxes = records.boxes[records.offsets[i] : records.offsets[i + 1]]
        as_shown, as_stated = (
            bool((boxes <= np.array([width, height] * 2) + SLACK).all())
            for height, width in (size, stated)
        )
        tagged = decoder.lies(records.path(i))
        upright = " (upright, after its EXIF orientation)" if tagged else ""
        if as_shown:
            remedy = "exchange width and height of the image in the annotation file"
            if as_stated and tagged:
                remedy += " where its boxes are right in the picture as it is shown, or else"
        elif not tagged:
            remedy += " (this one was turned since)"
        if as_stated and tagged:
            told = "remove the picture's orientation tag and leave its pixels as they are"
            remedy = f"{remedy} {told}" if as_shown else told
    raise DetkitError(
        f"The annotation is of an image {stated[1]}x{stated[0]}, the picture is"
        f" {size[1]}x{size[0]}{upright}.",
        file=records.path(i),
        remedy=remedy,
    )


def _check_boxes(
    draft: Draft, records: Records, whole: NDArray[np.bool_], bad_boxes: str
) -> Records:
    owner = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    limit = np.tile(records.sizes[owner][:, ::-1], 2).astype(np.float64)
    limit[limit == 0] = np.inf  # nobody knows the size
    boxes = records.boxes
    finite = np.isfinite(boxes).all(1)
    empty = finite & (boxes[:, 2:] <= boxes[:, :2]).any(1)
    beyond = (boxes < -SLACK) | (boxes > limit + SLACK)
    outside = np.logical_and(finite & ~empty, beyond.any(1))
    bad = np.logical_and(~finite | empty | outside, whole[owner])
    if not bad.any():
        return replace(records, notes=records.notes + _one_pixel_note(draft, boxes))
    first = int(bad.argmax())
    file, record = draft.where(first)
    what, share = _what(draft, boxes[first], limit[first]), f"{bad.sum():,} of {len(bad):,}"
    if bad_boxes == "error":
        cut = ", or cut them at the edge with dataset.bad_boxes=clip" if outside[bad].any() else ""
        advice = f"leave such boxes out with dataset.bad_boxes=drop ({share}){cut}"
        remedy = f"correct the box, or {advice}."
        if np.isnan(boxes[first]).all():
            remedy = f"give the object an upright box, or {advice}."
        if _no_fractions(draft, boxes[first], limit[first]):
            remedy = "divide x and width by the image's width, y and height by its height."
        raise DetkitError(what, file=file, record=record, remedy=remedy)
    keep, areas = ~bad, records.areas
    if bad_boxes == "clip":
        boxes = np.where(outside[:, None], np.clip(boxes, 0, limit), boxes)
        keep |= outside & (boxes[:, 2:] > boxes[:, :2]).all(1)
        left = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        areas = np.where(outside, np.minimum(areas, left), areas)
    note = (
        f"{share} boxes are bad: {(~keep).sum():,} left out, {(bad & keep).sum():,} cut "
        f"(bad_boxes={bad_boxes}). First: {file}, {record}: {what}"
    )
    mended = replace(records, boxes=boxes, areas=areas, notes=(*records.notes, note))
    return mended.keep_objects(keep)


def _no_fractions(draft: Draft, box: NDArray[np.float64], limit: NDArray[np.float64]) -> bool:
    """Whether pixels were written where fractions belong."""
    return draft.relative and bool(np.isfinite(box).all() and (np.abs(box) > 2 * limit).any())


def _what(draft: Draft, box: NDArray[np.float64], limit: NDArray[np.float64]) -> str:
    """The fault of a bad box, in the file's own coordinates."""
    sides = (("xmin", "xmax", "width"), ("ymin", "ymax", "height"))
    shown = box + (np.array([1, 1, 0, 0]) if draft.inclusive else 0)
    if np.isnan(box).all():
        return "the object has no box; it may be an oriented one, or a polygon."
    if not np.isfinite(box).all():
        return f"the box {', '.join(f'{v:g}' for v in shown)} is not all finite numbers."
    if _no_fractions(draft, box, limit):
        return "the numbers are no fractions of the image's sides, 0 … 1, as they have to be here."
    for k, (low, high, _) in enumerate(sides):
        if box[k + 2] <= box[k]:
            return f"{high} {shown[k + 2]:g} is not beyond {low} {shown[k]:g}."
    for k, (low, high, side) in enumerate(sides):
        if box[k] > limit[k] or box[k] < -SLACK:
            return f"{low} {shown[k]:g} lies outside the image ({side} {limit[k]:g})."
        if box[k + 2] > limit[k] + SLACK or box[k + 2] < 0:
            return f"{high} {shown[k + 2]:g} lies outside the image ({side} {limit[k]:g})."
    raise AssertionError(f"not a bad box: {box}")


def _one_pixel_note(draft: Draft, boxes: NDArray) -> tuple[str, ...]:
    """Boxes with xmax = xmin are one pixel wide in an inclusive format: valid, but rarely meant."""
    thin = (boxes[:, 2:] - boxes[:, :2] == 1).any(1)
    if not draft.inclusive or not thin.any():
        return ()
    file, record = draft.where(int(thin.argmax()))
    return (
        f"{thin.sum():,} of {len(thin):,} boxes are one pixel wide or high (xmin = xmax or "
        f"ymin = ymax); they are kept. First: {file}, {record}",
    )
