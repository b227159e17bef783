"""COCO: one JSON file per split, with boxes, polygons, run lengths and crowds.

Boxes are x, y, width, height with continuous corners (Lin et al. 2014, arXiv:1405.0312, and
cocodataset.org, "Data format"). Category ids are kept, names go by them.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detkit.data import checks, splits
from detkit.data.draft import Draft, absent_class, class_list, known_only
from detkit.data.formats import formats
from detkit.data.formats.coco_layout import (
    LISTED,
    annotation_file,
    candidates,
    image_folder,
    split_word,
)
from detkit.data.records import Masks, Records, Strings, offsets_of
from detkit.errors import DetkitError

IDS = ("id", "image_id", "category_id")
LARGEST = 2**1023  # of the integers that a float64 can be
FAR = 1e6  # pixels; the rasteriser takes memory for every one along a polygon
LOOKS_FOR = "a JSON file with images, annotations and categories"


@formats.register("coco")
def read(
    root: Path,
    split: str,
    *,
    task: str = "detect",
    images: bool = True,
    annotations: str | None = None,
    classes: Sequence[str] | None = None,
    unknown_classes: str = "error",
    bad_boxes: str = "error",
    bad_images: str = "error",
) -> Records:
    """Read one split.

    Args:
        root: the folder, or the annotation file. Pictures are looked for below it.
        split: the word in the annotation file's name or folder (`instances_val2017.json`,
            `valid/_annotations.coco.json`), or the path of an annotation file. One file without
            such a word beside its pictures is split by hash, without pictures it is taken whole.
        task: `segment_instances` keeps the masks too.
        images: whether the pictures must be there.
        annotations: the annotation file, whatever the split.
        classes: the class list, in this order; by default all categories, by id.
        unknown_classes: what to do with objects that are not in `classes`: `error` or `drop`.
        bad_boxes, bad_images: see `detkit.data.checks.finish`.
    """
    home = root if root.is_dir() else root.parent
    home = home.parent if home.name == "annotations" else home  # pictures are beside it
    file, whole = annotation_file(root, split, annotations)
    data = _load(file)
    place = _places(data["images"], file)
    pictures, found = image_folder(home, file, data["images"], split if whole else "", images)
    how = splits.below(home, file)
    chosen = data["images"]
    if not whole and found:
        names = [image["file_name"] for image in chosen]
        indices, told = splits.by_hash(names, split, home, LISTED)
        chosen, how = [chosen[i] for i in indices], f"{how}, {told}"
    draft, unlisted = _draft(data, chosen, place, home, pictures, file, classes, task)
    draft.source = f"COCO, {how}"
    draft = known_only(draft, unlisted, unknown_classes)
    try:
        return checks.finish(draft, images=images, bad_boxes=bad_boxes, bad_images=bad_images)
    except DetkitError as fault:
        raise splits.with_twin(fault) from None


def recognises(root: Path, task: str = "detect") -> str | None:
    """Why this is COCO: its annotation file. None if there is none."""
    files = candidates(root)
    if not files or task == "segment_pixels":
        return None
    return f"{files[0].name} holds images, annotations and categories (JSON)"


def existing_splits(root: Path, task: str = "detect") -> list[str]:
    """The splits that annotation files are named for."""
    return sorted({word for file in candidates(root) if (word := split_word(file, root))})


def _load(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        data = json.loads(file.read_bytes().removeprefix(codecs.BOM_UTF8))
    except json.JSONDecodeError as fault:
        raise DetkitError(
            f"The JSON is broken ({fault.msg}).",
            file=file,
            record=f"line {fault.lineno}, column {fault.colno}",
            remedy="write or fetch the file again.",
        ) from fault
    except (OSError, UnicodeDecodeError, RecursionError) as fault:
        raise DetkitError(
            f"The file cannot be read ({fault}).", file=file, remedy="write or fetch it again."
        ) from fault
    except ValueError as fault:  # an integer with more digits than Python takes
        raise _too_long(file) from fault
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DetkitError(
                f"The list {key!r} is missing.",
                file=file,
                remedy="name a file of annotations, not of results (dataset.annotations).",
            )
        for n, entry in enumerate(data[key]):
            if not isinstance(entry, dict):
                raise _bad(file, f"{key}[{n}]", f"it is {str(entry)[:80]!r}, not an object")
            _whole_ids(entry, IDS if key == "annotations" else IDS[:1], file, f"{key}[{n}]")
    return data


def _too_long(file: Path) -> DetkitError:
    """The error for a number of more digits than Python makes an integer of."""
    text, most = file.read_bytes(), sys.get_int_max_str_digits()
    found = re.search(rb"\d{%d}" % (most + 1), text)
    before = text[: found.start()] if found else b""
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    problem = f"a number has more than {most:,} digits"
    return _bad(file, f"line {line}, column {column}", problem, "correct the number.")


def _whole_ids(entry: dict[str, Any], keys: Sequence[str], file: Path, record: str) -> None:
    """Makes ids such as 7.0 (pandas writes them) integers, in place."""
    for key in keys:
        value = entry.get(key, 0)
        if isinstance(value, float) and value.is_integer():
            entry[key] = int(value)
        elif isinstance(value, (float, bool)) or (
            key == "id" and not isinstance(value, (int, str))
        ):
            raise _bad(file, record, f"its {key} is {str(value)[:80]!r}, not a whole number")


def _draft(
    data: Mapping[str, list[dict[str, Any]]],
    images: Sequence[Mapping[str, Any]],
    place: Mapping[int | str, int],
    home: Path,
    pictures: Path,
    file: Path,
    classes: Sequence[str] | None,
    task: str,
) -> tuple[Draft, list[str]]:
    """The images with their objects, and the class names of those whose class is not wanted."""
    name_of = _categories(data["categories"], file)
    names, label = class_list(list(name_of.values()), classes)
    label_of = dict(zip(name_of, label, strict=True))
    if absent := [name for name in names if name not in name_of.values()]:
        raise absent_class(absent[0], name_of.values(), file)
    mine = _objects_of(data["annotations"], place, name_of, file)
    order = [mine[place[image["id"]]] for image in images]
    things = [thing for group in order for thing in group]
    boxes = np.array([t["bbox"] for t in things], np.float64).reshape(-1, 4)
    areas = np.array([_number(t.get("area")) for t in things], np.float64)
    stated = ~np.isnan(areas)
    areas[~stated] = boxes[~stated, 2:].prod(1)
    boxes[:, 2:] += boxes[:, :2]
    sides = [_integer(im.get(s), 0, 2**31) for im in images for s in ("height", "width")]
    sizes = np.array(sides, np.int32).reshape(-1, 2)
    draft = Draft(
        root=home,
        source="COCO",
        names=names,
        category_ids=[next(i for i, n in name_of.items() if n == name) for name in names],
        files=[splits.below(home, pictures / im["file_name"]) for im in images],
        image_ids=[str(im["id"]) for im in images],
        integer_ids=all(isinstance(im["id"], int) for im in images),
        annotation_files=[str(file)] * len(images),
        counts=[len(group) for group in order],
        boxes=boxes,
        labels=np.array([label_of[t["category_id"]] for t in things], np.int64),
        numbers=np.array([_integer(t.get("id"), n) for n, t in enumerate(things)], np.int64),
        unit="annotation",
        sizes=sizes,
        crowd=np.array([bool(t.get("iscrowd")) for t in things], bool),  # 0 or 1, see _objects_of
        areas=areas,
    )
    if task == "segment_instances":
        draft.instances = _masks(things, np.repeat(sizes, draft.counts, 0), file)
    return draft, [name_of[t["category_id"]] for t in things if label_of[t["category_id"]] < 0]


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _integer(value: object, other: int, limit: int = 2**63) -> int:
    return value if isinstance(value, int) and abs(value) < limit else other


def _categories(categories: Sequence[Mapping[str, Any]], file: Path) -> dict[int, str]:
    """Name by id, in the order of ids."""
    name_of: dict[int, str] = {}
    for n, category in enumerate(categories):
        number, name = category.get("id"), category.get("name")
        if _integer(number, -1) != number or not isinstance(name, str):
            raise _bad(file, f"categories[{n}]", "it needs an integer id and a name")
        _writable(name, file, f"categories[{n}]")
        if number in name_of or name in name_of.values():
            raise _bad(
                file, f"categories[{n}]", f"the id {number} or the name {name!r} occurs twice"
            )
        name_of[number] = name
    return dict(sorted(name_of.items()))


def _places(images: Sequence[Mapping[str, Any]], file: Path) -> dict[int | str, int]:
    """Index of each image by its id."""
    place: dict[int | str, int] = {}
    for n, image in enumerate(images):
        if "id" not in image or not isinstance(image.get("file_name"), str):
            raise _bad(file, f"images[{n}]", "it needs an id and a file_name")
        _writable(image["file_name"], file, f"images[{n}]")
        _writable(str(image["id"]), file, f"images[{n}]")
        if place.setdefault(image["id"], n) != n:
            first = images[place[image["id"]]]["file_name"]
            raise _bad(
                file,
                f"image {image['id']}",
                f"{first} and {image['file_name']} have the same id",
                "give each image an id of its own.",
            )
    return place


def _objects_of(
    annotations: Sequence[dict[str, Any]],
    place: Mapping[int | str, int],
    name_of: Mapping[int, str],
    file: Path,
) -> list[list[dict[str, Any]]]:
    """The annotations of each image, in the file's order."""
    mine: list[list[dict[str, Any]]] = [[] for _ in place]
    seen = set()
    for n, thing in enumerate(annotations):
        record = f"annotation {thing['id']}" if "id" in thing else f"annotations[{n}]"
        if "id" in thing and thing["id"] in seen:
            raise _bad(
                file, record, "the id occurs twice", "give each annotation an id of its own."
            )
        seen.add(thing.get("id"))
        if not _among(thing.get("image_id"), place):
            problem = f"its image_id {thing.get('image_id')!r} is not among the images"
            raise _bad(file, record, problem, "add the image, or remove the annotation.")
        if not _among(thing.get("category_id"), name_of):
            problem = f"its category_id {thing.get('category_id')!r} is not among the categories"
            raise _bad(file, record, problem, "add the category, or remove the annotation.")
        box = thing.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            told = f"{box!r}"[:200]
            problem = f"its bbox is {told}, not the four numbers x, y, width, height"
            raise _bad(file, record, problem, "correct the box, or remove the annotation.")
        if isinstance(thing.get("area"), int) and abs(thing["area"]) >= LARGEST:
            raise _bad(file, record, f"its area has {len(str(thing['area']))} digits")
        if thing.get("iscrowd") not in (0, 1, None):  # False and True are 0 and 1
            crowd = f"{thing['iscrowd']!r}"[:80]
            raise _bad(file, record, f"its iscrowd is {crowd}, not 0 or 1", "write 0 or 1.")
        mine[place[thing["image_id"]]].append(thing)
    return mine


def _among(key: object, known: Mapping[Any, Any]) -> bool:
    return isinstance(key, (int, float, str)) and key in known


def _is_number(value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST
    return whole or isinstance(value, float)


def _writable(text: str, file: Path, record: str) -> None:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as fault:
        raise _bad(
            file, record, f"{text!r}"[:80] + " holds half a character", "write it anew."
        ) from fault


def _masks(things: Sequence[Mapping[str, Any]], sizes: np.ndarray, file: Path) -> Masks:
    """Polygons and run lengths of all objects, flat."""
    from pycocotools import mask

    points, rings, objects, rles = array("d"), array("q"), array("q"), []
    for thing, (height, width) in zip(things, sizes.tolist(), strict=True):
        shape, record = thing.get("segmentation"), f"annotation {thing.get('id')}"
        counts, polygons = "", shape if isinstance(shape, list) else []
        if isinstance(shape, dict):
            if list(shape.get("size", ())) != [height, width] or "counts" not in shape:
                problem = f"its run lengths are of size {shape.get('size')}, not {[height, width]}"
                raise _bad(file, record, problem)
            if _is_list(shape["counts"]) and not _covers(shape["counts"], height * width):
                raise _bad(file, record, "its run lengths do not add up to the image's pixels")
            packed = mask.frPyObjects(shape, height, width) if _is_list(shape["counts"]) else shape
            text = packed["counts"]
            counts = text.decode() if isinstance(text, bytes) else text
            _writable(counts, file, record)
        elif shape is not None and not _is_list(shape):
            raise _bad(file, record, f"its segmentation is {str(shape)[:80]!r}")
        for ring in polygons:
            if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
                problem = f"a polygon has {len(ring) if _is_list(ring) else 'no'} numbers"
                raise _bad(file, record, problem, "give x and y of at least three corners.")
            if not all(_is_number(v) and abs(v) <= FAR for v in ring):  # NaN is not, either
                raise _bad(file, record, f"a polygon has a corner that is no place: {ring}"[:200])
            points.extend(ring)
            rings.append(len(ring) // 2)
        objects.append(len(polygons))
        rles.append(counts)
    corners = np.array(points, np.float64).reshape(-1, 2)
    return Masks(corners, offsets_of(rings), offsets_of(objects), Strings.of(rles))


def _covers(counts: Sequence[object], pixels: int) -> bool:
    whole = all(isinstance(count, int) and count >= 0 for count in counts)
    return whole and sum(counts) == pixels  # type: ignore[arg-type]


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _bad(file: Path, record: str, problem: str, remedy: str = "correct the entry.") -> DetkitError:
    return DetkitError(f"{problem}.", file=file, record=record, remedy=remedy)
