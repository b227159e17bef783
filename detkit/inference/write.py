"""What predictions leave on disk: drawn pictures and videos, tables, index masks.

Everything is written while it comes, so memory does not grow with the length of a video, under a
temporary name (`….partial.…`) that becomes the final one in `close`: a file with its final name is
whole. Files of other names are never touched, and those of the same names only where a table with
our columns says that they came from here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from detkit import foreign, ours
from detkit.draw import save_image, visible
from detkit.errors import DetkitError
from detkit.inference import video
from detkit.inference.sources import Item, Picture
from detkit.inference.tables import (
    CSV,
    JSON,
    KEYS,
    columns_of,
    csv_lines,
    csv_row,
    json_lines,
    part_of,
    partial,
    place,
)
from detkit.predictions import Detections, Prediction

ENDINGS = (".jpg", ".partial.mp4")  # of a drawn image; of a video, until it is whole


class Drawings:
    """Drawn copies: NAME.jpg of an image, NAME.mp4 of a video, upright and without sound.

    Args:
        videos: draw those, too.
    """

    def __init__(self, output: Path, videos: bool) -> None:
        self.output, self.videos = output, videos
        self._clip: video.Reader | None = None
        self._path: Path | None = None
        self._writer: video.Writer | None = None

    def add(self, picture: Picture, prediction: Prediction) -> None:
        if picture.clip is not None and not self.videos:
            return
        drawn = prediction.draw(visible(picture.image))
        if picture.clip is None:
            save_image(self.output / f"{picture.item.name}.jpg", drawn)
            return
        if picture.clip is not self._clip:
            self.close()
            self._clip, self._path = picture.clip, self.output / f"{picture.item.name}.mp4"
            height, width = drawn.shape[:2]
            self._writer = video.open_writer(partial(self._path), picture.clip, (height, width))
        assert self._writer is not None
        assert picture.seconds is not None
        self._writer.write(drawn, picture.seconds)

    def close(self) -> None:
        """Finishes the video that is being written."""
        if self._writer is not None and self._path is not None:
            self._writer.close()
            ours.sign_video(partial(self._path))
            partial(self._path).replace(self._path)
        self._clip = self._path = self._writer = None


class Writer(Protocol):
    """What leaves a task's predictions on disk.

    Attributes:
        tables: the names of its tables, which processes write in parts that `merge` joins.
        leaves: what is in the folder at the end, for the last line.
        found: how many of the task's nouns were found so far.
    """

    tables: ClassVar[tuple[str, ...]]
    leaves: ClassVar[str]
    found: int

    def __init__(
        self,
        output: Path,
        names: Sequence[str],
        category_ids: Sequence[int],
        *,
        part: str = "",
        videos: bool = True,
    ) -> None: ...

    def add(self, picture: Picture, prediction: Any) -> None:
        """What was found in one picture, in its pixels."""

    def close(self) -> None:
        """Give the files their final names; a second time it does nothing."""


class DetectionWriter:
    """Drawn copies, `predictions.json` (COCO results and more keys) and `predictions.csv`.

    Args:
        output: the folder, which exists.
        names, category_ids: of the K classes.
        part: the process's mark in the tables' names, for `merge`.
        videos: draw videos, too.
    """

    tables: ClassVar[tuple[str, ...]] = (JSON, CSV)
    leaves: ClassVar[str] = f"drawn copies, {JSON}, {CSV}"
    columns: ClassVar[tuple[str, ...]] = (
        *(*KEYS, "class", "score"),
        *("xmin", "ymin", "xmax", "ymax"),
    )

    def __init__(
        self,
        output: Path,
        names: Sequence[str],
        category_ids: Sequence[int],
        *,
        part: str = "",
        videos: bool = True,
    ) -> None:
        self.names, self.category_ids = names, category_ids
        self.drawings = Drawings(output, videos)
        check_tables(output, self.tables, part)
        self._json = json_lines(part_of(output / JSON, part))
        self._csv = csv_lines(part_of(output / CSV, part), self.columns)
        self.found = 0

    def add(self, picture: Picture, prediction: Detections) -> None:
        self.drawings.add(picture, prediction)
        where = place(picture)
        records = prediction.to_coco(picture.image_id, self.category_ids)
        labels, corners = prediction.labels.tolist(), prediction.boxes.tolist()
        for record, label, box in zip(records, labels, corners, strict=True):
            name, score = self.names[label], round(record["score"], 6)
            bbox = [round(side, 3) for side in record["bbox"]]
            own = {"bbox": bbox, "score": score, "category": name}
            self._json.add(json.dumps({**record, **own, **where}))
            sides = [round(side, 3) for side in box]
            row = [*columns_of(where), name, score, *sides, *self.more(record)]
            self._csv.add(csv_row(row))
        self.found += len(records)

    def more(self, record: dict[str, Any]) -> list[Any]:
        """What the table says of an object behind its box."""
        return []

    def close(self) -> None:
        self.drawings.close()
        self._json.close()
        self._csv.close()


class InstanceWriter(DetectionWriter):
    """As for boxes; run lengths in `predictions.json`, and index masks `masks/NAME.png`.

    Value n is the nth object of the picture in the tables, 0 none; where two overlap the surer one
    is seen. `pixels` in the table are those of its own mask. More than 255 objects make 16-bit
    files.
    """

    leaves: ClassVar[str] = f"drawn copies, masks, {JSON}, {CSV}"
    columns: ClassVar[tuple[str, ...]] = (*DetectionWriter.columns, "pixels")

    def __init__(
        self,
        output: Path,
        names: Sequence[str],
        category_ids: Sequence[int],
        *,
        part: str = "",
        videos: bool = True,
    ) -> None:
        self.masks = output / "masks"
        check_masks(self.masks)
        super().__init__(output, names, category_ids, part=part, videos=videos)
        self.masks.mkdir(exist_ok=True)

    def add(self, picture: Picture, prediction: Detections) -> None:
        super().add(picture, prediction)
        index = np.zeros(prediction.image_size, np.uint8 if len(prediction) < 256 else np.uint16)
        for i in reversed(range(len(prediction))):
            rows, columns, mask = prediction.window(i)
            index[rows, columns][mask] = i + 1
        save_image(mask_path(self.masks, picture), index)

    def more(self, record: dict[str, Any]) -> list[Any]:
        from pycocotools import mask

        return [int(mask.area(record["segmentation"]))]


def mask_path(masks: Path, picture: Picture, ending: str = ".png") -> Path:
    """`NAME.png` of an image, `NAME/000012.png` of a video's frame."""
    if picture.frame is None:
        return masks / f"{picture.item.name}{ending}"
    folder = masks / picture.item.name
    folder.mkdir(exist_ok=True)
    return folder / f"{picture.frame:06d}{ending}"


def is_ours(output: Path) -> bool:
    """Whether `predict` has written there."""
    return bool(_heads(output))


def check_free(output: Path, items: Sequence[Item]) -> None:
    """
    Raises:
        DetkitError: a drawn copy would replace one of the sources, or a file that `predict` has not
            written.
    """
    sources = {os.path.realpath(item.path) for item in items if isinstance(item.path, str)}
    drawn = [output / f"{item.name}{'.mp4' if item.video else '.jpg'}" for item in items]
    drawn += [partial(path) for path in drawn if path.suffix == ".mp4"]
    for path in drawn:
        if os.path.realpath(path) in sources:
            raise _taken("The drawn copy would replace this source.", path)
    begun = bool(_heads(output))  # a video that was not ended bears no sign
    there = [
        path
        for path in drawn
        if os.path.lexists(path)
        and not ours.is_drawn(path)
        and not (begun and path.name.endswith(ENDINGS[1]))
    ]
    if there:
        raise _taken("The drawn copy would replace this file, which is not predict's.", there[0])


def check_tables(output: Path, tables: Sequence[str], part: str) -> None:
    """The tables of this process and those of all, and their temporary names."""
    for path in [
        path for table in tables for path in (output / table, part_of(output / table, part))
    ]:
        for file in (path, partial(path)):
            if os.path.lexists(file) and not ours.is_table(file):
                raise _taken("The results would replace this file, which is not predict's.", file)


def check_drawn(picture: Path) -> None:
    """Raise where a JPEG would replace one that `predict` has not drawn."""
    if os.path.lexists(picture) and not ours.is_drawn(picture):
        raise _taken("The results would replace this file, which is not predict's.", picture)


def check_masks(masks: Path) -> None:
    """Any file there counts: masks that were found do not belong among someone's own."""
    there = (path for path in sorted(masks.rglob("*")) if not path.is_dir())
    for path in there:
        if not ours.is_drawn(path) and not ours.is_part(path):
            raise _taken("There are masks here already, which are not predict's.", path)


def _heads(output: Path) -> list[str]:
    """The columns of the tables that `predict` has left or is writing here: the mark of its output.

    Every process writes them before anything else, so whoever looks at them after seeing another's
    file finds them.
    """
    heads = []
    for path in output.glob(f"{Path(CSV).stem}*.csv"):
        try:
            with foreign.opened(path) as file:
                heads.append(file.readline(10_000).decode("utf-8", "surrogateescape"))
        except (OSError, DetkitError):  # a folder, or another process has just renamed it
            continue
    return [head for head in heads if head.startswith(f"{csv_row(KEYS)},")]


def _taken(problem: str, file: Path) -> DetkitError:
    return DetkitError(problem, file=file, remedy="choose another folder with output=DIR.")
