"""`worst.jpg`: the pictures with the costliest mistakes, each mistake marked by its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from detkit.draw import as_rgb, eight_bit
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
from detkit.lettering import lettered
from detkit.plots import canvas
from detkit.plots.contact import contact_sheet

if TYPE_CHECKING:
    from detkit.data.records import Records

PICTURES = 8
COLUMNS = 4
TOLD = 30  # marks of a picture that have a text
SIDE = 520  # pixels of the longer side that a picture is drawn at
INK = {  # RGB, to be told apart by eyes that see red and green alike
    RIGHT: (150, 150, 150),
    MISSED: (213, 0, 50),
    FALSE: (255, 140, 0),
    BADLY_PLACED: (240, 228, 66),
    WRONG_CLASS: (204, 50, 200),
    DOUBLE: (60, 130, 255),
}
SAID = {
    RIGHT: "right",
    MISSED: "missed",
    FALSE: "false: nothing is there",
    BADLY_PLACED: "badly placed",
    WRONG_CLASS: "wrong class",
    DOUBLE: "found twice",
}


def costs(found: Mistakes, images: int) -> np.ndarray:
    """(I,) float64: 1 for an object missed, misplaced or misnamed, its score for each wrong box."""
    total = np.zeros(images)
    lost = np.isin(found.found, (MISSED, BADLY_PLACED, WRONG_CLASS))
    np.add.at(total, found.images[lost], 1.0)
    needless = np.isin(found.kinds, (FALSE, DOUBLE, BADLY_PLACED, WRONG_CLASS))
    np.add.at(total, found.results.images[needless], found.results.scores[needless])
    return total


def draw(records: Records, found: Mistakes, file: Path) -> bool:
    """Writes the picture and its numbers; False, and nothing, where there is no mistake."""
    cost = costs(found, len(records))
    chosen = [i for i in np.argsort(-cost, kind="stable")[:PICTURES].tolist() if cost[i] > 0]
    numbers: dict[str, Any] = {
        "mistakes": {
            KINDS[kind]: int((found.kinds == kind).sum()) for kind in range(len(KINDS) - 1)
        }
        | {"missed": int((found.found == MISSED).sum())},
        "pictures": [],
    }
    pictures, captions = [], []
    for i in chosen:
        picture, marks = _marked(records, found, i)
        pictures.append(picture)
        kinds = [mark["mistake"] for mark in marks]
        told = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
        captions.append(f"{Path(records.files[i]).name[-20:] or records.image_id(i)}: {told}")
        numbers["pictures"].append(
            {"image": records.image_id(i), "cost": round(float(cost[i]), 3), "mistakes": marks}
        )
    if not pictures:
        pictures, captions = [np.full((200, 400, 3), 245, np.uint8)], ["no mistake at this score"]
    columns = min(COLUMNS, len(pictures))
    parts = [_key(), contact_sheet(pictures, captions, columns, columns * SIDE)]
    canvas.save_picture(canvas.stacked(parts), file, numbers)
    return bool(chosen)


def _marked(records: Records, found: Mistakes, i: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    image = records.image(i)
    image = as_rgb(eight_bit(image if image.shape[2] in (1, 3) else image[..., :3]))
    scale = SIDE / max(image.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    picture = cv2.resize(image, size, interpolation=how)
    factor = np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2)
    marks, names = [], records.names
    labels: list[tuple[str, np.ndarray, int]] = []
    here = np.flatnonzero(found.results.images == i)
    for place in here[np.argsort(found.results.scores[here])].tolist():
        kind, box = int(found.kinds[place]), found.results.boxes[place]
        if kind not in INK:
            continue
        _box(picture, box * factor, INK[kind], 1 if kind == RIGHT else 2)
        if kind == RIGHT:
            continue
        name, score = names[found.results.labels[place]], float(found.results.scores[place])
        text = f"{name} {score:.2f}"
        if kind == WRONG_CLASS:
            text += f", is {names[records.labels[found.objects[place]]]}"
        labels.append((text, box * factor, kind))
        marks.append({"mistake": KINDS[kind], "class": name, "score": round(score, 4), "box": box})
    for n in range(*records.offsets[i : i + 2].tolist()):
        kind, box = int(found.found[n]), records.boxes[n].astype(float)
        if kind == BADLY_PLACED:  # where it should be
            _box(picture, box * factor, (255, 255, 255), 1)
        if kind != MISSED:
            continue
        _box(picture, box * factor, INK[MISSED], 2)
        labels.append((names[records.labels[n]], box * factor, MISSED))
        marks.append({"mistake": "missed", "class": names[records.labels[n]], "box": box})
    for text, box, kind in labels[-TOLD:]:  # the surest of what is wrong, and what was missed
        _write(picture, text, box, INK[kind])
    for mark in marks:
        mark["box"] = mark["box"].round(2).tolist()
    return picture, marks


def _box(picture: np.ndarray, box: np.ndarray, ink: Sequence[int], line: int) -> None:
    height, width = picture.shape[:2]
    corners = np.clip(np.nan_to_num(box), 0, [width - 1, height - 1] * 2).round().astype(int)
    x0, y0, x1, y1 = corners.tolist()
    cv2.rectangle(picture, (x0, y0), (x1, y1), ink, line)


def _write(picture: np.ndarray, text: str, box: np.ndarray, ink: tuple[int, int, int]) -> None:
    """A strip with the text on top of the box, or inside where it would leave the picture."""
    letters = 1 - lettered(text, 12).astype(np.float32) / 255
    bright = 0.299 * ink[0] + 0.587 * ink[1] + 0.114 * ink[2] > 140
    colours = np.array(ink), np.array((0, 0, 0) if bright else (255, 255, 255))
    strip = (colours[0] * (1 - letters) + colours[1] * letters).round().astype(np.uint8)
    strip = strip[: picture.shape[0], : picture.shape[1]]
    height, width = strip.shape[:2]
    left = int(np.clip(box[0], 0, picture.shape[1] - width))
    top = int(box[1]) - height
    top = int(np.clip(top if top >= 0 else box[1], 0, picture.shape[0] - height))
    picture[top : top + height, left : left + width] = strip


def _key() -> np.ndarray:
    """Which colour is which mistake."""
    parts = []
    for kind, ink in INK.items():
        text = lettered(f" {SAID[kind]}   ", 15)
        swatch = np.full((text.shape[0], text.shape[0], 3), 255, np.uint8)
        swatch[3:-3, 3:-3] = ink
        parts += [swatch, text]
    parts.append(lettered("white: where a badly placed box should be", 15))
    return np.pad(np.hstack(parts), ((6, 2), (6, 0), (0, 0)), constant_values=255)
