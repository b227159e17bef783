"""COCO: one JSON file per split, with boxes, polygons, run lengths and crowds.

Boxes are x, y, width, height with continuous corners (Lin et al. 2014, arXiv:1405.0312, and
cocodataset.org, "Data format"). Category ids are kept, names go by them.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detkit.data import checks, splits
from detkit.data.draft import Draft, absent_class, class_list, known_only
from detkit.data.formats import BOXES, Needs, formats
from detkit.data.formats.coco_file import (
    bad,
    categories_of,
    integer,
    is_number,
    load,
    objects_of,
    places,
)
from detkit.data.formats.coco_layout import (
    LISTED,
    annotation_file,
    candidates,
    pictures,
    split_word,
    unlisted_pictures,
)
from detkit.data.formats.mask_layout import all_pairs
from detkit.data.records import Masks, Records, Strings, offsets_of
from detkit.errors import DetkitError, unknown
from detkit.ops.run_lengths import packed, sound

BACKGROUND = "background"
FAR = 1e6  # pixels; the rasteriser takes memory for every one along a polygon
CROWDS = ("regions", "objects")
LOOKS_FOR = "a JSON file with images, annotations and categories"


@formats.register("coco")
def read(
    root: Path,
    split: str,
    *,
    needs: Needs = BOXES,
    images: bool = True,
    annotations: str | None = None,
    classes: Sequence[str] | None = None,
    unknown_classes: str = "error",
    crowds: str = "regions",
    bad_boxes: str = "error",
    bad_images: str = "error",
) -> Records:
    """Read one split.

    Args:
        root: the folder, or the annotation file. Pictures are looked for below it.
        split: the word in the annotation file's name or folder (`instances_val2017.json`,
            `valid/_annotations.coco.json`), or the path of an annotation file. One file without
            such a word beside its pictures is split by hash, without pictures it is taken whole.
        needs: with `masks` the masks are kept too; for `pixels` they are drawn into one map, whose
            class 0, `background`, is what no object covers.
        images: whether the pictures must be there.
        annotations: the annotation file, whatever the split.
        classes: the class list, in this order; by default all categories, by id.
        unknown_classes: what to do with objects that are not in `classes`: `error` or `drop`.
        crowds: what `iscrowd` marks: `regions` full of objects, of which nothing is learnt, or
            `objects` like all others (CVAT marks what was drawn as a mask).
        bad_boxes, bad_images: see `detkit.data.checks.finish`.
    """
    home = root if root.is_dir() else root.parent
    home = home.parent if home.name == "annotations" else home  # pictures are beside it
    file, whole = annotation_file(root, split, annotations)
    data = load(file)
    place = places(data["images"], file)
    paths, found, notes = pictures(home, file, data["images"], split if whole else "", images)
    how = splits.below(home, file)
    chosen = data["images"]
    if images and len(candidates(root)) == 1:
        notes = (*notes, *unlisted_pictures(home, file, paths))
    if not whole and found:
        names = [image["file_name"] for image in chosen]
        indices, told = splits.by_hash(names, split, home, LISTED)
        chosen, how = [chosen[i] for i in indices], f"{how}, {told}"
        paths = [paths[i] for i in indices]
    draft, unlisted = _draft(data, chosen, place, home, paths, file, classes, needs)
    draft.source, draft.notes = f"COCO, {how}", (*draft.notes, *notes)
    if crowds not in CROWDS:
        raise unknown("choice for dataset.crowds", crowds, CROWDS)
    if crowds == "objects":
        draft.crowd = None
    draft = known_only(draft, unlisted, unknown_classes)
    records = checks.finish(draft, images=images, bad_boxes=bad_boxes, bad_images=bad_images)
    return _painted(records, file) if "pixels" in needs else records


def _painted(records: Records, file: Path) -> Records:
    """With a class for each pixel, and the background before the others."""
    if BACKGROUND in records.names:
        raise DetkitError(
            f"A category is called {BACKGROUND}, which is what no object covers here.",
            file=file,
            remedy="rename the category, or leave it out with dataset.classes and"
            " dataset.unknown_classes=drop.",
        )
    ids = records.category_ids
    free = next(n for n in range(len(ids) + 1) if n not in ids)
    return replace(
        records,
        names=(BACKGROUND, *records.names),
        category_ids=np.concatenate([[free], ids]),
        labels=records.labels + 1,
        painted=True,
    )


def recognises(root: Path, needs: Needs = BOXES) -> str | None:
    """Why this is COCO: its annotation file. None if there is none."""
    files = candidates(root)
    if not files or ("pixels" in needs and _has_masks_beside(root)):
        return None
    return f"{files[0].name} holds images, annotations and categories (JSON)"


def _has_masks_beside(root: Path) -> bool:
    """Whether pictures have index masks, which say more than objects do."""
    return root.is_dir() and any(mask for pairs in all_pairs(root).values() for _, mask in pairs)


def existing_splits(root: Path, needs: Needs = BOXES) -> list[str]:
    """The splits that annotation files are named for."""
    return sorted({word for file in candidates(root) if (word := split_word(file, root))})


def _draft(
    data: Mapping[str, list[dict[str, Any]]],
    images: Sequence[Mapping[str, Any]],
    place: Mapping[int | str, int],
    home: Path,
    paths: Sequence[Path],
    file: Path,
    classes: Sequence[str] | None,
    needs: Needs,
) -> tuple[Draft, list[str]]:
    """The images with their objects, and the class names of those whose class is not wanted."""
    used = {thing.get("category_id") for thing in data["annotations"] if _is_id(thing)}
    name_of, notes = categories_of(data["categories"], used, file)
    names, label = class_list(list(name_of.values()), classes)
    label_of = dict(zip(name_of, label, strict=True))
    if absent := [name for name in names if name not in name_of.values()]:
        raise absent_class(absent[0], name_of.values(), file)
    mine = objects_of(data["annotations"], place, name_of, file)
    order = [mine[place[image["id"]]] for image in images]
    things = [thing for group in order for thing in group]
    boxes = np.array([t["bbox"] for t in things], np.float64).reshape(-1, 4)
    areas = np.array([_number(t.get("area")) for t in things], np.float64)
    stated = ~np.isnan(areas)
    areas[~stated] = boxes[~stated, 2:].prod(1)
    boxes[:, 2:] += boxes[:, :2]
    sides = [integer(im.get(s), 0, 2**31) for im in images for s in ("height", "width")]
    sizes = np.array(sides, np.int32).reshape(-1, 2)
    draft = Draft(
        root=home,
        source="COCO",
        names=names,
        category_ids=[next(i for i, n in name_of.items() if n == name) for name in names],
        files=[splits.below(home, path) for path in paths],
        image_ids=[str(im["id"]) for im in images],
        integer_ids=all(isinstance(im["id"], int) for im in images),
        annotation_files=[str(file)] * len(images),
        counts=[len(group) for group in order],
        boxes=boxes,
        labels=np.array([label_of[t["category_id"]] for t in things], np.int64),
        numbers=np.array([integer(t.get("id"), n) for n, t in enumerate(things)], np.int64),
        unit="annotation",
        sizes=sizes,
        crowd=np.array([bool(t.get("iscrowd")) for t in things], bool),  # 0 or 1, see objects_of
        areas=areas,
        notes=notes,
    )
    if needs & {"masks", "pixels"}:
        draft.instances = _masks(things, np.repeat(sizes, draft.counts, 0), file)
    return draft, [name_of[t["category_id"]] for t in things if label_of[t["category_id"]] < 0]


def _is_id(thing: Mapping[str, Any]) -> bool:
    return isinstance(thing.get("category_id"), (int, float, str))


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _masks(things: Sequence[Mapping[str, Any]], sizes: np.ndarray, file: Path) -> Masks:
    """Polygons and run lengths of all objects, flat."""
    points, rings, objects, rles = array("d"), array("q"), array("q"), []
    for thing, (height, width) in zip(things, sizes.tolist(), strict=True):
        shape, record = thing.get("segmentation"), f"annotation {thing.get('id')}"
        counts, polygons = "", shape if isinstance(shape, list) else []
        before = len(rings)
        if isinstance(shape, dict):
            if not height * width:
                problem = "it has run lengths, and its image no height and width"
                raise bad(file, record, problem, "write the size of each image.")
            if "counts" not in shape:
                raise bad(file, record, "its run lengths have no counts")
            if shape.get("size") != [height, width]:
                problem = f"its run lengths are of size {shape.get('size')}, not {[height, width]}"
                raise bad(file, record, problem[:200])
            if not sound(shape["counts"], height * width):
                raise bad(file, record, "its run lengths do not add up to the image's pixels")
            counts = packed(shape["counts"], height, width)
        elif shape is not None and not _is_list(shape):
            raise bad(file, record, f"its segmentation is {str(shape)[:80]!r}")
        for ring in polygons:
            if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
                problem = f"a polygon has {len(ring) if _is_list(ring) else 'no'} numbers"
                raise bad(file, record, problem, "give x and y of at least three corners.")
            if not all(is_number(v) and abs(v) <= FAR for v in ring):  # NaN is not, either
                raise bad(file, record, f"a polygon has a corner that is no place: {ring}"[:200])
            if _covers(ring, height, width):
                points.extend(ring)
                rings.append(len(ring) // 2)
        objects.append(len(rings) - before)
        rles.append(counts)
    corners = np.array(points, np.float64).reshape(-1, 2)
    return Masks(corners, offsets_of(rings), offsets_of(objects), Strings.of(rles))


def _covers(ring: Sequence[float], height: int, width: int) -> bool:
    """Whether a part of it can lie in the image; in one of unknown size any does."""
    if not height * width:
        return True
    x, y = ring[::2], ring[1::2]
    return max(x) > 0 and max(y) > 0 and min(x) < width and min(y) < height


def _is_list(value: object) -> bool:
    return isinstance(value, list)
