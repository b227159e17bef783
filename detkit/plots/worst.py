"""`worst.jpg` of detections: the pictures with the costliest mistakes, each marked by its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from detkit.evaluation.costliest import MOST
from detkit.evaluation.mistakes import (
    BADLY_PLACED,
    DOUBLE,
    FALSE,
    KINDS,
    MISSED,
    RIGHT,
    WRONG_CLASS,
    Mistakes,
)
from detkit.evaluation.text import number
from detkit.lettering import label, lettered
from detkit.plots import canvas
from detkit.plots.contact import SIDE, contact_sheet, picture_of

if TYPE_CHECKING:
    from detkit.data.records import Records

COLUMNS = 4
LABELLED = 30  # marks of a picture that have a text
LETTERS = 12  # pixels of these
WHITE = (255, 255, 255)
INK = {  # RGB, to be told apart by eyes that see red and green alike
    RIGHT: (90, 90, 90),
    MISSED: (213, 0, 50),
    FALSE: (255, 140, 0),
    BADLY_PLACED: (240, 228, 66),
    WRONG_CLASS: (204, 50, 200),
    DOUBLE: (60, 130, 255),
}
MEANINGS = {  # of those whose names are not enough
    FALSE: "false: nothing is annotated there (forgotten?)",
    BADLY_PLACED: "badly placed (white: where it should be)",
}

Shape = Callable[[], np.ndarray] | None  # (H, W) bool, the mask of an object or a detection


def costs(found: Mistakes, images: int) -> np.ndarray:
    """(I,) float64: 1 for an object missed, misplaced or misnamed, its score for each wrong box."""
    total = np.zeros(images)
    lost = np.isin(found.found, (MISSED, BADLY_PLACED, WRONG_CLASS))
    np.add.at(total, found.images[lost], 1.0)
    needless = np.isin(found.kinds, (FALSE, DOUBLE, BADLY_PLACED, WRONG_CLASS))
    np.add.at(total, found.results.images[needless], found.results.scores[needless])
    return total


def counts(found: Mistakes) -> dict[int, int]:
    """How often there is each kind of `INK`: of detections, and of objects those missed."""
    return {
        kind: int(((found.found if kind == MISSED else found.kinds) == kind).sum()) for kind in INK
    }


def draw(records: Records, found: Mistakes, least: str, file: Path) -> bool:
    """Writes the picture and its numbers; False, and no picture of the data, without a mistake.

    Args:
        least: from which scores on detections count, for the heading.
    """
    cost = costs(found, len(records))
    chosen = [i for i in np.argsort(-cost, kind="stable")[:MOST].tolist() if cost[i] > 0]
    numbers: dict[str, Any] = {
        "score_from": least,
        "mistakes": {KINDS[kind]: count for kind, count in counts(found).items()},
        "pictures": [],
    }
    pictures, captions = [], []
    for i in chosen:
        picture, marks = _marked(records, found, i)
        pictures.append(picture)
        kinds = [mark["mistake"] for mark in marks]
        amounts = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
        captions.append(f"{image_name(records, i)}: {amounts}")
        numbers["pictures"].append(
            {"image": records.image_id(i), "cost": round(float(cost[i]), 3), "mistakes": marks}
        )
    parts = [_key(records, found, least), sheet(pictures, captions, "no mistake at this score")]
    canvas.save_picture(canvas.stacked(parts), file, numbers)
    return bool(chosen)


def image_name(records: Records, i: int) -> str:
    """The end of a file's name, or the number of a picture that was drawn."""
    return Path(records.files[i]).name[-24:] or str(records.image_id(i))


def sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], instead: str) -> np.ndarray:
    """The pictures side by side; a blank one with a caption where there is none."""
    if not pictures:
        pictures, captions = [np.full((200, 400, 3), 245, np.uint8)], [instead]
    columns = min(COLUMNS, len(pictures))
    return contact_sheet(pictures, captions, columns, columns * SIDE)


def _marked(records: Records, found: Mistakes, i: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """A picture with its mistakes on it, and what they are."""
    picture, factors = picture_of(records, i)
    names, results = records.names, found.results
    objects = range(*records.offsets[i : i + 2].tolist())
    shapes = _shapes_of_objects(records, found, i)
    marks: list[dict[str, Any]] = []
    labels: list[tuple[str, np.ndarray, int]] = []
    here = np.flatnonzero(results.images == i)
    for place in here[np.argsort(results.scores[here])].tolist():
        kind, box = int(found.kinds[place]), results.boxes[place]
        if kind not in INK:
            continue
        line = 1 if kind == RIGHT else 2
        outline(picture, box * factors, INK[kind], line, _shape_of(found, place))
        if kind == RIGHT:
            continue
        name, score = names[results.labels[place]], float(results.scores[place])
        text = f"{name} {score:.2f}"
        if kind == WRONG_CLASS:
            text += f", is {names[records.labels[found.objects[place]]]}"
        labels.append((text, box * factors, kind))
        marks.append({"mistake": KINDS[kind], "class": name, "score": round(score, 4), "box": box})
    for n in objects:
        kind, box = int(found.found[n]), records.boxes[n].astype(float)
        shape = shapes(n - objects.start) if shapes else None
        if kind == BADLY_PLACED:
            outline(picture, box * factors, WHITE, 1, shape)
        if kind != MISSED:
            continue
        outline(picture, box * factors, INK[MISSED], 2, shape)
        labels.append((names[records.labels[n]], box * factors, MISSED))
        marks.append({"mistake": "missed", "class": names[records.labels[n]], "box": box})
    for text, box, kind in labels[-LABELLED:]:  # the surest of what is wrong, and what was missed
        inside = np.clip(np.nan_to_num(box[:2]), 0, [picture.shape[1] - 1, picture.shape[0] - 1])
        left, top = inside.astype(int).tolist()
        label(picture, text, left, top, INK[kind], LETTERS)
    for mark in marks:
        mark["box"] = mark["box"].round(2).tolist()
    return picture, marks


def _shape_of(found: Mistakes, place: int) -> Shape:
    """The mask of a detection, where it has one."""
    masks = found.results.masks
    if masks is None:
        return None
    from pycocotools import mask as coco

    return lambda: coco.decode(masks[place]).astype(bool)


def _shapes_of_objects(records: Records, found: Mistakes, i: int) -> Callable[[int], Shape] | None:
    """The masks of an image's objects by their places in it, where masks were measured."""
    masks = None if found.results.masks is None else records.masks(i)
    return None if masks is None else lambda place: lambda: np.asarray(masks[place])


def outline(
    picture: np.ndarray, box: np.ndarray, ink: Sequence[int], line: int, shape: Shape = None
) -> None:
    """Draws a box, or where there is a mask its edge, into a picture.

    Args:
        box: (4,) xyxy, its pixels.
    """
    height, width = picture.shape[:2]
    if shape is not None:
        mask = cv2.resize(shape().astype(np.uint8), (width, height), interpolation=0)  # nearest
        edges = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]
        cv2.drawContours(picture, edges, -1, tuple(ink), line)
        return
    corners = np.clip(np.nan_to_num(box), 0, [width - 1, height - 1] * 2).round().astype(int)
    x0, y0, x1, y1 = corners.tolist()
    cv2.rectangle(picture, (x0, y0), (x1, y1), ink, line)


def _key(records: Records, found: Mistakes, least: str) -> np.ndarray:
    """Of what the counts are, and which colour is which mistake."""
    judged = ", judged by boxes" if found.results.masks is not None else ""
    heading = f"{number(len(records), 'picture')}, detections that score {least} or more{judged};"
    heading += f" below, at most {MOST} of them, the costliest first:"
    parts = [lettered(f"{heading}   ", 15)]
    for kind, count in counts(found).items():
        text = lettered(f"{count:,} {MEANINGS.get(kind, KINDS[kind])}   ", 15)
        swatch = np.full((text.shape[0], text.shape[0], 3), 255, np.uint8)
        swatch[3:-3, 3:-3] = INK[kind]
        parts += [swatch, text]
    # two rows, since a single picture is narrow
    rows = [np.hstack(parts[:1]), np.hstack(parts[1:])]
    return np.pad(canvas.stacked(rows), ((6, 2), (6, 0), (0, 0)), constant_values=255)
