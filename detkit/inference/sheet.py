"""What a model finds beside what is there: pairs of pictures from all over a data set, one file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from detkit.data.records import Records
from detkit.draw import eight_bit, save_image, visible
from detkit.errors import DetkitError
from detkit.inference.predictor import Predictor
from detkit.inference.tasks import tasks
from detkit.plots.contact import contact_sheet

PAIRS = 8
CELL = 400  # pixels: smaller pictures are enlarged before boxes and names are put on them
WIDTHS = (1600, 2600)  # pixels, of the sheet
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
        image = visible(eight_bit(records.image(i)))
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
