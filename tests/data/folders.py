"""Small data sets in the formats that are read, written by the simplest code that can do it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("cat", "dog", "owl")


@dataclass
class Thing:
    """One object: continuous xyxy in whole pixels."""

    name: str
    box: tuple[int, int, int, int]
    difficult: bool = False
    crowd: bool = False


@dataclass
class Picture:
    stem: str
    height: int = 40
    width: int = 60
    things: list[Thing] = field(default_factory=list)


def three() -> list[Picture]:
    """Two pictures with objects and one without, all three classes."""
    first = [Thing("dog", (0, 0, 60, 40)), Thing("cat", (10, 5, 30, 25), difficult=True)]
    return [
        Picture("a", things=first),
        Picture("b", 30, 50, [Thing("owl", (1, 2, 9, 30))]),
        Picture("c"),
    ]


def save_image(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(height * 1000 + width).integers(0, 255, (height, width, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def voc_xml(picture: Picture) -> str:
    objects = "".join(
        f"<object><name>{t.name}</name><difficult>{int(t.difficult)}</difficult><bndbox>"
        f"<xmin>{t.box[0] + 1}</xmin><ymin>{t.box[1] + 1}</ymin>"
        f"<xmax>{t.box[2]}</xmax><ymax>{t.box[3]}</ymax></bndbox></object>\n"
        for t in picture.things
    )
    size = f"<size><width>{picture.width}</width><height>{picture.height}</height></size>"
    return f"<annotation><filename>{picture.stem}.jpg</filename>{size}\n{objects}</annotation>"


def write_voc(
    root: Path,
    pictures: Sequence[Picture],
    lists: Mapping[str, Iterable[str]] | None = None,
    xml: str = "Annotations",
    images: str = "JPEGImages",
) -> Path:
    for picture in pictures:
        save_image(root / images / f"{picture.stem}.jpg", picture.height, picture.width)
        (root / xml).mkdir(parents=True, exist_ok=True)
        (root / xml / f"{picture.stem}.xml").write_text(voc_xml(picture))
    for split, stems in (lists or {}).items():
        (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{s}\n" for s in stems))
    return root


def coco_dict(pictures: Sequence[Picture], names: Sequence[str] = NAMES) -> dict:
    """Category ids 10, 20, …, written backwards, so that order and gaps are tried."""
    ids = {name: 10 * (n + 1) for n, name in enumerate(names)}
    annotations = []
    for image_id, picture in enumerate(pictures, 1):
        for thing in picture.things:
            x1, y1, x2, y2 = thing.box
            polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
            annotations.append(
                {
                    "id": 100 + len(annotations),
                    "image_id": image_id,
                    "category_id": ids[thing.name],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1) / 2,
                    "iscrowd": int(thing.crowd),
                    "segmentation": [polygon],
                }
            )
    return {
        "images": [
            {"id": n, "file_name": f"{p.stem}.jpg", "height": p.height, "width": p.width}
            for n, p in enumerate(pictures, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": ids[name], "name": name} for name in reversed(names)],
    }


def write_coco(
    root: Path,
    pictures: Sequence[Picture],
    file: str = "annotations/instances_train.json",
    images: str | None = "images/train",
) -> Path:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(coco_dict(pictures)))
    for picture in pictures if images is not None else ():
        save_image(root / images / f"{picture.stem}.jpg", picture.height, picture.width)
    return root


def yolo_text(picture: Picture, names: Sequence[str] = NAMES) -> str:
    lines = []
    for thing in picture.things:
        x1, y1, x2, y2 = thing.box
        numbers = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        sides = (picture.width, picture.height) * 2
        shares = (f"{n / side:.8f}" for n, side in zip(numbers, sides, strict=True))
        lines.append(f"{names.index(thing.name)} {' '.join(shares)}\n")
    return "".join(lines)


def write_drawn(root: Path, stems: Iterable[str]) -> None:
    """Drawn copies as `predict` leaves them."""
    for stem in stems:
        save_image(root / f"{stem}.jpg", 10, 10)
    (root / "predictions.csv").write_text("file,frame,timestamp,class,score,xmin,ymin,xmax,ymax\n")


RUN = '{"versions": {}, "seed": 0, "data": {}, "weights": {}, "calls": []}'


def write_run(root: Path) -> None:
    """A run's folder, as far as a reader could stumble over it."""
    save_image(root / "predictions.jpg", 10, 10)
    for name, text in (("run.json", RUN), ("config.yaml", "seed: 0"), ("log.txt", "0 1 1 1 1")):
        (root / name).write_text(text)


def write_yolo(
    root: Path,
    pictures: Sequence[Picture],
    images: str = "images/train",
    labels: str = "labels/train",
    names_file: str | None = "classes.txt",
) -> Path:
    for picture in pictures:
        save_image(root / images / f"{picture.stem}.jpg", picture.height, picture.width)
        (root / labels).mkdir(parents=True, exist_ok=True)
        if picture.things:
            (root / labels / f"{picture.stem}.txt").write_text(yolo_text(picture))
    if names_file:
        (root / names_file).write_text("\n".join(NAMES))
    return root
