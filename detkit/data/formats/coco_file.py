"""A COCO annotation file, each entry checked: what passes needs no more doubt."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from detkit import foreign
from detkit.errors import DetkitError

IDS = ("id", "image_id", "category_id")
LARGEST = 2**1023  # of the integers that a float64 can be


def load(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Its three lists; ids that were written as 7.0 are integers.

    Raises:
        DetkitError: no file, no JSON, a list or an object that is missing, an id of another kind.
    """
    try:
        data = foreign.read_json(file)
    except json.JSONDecodeError as fault:
        raise DetkitError(
            f"The JSON is broken ({fault.msg}).",
            file=file,
            record=f"line {fault.lineno}, column {fault.colno}",
            remedy="write or fetch the file again.",
        ) from fault
    except (OSError, RecursionError) as fault:
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
                raise bad(file, f"{key}[{n}]", f"it is {str(entry)[:80]!r}, not an object")
            _whole_ids(entry, IDS if key == "annotations" else IDS[:1], file, f"{key}[{n}]")
    return data


def _too_long(file: Path) -> DetkitError:
    """The error for a number of more digits than Python makes an integer of."""
    text, most = foreign.read_bytes(file), sys.get_int_max_str_digits()
    found = re.search(rb"\d{%d}" % (most + 1), text)
    before = text[: found.start()] if found else b""
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    problem = f"a number has more than {most:,} digits"
    return bad(file, f"line {line}, column {column}", problem, "correct the number.")


def _whole_ids(entry: dict[str, Any], keys: Sequence[str], file: Path, record: str) -> None:
    """Makes ids such as 7.0 (pandas writes them) integers, in place."""
    for key in keys:
        value = entry.get(key, 0)
        if isinstance(value, float) and value.is_integer():
            entry[key] = int(value)
        elif isinstance(value, (float, bool)) or (
            key == "id" and not isinstance(value, (int, str))
        ):
            raise bad(file, record, f"its {key} is {str(value)[:80]!r}, not a whole number")


def categories_of(
    categories: Sequence[Mapping[str, Any]], used: Set[object], file: Path
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Name by id, in the order of ids, and what to tell.

    Of two with one name that without objects is left out: a group of the others, which some tools
    write as a category.

    Args:
        used: the category ids that objects have.
    Raises:
        DetkitError: an id or a name that is missing, of another kind, or there twice.
    """
    name_of: dict[int, str] = {}
    id_of: dict[str, int] = {}
    notes: list[str] = []
    for n, category in enumerate(categories):
        number, name = category.get("id"), category.get("name")
        if integer(number, -1) != number or not isinstance(name, str) or not name.strip():
            raise bad(file, f"categories[{n}]", "it needs an integer id and a name")
        writable(name, file, f"categories[{n}]")
        name = name.strip()
        if number in name_of:
            problem = f"the id {number} occurs twice, for {name_of[number]!r} and {name!r}"
            if name_of[number] != name:
                remedy = "give each category an id of its own, in its annotations too."
                raise bad(file, f"categories[{n}]", problem, remedy)
            continue  # the same entry again
        if (other := id_of.get(name)) is not None:
            if number in used and other in used:
                problem = f"the name {name!r} occurs twice, for the ids {other} and {number}"
                remedy = "give one of them another name, or write one id in all annotations."
                raise bad(file, f"categories[{n}]", problem, remedy)
            keep = number in used or (other not in used and category.get("supercategory") == name)
            left, kept = (other, number) if keep else (number, other)
            notes.append(
                f"left out category {left}, {name!r}: no object has it, and {kept} its name"
            )
            if not keep:
                continue
            del name_of[other]
        name_of[number], id_of[name] = name, number
    group = _group_of_all(categories, name_of, used)
    if group is not None:
        name = name_of.pop(group)
        notes.append(f"left out category {group}, {name!r}: a group of all others, of no object")
    return dict(sorted(name_of.items())), tuple(notes)


def _group_of_all(
    categories: Sequence[Mapping[str, Any]], name_of: Mapping[int, str], used: Set[object]
) -> int | None:
    """The id of the category that Roboflow puts above all others, if no object has it."""
    above = {
        category["id"]: str(category.get("supercategory")).strip()
        for category in categories
        if category["id"] in name_of
    }
    if 0 in used or len(above) < 2 or above.pop(0, "") not in ("none", "None"):
        return None
    return 0 if set(above.values()) == {name_of[0]} else None


def places(images: Sequence[Mapping[str, Any]], file: Path) -> dict[int | str, int]:
    """Index of each image by its id.

    Raises:
        DetkitError: an id or a file name that is missing, of another kind, or an id there twice.
    """
    place: dict[int | str, int] = {}
    for n, image in enumerate(images):
        if "id" not in image or not isinstance(image.get("file_name"), str):
            raise bad(file, f"images[{n}]", "it needs an id and a file_name")
        writable(image["file_name"], file, f"images[{n}]")
        writable(str(image["id"]), file, f"images[{n}]")
        if place.setdefault(image["id"], n) != n:
            first = images[place[image["id"]]]["file_name"]
            raise bad(
                file,
                f"image {image['id']}",
                f"{first} and {image['file_name']} have the same id",
                "give each image an id of its own.",
            )
    return place


def objects_of(
    annotations: Sequence[dict[str, Any]],
    place: Mapping[int | str, int],
    name_of: Mapping[int, str],
    file: Path,
) -> list[list[dict[str, Any]]]:
    """The annotations of each image, in the file's order.

    Raises:
        DetkitError: an id twice, an image or a category that is not there, a value of another kind.
    """
    mine: list[list[dict[str, Any]]] = [[] for _ in place]
    seen = set()
    for n, thing in enumerate(annotations):
        record = f"annotation {thing['id']}" if "id" in thing else f"annotations[{n}]"
        if "id" in thing and thing["id"] in seen:
            raise bad(file, record, "the id occurs twice", "give each annotation an id of its own.")
        seen.add(thing.get("id"))
        if not _among(thing.get("image_id"), place):
            problem = f"its image_id {thing.get('image_id')!r} is not among the images"
            raise bad(file, record, problem, "add the image, or remove the annotation.")
        if not _among(thing.get("category_id"), name_of):
            problem = f"its category_id {thing.get('category_id')!r} is not among the categories"
            raise bad(file, record, problem, "add the category, or remove the annotation.")
        box = thing.get("bbox")
        if box is None or box == []:  # told by `checks`, which may leave such objects out
            box = thing["bbox"] = [math.nan] * 4
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            told = f"{box!r}"[:200]
            problem = f"its bbox is {told}, not the four numbers x, y, width, height"
            raise bad(file, record, problem, "correct the box, or remove the annotation.")
        if isinstance(thing.get("area"), int) and abs(thing["area"]) >= LARGEST:
            raise bad(file, record, f"its area has {len(str(thing['area']))} digits")
        if thing.get("iscrowd") not in (0, 1, None):  # False and True are 0 and 1
            crowd = f"{thing['iscrowd']!r}"[:80]
            raise bad(file, record, f"its iscrowd is {crowd}, not 0 or 1", "write 0 or 1.")
        mine[place[thing["image_id"]]].append(thing)
    return mine


def _among(key: object, known: Mapping[Any, Any]) -> bool:
    return isinstance(key, (int, float, str)) and key in known


def is_number(value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST
    return whole or isinstance(value, float)


def integer(value: object, other: int, limit: int = 2**63) -> int:
    return value if isinstance(value, int) and abs(value) < limit else other


def writable(text: str, file: Path, record: str) -> None:
    """
    Raises:
        DetkitError: half of a surrogate pair (JSON can escape one), which no file could hold.
    """
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as fault:
        raise bad(
            file, record, f"{text!r}"[:80] + " holds half a character", "write it anew."
        ) from fault


def bad(file: Path, record: str, problem: str, remedy: str = "correct the entry.") -> DetkitError:
    return DetkitError(f"{problem}.", file=file, record=record, remedy=remedy)
