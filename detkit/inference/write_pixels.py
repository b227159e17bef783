"""What the classes of pixels leave on disk: index masks, overlays, probabilities, polygons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from detkit import ours
from detkit.atomic import write_bytes
from detkit.draw import backgrounds, save_image
from detkit.inference.outlines import regions
from detkit.inference.sources import Picture
from detkit.inference.tables import (
    CSV,
    JSON,
    KEYS,
    columns_of,
    csv_lines,
    csv_row,
    json_lines,
    part_of,
    place,
)
from detkit.inference.write import Drawings, check_masks, check_tables, mask_path
from detkit.predictions import Segmentation


class PixelWriter:
    """Overlays, index masks `masks/NAME.png` and the share of each class in `predictions.csv`.

    A video's masks are `masks/NAME/000012.png`, one a frame.

    Args:
        probabilities: also `probabilities/NAME.tif`, a 16-bit page a class: 65,535 is 1.
        polygons: also `predictions.json`, COCO results: a record for each connected region of a
            class that is no background, its `segmentation` a polygon without holes, its `score` the
            mean probability.
    """

    tables: ClassVar[tuple[str, ...]] = (CSV,)
    leaves: ClassVar[str] = f"drawn copies, masks, {CSV}"

    def __init__(
        self,
        output: Path,
        names: Sequence[str],
        category_ids: Sequence[int],
        *,
        part: str = "",
        videos: bool = True,
        probabilities: bool = False,
        polygons: bool = False,
    ) -> None:
        self.names, self.category_ids = names, category_ids
        self.masks, self.probabilities = output / "masks", output / "probabilities"
        self.drawings = Drawings(output, videos)
        if polygons:
            self.tables = (JSON, CSV)  # type: ignore[misc]
        check_tables(output, self.tables, part)
        folders = [self.masks, self.probabilities] if probabilities else [self.masks]
        for folder in folders:
            check_masks(folder)
        self._csv = csv_lines(part_of(output / CSV, part), [*KEYS, *names])
        self._json = json_lines(part_of(output / JSON, part)) if polygons else None
        self._sure, self._clear = probabilities, backgrounds(names)
        self.found = 0
        for folder in folders:
            folder.mkdir(exist_ok=True)

    def add(self, picture: Picture, prediction: Segmentation) -> None:
        self.drawings.add(picture, prediction)
        labels = prediction.labels.cpu().numpy()
        save_image(mask_path(self.masks, picture), labels)
        if self._sure:
            pages = [self._page(prediction, label) for label in range(len(self.names))]
            _, data = cv2.imencodemulti(".tif", pages)
            file = mask_path(self.probabilities, picture, ".tif")
            write_bytes(file, ours.signed(data.tobytes()))
        self.found += 1
        counts = np.bincount(labels.ravel(), minlength=len(self.names))[: len(self.names)]
        shares = [round(float(share), 6) for share in counts / labels.size]
        self._csv.add(csv_row([*columns_of(place(picture)), *shares]))
        if self._json is not None:
            self._outline(picture, prediction, labels)

    def _page(self, prediction: Segmentation, label: int) -> np.ndarray:
        scores = prediction.scores(label).cpu().numpy()
        return np.rint(scores * 65535).astype(np.uint16)

    def _outline(self, picture: Picture, prediction: Segmentation, labels: np.ndarray) -> None:
        assert self._json is not None
        for label in np.unique(labels).tolist():
            if label in self._clear:
                continue
            scores = prediction.scores(label).cpu().numpy()
            for region in regions(labels, label):
                score = float(scores[region.rows, region.columns][region.mask].mean())
                record = {
                    "image_id": picture.image_id,
                    "category_id": self.category_ids[label],
                    "bbox": region.box,
                    "score": round(score, 6),
                    "segmentation": [region.polygon],
                    "area": int(region.mask.sum()),
                    "category": self.names[label],
                }
                self._json.add(json.dumps(record | place(picture)))

    def close(self) -> None:
        self.drawings.close()
        self._csv.close()
        if self._json is not None:
            self._json.close()
