"""What a model finds beside what is there: pairs of pictures from all over a data set, one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detkit.data.records import Records
from detkit.draw import captioned, eight_bit, save_image
from detkit.errors import DetkitError
from detkit.inference.predictor import Predictor
from detkit.inference.tasks import tasks

PAIRS = 8
CELL = 400  # pixels: smaller pictures are enlarged before boxes and names are put on them
WIDTHS = (1600, 2600)  # pixels, of the sheet
GAP = 4  # pixels between the pictures of a contact sheet
TALLEST = 2.5  # times its width: a cell's height, or a thin strip would make a sheet of gigabytes
CAPTION = 14  # pixels, of the letters below them
KEPT = 12  # letters at either end of a long file name


def draw_sheet(predictor: Predictor, records: Records, file: Path) -> bool:
    """Predictions at the left, annotations at the right; False and a note where that fails."""
    try:
        save_image(file, _sheet(predictor, records))
    except (DetkitError, cv2.error, MemoryError) as fault:  # it must not cost a finished training
        print(f"note: {file.name} was not drawn. {fault}", flush=True)
        return False
    return True


def _sheet(predictor: Predictor, records: Records) -> np.ndarray:
    chosen = np.unique(np.linspace(0, len(records) - 1, PAIRS).round().astype(int)).tolist()
    pictures, captions = [], []
    for i in chosen:
        image = eight_bit(records.image(i))
        factor = max(1, round(CELL / max(image.shape[:2])))
        large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
        found, size = predictor(image), (image.shape[0], image.shape[1])
        truth = tasks[predictor.model.task].truth(records, i).ground_truth()
        pictures += [p.enlarged(size, factor).draw(large) for p in (found, truth)]
        name = _short(records.path(i).name or str(records.image_id(i)))
        captions += [f"{found.caption(predictor.score_thresh)}: {name}", "annotated"]
    widest = 4 * max(picture.shape[1] for picture in pictures)  # letters are lost when it shrinks
    return contact_sheet(pictures, captions, width=min(max(widest, WIDTHS[0]), WIDTHS[1]))


def _short(name: str) -> str:
    """A file's name of which beginning and end are left."""
    return name if len(name) <= 2 * KEPT else f"{name[:KEPT]}...{name[-KEPT:]}"


def contact_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    columns: int = 4,
    width: int = 1600,
) -> np.ndarray:
    """Pictures of any size side by side, row by row, each as wide as its column.

    A cell is at most `TALLEST` times as high as wide; a longer picture is narrower in it.

    Args:
        pictures: at least one (H, W, 3) uint8 RGB.
        captions: a line below each.
        width: pixels of the sheet.
    """
    columns = max(1, min(columns, len(pictures)))
    cell = (width - GAP * (columns + 1)) // columns
    rows = []
    for first in range(0, len(pictures), columns):
        row = [_fit(picture, cell) for picture in pictures[first : first + columns]]
        if captions is not None:
            said = captions[first : first + columns]
            row = [
                captioned(picture, text, CAPTION) for picture, text in zip(row, said, strict=True)
            ]
        height = max(picture.shape[0] for picture in row)
        strip = np.full((height + GAP, width, 3), 255, np.uint8)
        for place, picture in enumerate(row):
            left = GAP + place * (cell + GAP)
            strip[GAP : GAP + picture.shape[0], left : left + cell] = picture
        rows.append(strip)
    return np.concatenate([*rows, np.full((GAP, width, 3), 255, np.uint8)])


def _fit(picture: np.ndarray, width: int) -> np.ndarray:
    """Resized to a width, or to the height that a cell may have, with white at its right."""
    height, across = picture.shape[:2]
    scale = min(width / across, TALLEST * width / height)
    size = max(1, round(across * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    fitted = cv2.resize(picture, size, interpolation=how)
    return np.pad(fitted, ((0, 0), (0, width - size[0]), (0, 0)), constant_values=255)
