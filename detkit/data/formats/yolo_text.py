"""YOLO text: a line per object, `class x y width height`, as fractions of the image.

Layouts: `images/train` + `labels/train`, `train/images` + `train/labels`, both in one folder, with
or without splits; lists of image paths; and a `data.yaml` that says so. A line with more numbers is
a polygon: `class x1 y1 x2 y2 …`, or where data.yaml has `kpt_shape` a box with keypoints, which are
not read. Names come from data.yaml, classes.txt or *.names, in their order.
An image without a text file, or with an empty one, has no objects.
"""

from __future__ import annotations

import contextlib
import math
import os
import reprlib
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detkit.data import alike, checks, splits
from detkit.data.draft import Draft
from detkit.data.formats import BOXES, Needs, beside, formats
from detkit.data.formats.yolo_layout import (
    described,
    existing_splits,
    home_of,
    label_files,
    own,
    picture_folders,
    pictures_of,
)
from detkit.data.formats.yolo_lines import (
    LOOKED_AT,
    box_of,
    is_labels,
    no_oriented,
    objects_of,
)
from detkit.data.formats.yolo_names import names_of
from detkit.data.records import Masks, Records, Strings, offsets_of
from detkit.errors import DetkitError

LOOKS_FOR = "text files of `class x y width height` beside pictures, such as labels/train/1.txt"
__all__ = ["existing_splits", "read", "recognises"]


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
    root = own(root)
    home = home_of(root)
    files, how, found = pictures_of(root, split)
    names, told = (list(map(str, classes)), ()) if classes else names_of(root)
    draft = _draft(home, files, names, needs, _keypoints(root))
    draft.source = f"YOLO text, {how}"
    draft.notes = (*found, *told, *draft.notes)
    return checks.finish(draft, images=True, bad_boxes=bad_boxes, bad_images=bad_images)


def recognises(root: Path, needs: Needs = BOXES) -> str | None:
    """Why this is YOLO text: its text files, else the file that describes it. None if neither is.

    A line that can't be read doesn't make it another format: the reader says what is wrong there.
    """
    if "pixels" in needs:
        return None
    root = own(root)
    home = home_of(root)
    for folder in picture_folders(home):
        names = list(splits.images_in(folder).values())[:LOOKED_AT]
        for label in label_files(home, [folder / name for name in names]):
            if label.is_file() and is_labels(label):
                return f"{label.relative_to(home)} holds lines of `class x y width height`"
    for folder in splits.folders(home):
        texts = splits.names_in(folder) if _of_labels(folder, home) else []
        for name in texts[:LOOKED_AT]:
            if name.lower().endswith(".txt") and is_labels(folder / name):
                return f"{splits.below(home, folder / name)} holds lines of `class x y …`"
    file, content = described(root)
    if content.keys() & splits.WORDS and not _is_another(root, needs):
        return f"{file.name} names classes and pictures"
    return None


def _of_labels(folder: Path, home: Path) -> bool:
    return any(part.lower() == "labels" for part in folder.relative_to(home).parts)


def _is_another(root: Path, needs: Needs) -> bool:
    """Whether there are annotations of another format, which a data.yaml may go with."""
    for name in ("coco", "voc"):
        with contextlib.suppress(DetkitError):  # not readable as that
            if beside(name, "recognises")(root, needs):
                return True
    return False


def _keypoints(root: Path) -> int:
    """How many numbers a line has for keypoints behind its box: data.yaml's kpt_shape, else 0."""
    file, content = described(root)
    if (shape := content.get("kpt_shape")) is None:
        return 0
    numbers = isinstance(shape, list) and all(type(side) is int and side > 0 for side in shape)
    if not numbers or len(shape) > 2:
        raise DetkitError(
            f"kpt_shape is {reprlib.repr(shape)!r}, not how many keypoints of how many values.",
            file=file,
            remedy="write such as kpt_shape: [17, 3], or leave it out if there are no keypoints.",
        )
    return math.prod(shape)


def _draft(
    home: Path, files: Sequence[Path], names: Sequence[str], needs: Needs, keypoints: int
) -> Draft:
    """All lines of a split, flat."""
    labels = label_files(home, files)
    if files and not any(os.path.lexists(label) for label in labels):
        _no_orphans(home, files, labels)
        raise DetkitError(
            "No picture of this split has a text file.",
            file=home,
            remedy="put labels in labels/ beside images/, or beside the pictures.",
        )
    boxes, classes, numbers = array("d"), array("q"), array("q")
    points, corners, outlined, counts = array("d"), array("q"), array("b"), []
    for label in labels:
        before = len(classes)
        for number, values in objects_of(label, names, keypoints):
            polygon = values if len(values) > 5 else []  # a box has no mask, see `checks`
            classes.append(int(values[0]))
            boxes.extend(box_of(values[1:]))
            numbers.append(number)
            points.extend(polygon[1:])
            corners.append(len(polygon) // 2)
            outlined.append(bool(polygon))
        counts.append(len(classes) - before)
    _no_orphans(home, files, labels)
    n = len(classes)
    outline = np.array(points, np.float64).reshape(-1, 2)
    no_oriented(labels, corners, outline, counts)
    masks = Masks(
        outline,
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
        notes=_spelt(home, files, labels),
    )


def _no_orphans(home: Path, files: Sequence[Path], labels: Sequence[Path]) -> None:
    """Every text file of numbers beside those that were read has a picture, of whatever split."""
    folders = dict.fromkeys([*picture_folders(home), *(file.parent for file in files)])
    pictures = [f / name for f in folders for name in splits.images_in(f).values()]
    owned = {*label_files(home, pictures), *labels}
    read = {label.parent for label in labels if label.is_file()}
    others = (f for f in splits.folders(home) if _of_labels(f, home))
    for folder in sorted(read or {*others, *(label.parent for label in labels)}):
        for name in splits.names_in(folder):
            path = folder / name
            if name.lower().endswith(".txt") and path not in owned and is_labels(path):
                raise DetkitError(
                    "There is no picture for this text file.",
                    file=path,
                    remedy=_unread_picture(home, path) or "add the picture, or remove the file.",
                )


def _unread_picture(home: Path, label: Path) -> str | None:
    """What to do where there is a picture of a kind that is not read."""
    for folder in splits.folders(home):
        for name in splits.names_in(folder):
            if Path(name).stem == label.stem and Path(name).suffix.lower() in splits.UNREAD:
                return f"{splits.below(home, folder / name)}: {splits.CONVERT}."
    return None


def _spelt(home: Path, files: Sequence[Path], labels: Sequence[Path]) -> tuple[str, ...]:
    """What to tell of text files whose names only look like those of their pictures."""
    pairs = [
        (splits.below(home, label), splits.below(home, file))
        for file, label in zip(files, labels, strict=True)
        if label.stem != file.stem and alike.form(label.stem) == alike.form(file.stem)
    ]
    return alike.note(pairs, "text files")
