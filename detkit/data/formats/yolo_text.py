"""YOLO text: a line per object, `class x y width height`, as fractions of the image.

Layouts: `images/train` + `labels/train`, `train/images` + `train/labels`, both in one folder, with
or without splits; lists of image paths; and a `data.yaml` that says so. A line with more numbers is
a polygon: `class x1 y1 x2 y2 …`, or where data.yaml has `kpt_shape` a box with keypoints, which are
not read. Names come from data.yaml, classes.txt or *.names, in their order.
An image without a text file, or with an empty one, has no objects.
"""

from __future__ import annotations

import math
import os
import reprlib
import unicodedata
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detkit import foreign
from detkit.data import checks, splits
from detkit.data.draft import Draft
from detkit.data.formats import BOXES, Needs, formats
from detkit.data.formats.yolo_layout import (
    described_by_yaml,
    existing_splits,
    home_of,
    label_file,
    picture_folders,
    pictures_of,
)
from detkit.data.records import Masks, Records, Strings, offsets_of
from detkit.errors import DetkitError

LOOKS_FOR = "text files of `class x y width height` beside pictures, such as labels/train/1.txt"
__all__ = ["existing_splits", "read", "recognises"]
LOOKED_AT = 200  # pictures of a folder of which one should have a text file
NOT_LABELS = ("classes", "obj", "names", "readme", "license", "notes")  # stems of other text files


@formats.register("yolo_text")
def read(
    root: Path,
    split: str,
    *,
    needs: Needs = BOXES,
    images: bool = True,
    classes: Sequence[str] | None = None,
    bad_boxes: str = "error",
    bad_images: str = "error",
) -> Records:
    """Read one split.

    Args:
        root: the folder, or its data.yaml.
        split: a folder's name, a list of image paths, or a key of data.yaml.
        needs: with `masks` the polygons are kept.
        images: here always needed: fractions mean nothing without the size of the picture.
        classes: the names by number; by default the names that lie with the data.
        bad_boxes, bad_images: see `detkit.data.checks.finish`.
    """
    home = home_of(root)
    files, how = pictures_of(root, split)
    names, told = (list(map(str, classes)), ()) if classes else _names(root)
    draft = _draft(home, files, names, needs, _keypoints(root))
    draft.source = f"YOLO text, {how}"
    draft.notes = told
    return checks.finish(draft, images=True, bad_boxes=bad_boxes, bad_images=bad_images)


def recognises(root: Path, needs: Needs = BOXES) -> str | None:
    """Why this is YOLO text: a text file of numbers beside a picture. None if there is none."""
    if "pixels" in needs:
        return None
    home = home_of(root)
    for folder in picture_folders(home):
        for name in list(splits.images_in(folder).values())[:LOOKED_AT]:
            label = label_file(home, folder / name)
            if label.is_file() and _is_labels(label):
                return f"{label.relative_to(home)} holds lines of `class x y width height`"
    return None


def _names(root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Class names by number, and what to tell when there are none."""
    home, (file, described) = home_of(root), described_by_yaml(root)
    if listed := described.get("names"):
        if isinstance(listed, dict) and set(listed) == set(range(len(listed))):
            listed = [listed[number] for number in range(len(listed))]
        odd = not isinstance(listed, list) or any(
            isinstance(name, bool) or not isinstance(name, str | int | float) for name in listed
        )
        if odd or len(set(map(str, listed))) < len(listed):
            raise DetkitError(
                f"names is {reprlib.repr(listed)}: not one name each for the numbers from 0 on.",
                file=file,
                remedy="write names: [cat, dog], or give them with dataset.classes; YAML takes no,"
                " yes, on and null for other things, so put such names in quotes.",
            )
        return list(map(str, listed)), _other_names(home, list(map(str, listed)), file)
    for folder in splits.folders(home, depth=2):
        for name in splits.names_in(folder):
            if name == "classes.txt" or name.endswith(".names"):
                return splits.class_names(folder / name), ()
    labels = [
        folder / name
        for folder in splits.folders(home)
        for name in splits.names_in(folder)
        if name.endswith(".txt") and _is_labels(folder / name)
    ]
    first = [line.split()[0] for file in labels for line in _lines(file)]
    most = max((int(number) for number in first if number.isdecimal()), default=-1)
    told = "no data.yaml, classes.txt or *.names: the classes are called by their numbers"
    return [str(number) for number in range(most + 1)], (told,)


def _other_names(home: Path, names: Sequence[str], file: Path) -> tuple[str, ...]:
    """What to tell where a classes.txt says something else than data.yaml."""
    other = home / "classes.txt"
    try:
        if not other.is_file() or splits.class_names(other) == names:
            return ()
    except DetkitError:  # what counts is the other file
        pass
    return (f"{other.name} has other class names than {file.name}, whose are taken",)


def _keypoints(root: Path) -> int:
    """How many numbers a line has for keypoints behind its box: data.yaml's kpt_shape, else 0."""
    file, described = described_by_yaml(root)
    if (shape := described.get("kpt_shape")) is None:
        return 0
    numbers = isinstance(shape, list) and all(type(side) is int and side > 0 for side in shape)
    if not numbers or len(shape) > 2:
        raise DetkitError(
            f"kpt_shape is {reprlib.repr(shape)!r}, not how many keypoints of how many values.",
            file=file,
            remedy="write such as kpt_shape: [17, 3], or leave it out if there are no keypoints.",
        )
    return math.prod(shape)


def _is_labels(path: Path) -> bool:
    """Whether the first line is an integer and at least four numbers; an empty file may be."""
    if path.stem.lower() in NOT_LABELS:
        return False
    fields = next(iter(_lines(path)), "0 0 0 0 0").split()
    try:
        return len([float(value) for value in fields]) >= 5 and fields[0].isdigit()
    except ValueError:
        return False


def _lines(path: Path) -> list[str]:
    return [line for line in _text(path).splitlines() if line.strip()]


def _text(path: Path) -> str:
    try:
        return foreign.read_text(path, errors="replace")
    except OSError as fault:
        raise splits.unreadable(path, fault) from fault


def _draft(
    home: Path, files: Sequence[Path], names: Sequence[str], needs: Needs, keypoints: int
) -> Draft:
    """All lines of a split, flat."""
    labels = [label_file(home, file) for file in files]
    if files and not any(os.path.lexists(label) for label in labels):
        raise DetkitError(
            "No picture of this split has a text file.",
            file=home,
            remedy="put labels in labels/ beside images/, or beside the pictures.",
        )
    boxes, classes, numbers = array("d"), array("q"), array("q")
    points, corners, outlined, counts = array("d"), array("q"), array("b"), []
    for label in labels:
        before = len(classes)
        for number, values in _objects(label, names, keypoints):
            polygon = values if len(values) > 5 else []  # a box has no mask, see `checks`
            classes.append(int(values[0]))
            boxes.extend(_box(values[1:]))
            numbers.append(number)
            points.extend(polygon[1:])
            corners.append(len(polygon) // 2)
            outlined.append(bool(polygon))
        counts.append(len(classes) - before)
    _no_orphans(home, files, labels)
    n = len(classes)
    masks = Masks(
        np.array(points, np.float64).reshape(-1, 2),
        offsets_of([number for number in corners if number]),
        offsets_of(outlined),
        Strings.of([""] * n),
    )
    return Draft(
        root=home,
        source="YOLO text",
        names=names,
        category_ids=range(len(names)),
        files=[splits.below(home, file) for file in files],
        image_ids=splits.ids_of(home, files),
        annotation_files=[str(label) for label in labels],
        counts=counts,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.array(classes, np.int64),
        numbers=np.array(numbers, np.int64),
        unit="line",
        relative=True,
        instances=masks if "masks" in needs else None,
    )


def _objects(label: Path, names: Sequence[str], keypoints: int) -> list[tuple[int, list[float]]]:
    """(line number, its numbers) of each object in a text file; none if there is no file.

    Args:
        keypoints: numbers behind the box, which are left out; 0 where polygons are possible.
    """
    found = []
    text = _text(label) if os.path.lexists(label) else ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(value) for value in line.split()]
        except ValueError:
            raise _bad(label, number, f"{line.strip()!r} is not all numbers") from None
        if keypoints and len(values) == 5 + keypoints:
            values = values[:5]
        if len(values) != 5 and (keypoints or len(values) < 7 or len(values) % 2 == 0):
            wanted = "class x y width height, or a class and at least three corners"
            remedy = "correct or remove the line; for keypoints give kpt_shape in data.yaml."
            if keypoints:
                wanted = f"class x y width height and the {keypoints} of kpt_shape"
                remedy = "correct or remove the line, or correct kpt_shape in data.yaml."
            raise _bad(label, number, f"it has {len(values)} numbers, not {wanted}", remedy)
        if values[0] not in range(len(names)):
            known = f"the {len(names)} classes are 0 … {len(names) - 1}"
            remedy = "correct the line, or the list of names (data.yaml, dataset.classes)."
            raise _bad(label, number, f"its class is {values[0]:g}; {known}", remedy)
        found.append((number, values))
    return found


def _box(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Centre and size, or a polygon, → corners, still in fractions."""
    if len(values) == 4:
        x, y, w, h = values
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _no_orphans(home: Path, files: Sequence[Path], labels: Sequence[Path]) -> None:
    """Every text file of numbers beside those that were read has a picture, of whatever split."""
    folders = dict.fromkeys([*picture_folders(home), *(file.parent for file in files)])
    pictures = [f / name for f in folders for name in splits.images_in(f).values()]
    owned = {label_file(home, picture) for picture in pictures} | set(labels)
    for folder in sorted({label.parent for label in labels if label.is_file()}):
        for name in splits.names_in(folder):
            path = folder / name
            if name.endswith(".txt") and path not in owned and _is_labels(path):
                forms = {unicodedata.normalize("NFC", label.name) for label in owned}
                same = unicodedata.normalize("NFC", name) in forms
                raise DetkitError(
                    "There is no picture for this text file.",
                    file=path,
                    remedy=splits.TWIN if same else "add the picture, or remove the file.",
                )


def _bad(
    label: Path, number: int, problem: str, remedy: str = "correct or remove the line."
) -> DetkitError:
    return DetkitError(f"{problem}.", file=label, record=f"line {number}", remedy=remedy)
