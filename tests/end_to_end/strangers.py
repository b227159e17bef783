"""Small data sets as strangers bring them, made from real images; nothing of detkit is used here.

`python tests/end_to_end/strangers.py FOLDER` writes all of them, from the real data in ../shared.
Each has 12 images to train on and 6 to validate with (VOC with other folder names has no lists:
18), in each split one without objects, and one file called `it's (1)`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COUNTS = {"train": 12, "val": 6}
ODD = "it's (1)"  # the second image of train
EMPTY = (
    "<annotation><filename>x</filename>"
    "<size><width>{}</width><height>{}</height></size></annotation>"
)


@dataclass
class Photo:
    """One real image: its file, what it is called here, and its VOC file (None: no objects)."""

    file: Path
    name: str
    xml: Path | None
    size: tuple[int, int]  # width, height

    def objects(self) -> list[tuple[str, list[float]]]:
        """(class, [xmin, ymin, xmax, ymax]) of each object, continuous pixels."""
        if self.xml is None:
            return []
        found = []
        for thing in ET.parse(self.xml).getroot().iter("object"):
            x1, y1, x2, y2 = (float(thing.findtext(f"bndbox/{k}", "")) for k in
                              ("xmin", "ymin", "xmax", "ymax"))  # fmt: skip
            found.append((thing.findtext("name", ""), [x1 - 1, y1 - 1, x2, y2]))
        return found


def photos(shared: Path, of: str, split: str) -> list[Photo]:
    """The first images of a VOC data set's list, the last of them a street without objects."""
    root = shared / of
    listed = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    chosen = []
    for place, stem in enumerate(listed[: COUNTS[split] - 1]):
        xml = root / "Annotations" / f"{stem}.xml"
        size = ET.parse(xml).getroot().find("size")
        assert size is not None
        sides = int(size.findtext("width", "")), int(size.findtext("height", ""))
        name = ODD if split == "train" and place == 1 else stem
        chosen.append(Photo(root / "JPEGImages" / f"{stem}.jpg", name, xml, sides))
    street, _ = (shared / "camvid" / f"{split}.txt").read_text().split()[:2]
    return [*chosen, Photo(shared / "camvid" / street, f"street_{split}", None, (480, 360))]


def write(path: Path, content: str | Mapping) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def _voc(photo: Photo, pictures: Path, annotations: Path) -> None:
    """The renamed file's XML still holds its old name, as it does when people rename files."""
    copy(photo.file, pictures / f"{photo.name}.jpg")
    xml = photo.xml.read_text() if photo.xml else EMPTY.format(*photo.size)
    write(annotations / f"{photo.name}.xml", xml)


def voc_other_names(shared: Path, root: Path) -> None:
    """images/ and annotations/, no lists: 18 images that detkit has to split itself."""
    for split in COUNTS:
        for photo in photos(shared, "bccd", split):
            _voc(photo, root / "images", root / "annotations")


def voc_split_folders(shared: Path, root: Path) -> None:
    """train/ and valid/, the XML beside the picture, as annotation tools export it."""
    for split, folder in (("train", "train"), ("val", "valid")):
        for photo in photos(shared, "bccd", split):
            _voc(photo, root / folder, root / folder)


def voc_devkit(shared: Path, root: Path) -> None:
    """The official layout, with train, val and test (which is val)."""
    for split in COUNTS:
        members = photos(shared, "bccd", split)
        for photo in members:
            _voc(photo, root / "JPEGImages", root / "Annotations")
        names = "".join(f"{photo.name}\n" for photo in members)
        for name in (split, "test"):
            write(root / "ImageSets" / "Main" / f"{name}.txt", names)


def coco_export(shared: Path, root: Path) -> None:
    """images/{train,val}, annotations/instances_{split}.json: polygons, crowds, ids with gaps."""
    source = shared / "coco-mini"
    for split, count in COUNTS.items():
        whole = json.loads((source / "annotations" / f"instances_{split}.json").read_text())
        pictures = whole["images"][: count - 1]
        ids = {picture["id"] for picture in pictures}
        objects = [thing for thing in whole["annotations"] if thing["image_id"] in ids]
        street = photos(shared, "bccd", split)[-1]
        width, height = street.size
        name, new = f"{street.name}.jpg", max(ids) + 1
        copy(street.file, root / "images" / split / name)
        for place, picture in enumerate(pictures):
            file = source / "images" / split / picture["file_name"]
            if split == "train" and place == 1:
                picture["file_name"] = f"{ODD}.jpg"
            copy(file, root / "images" / split / picture["file_name"])
        pictures.append({"id": new, "file_name": name, "width": width, "height": height})
        export = {"images": pictures, "annotations": objects, "categories": whole["categories"]}
        write(root / "annotations" / f"instances_{split}.json", export)


def coco_beside_pictures(shared: Path, root: Path) -> None:
    """train/ and valid/ with _annotations.coco.json beside the pictures.

    Category 0 is the project's name, which no object has, as an annotation service writes it.
    """
    for split, folder in (("train", "train"), ("val", "valid")):
        members = photos(shared, "bccd", split)
        names = ["cells", "Platelets", "RBC", "WBC"]
        objects = []
        for number, photo in enumerate(members):
            copy(photo.file, root / folder / f"{photo.name}.jpg")
            for name, (x1, y1, x2, y2) in photo.objects():
                objects.append({"id": len(objects), "image_id": number, "iscrowd": 0,
                                "category_id": names.index(name), "segmentation": [],
                                "bbox": [x1, y1, x2 - x1, y2 - y1],
                                "area": (x2 - x1) * (y2 - y1)})  # fmt: skip
        pictures = [
            {"id": i, "file_name": f"{p.name}.jpg", "width": p.size[0], "height": p.size[1]}
            for i, p in enumerate(members)
        ]
        kinds = [
            {"id": i, "name": name, "supercategory": "cells" if i else "none"}
            for i, name in enumerate(names)
        ]
        export = {"images": pictures, "annotations": objects, "categories": kinds}
        write(root / folder / "_annotations.coco.json", export)


def yolo_text(shared: Path, root: Path) -> None:
    """images/{train,val}, labels/{train,val}, data.yaml; an image without objects has no file."""
    members = {split: photos(shared, "voc2007", split) for split in COUNTS}
    everything = [
        thing for found in members.values() for photo in found for thing in photo.objects()
    ]
    names = sorted({name for name, _ in everything})
    for split, found in members.items():
        for photo in found:
            copy(photo.file, root / "images" / split / f"{photo.name}.jpg")
            lines = "".join(_yolo_line(names, photo.size, *thing) for thing in photo.objects())
            if lines:
                write(root / "labels" / split / f"{photo.name}.txt", lines)
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(names))
    write(root / "data.yaml", f"path: .\ntrain: images/train\nval: images/val\nnames:\n{listed}")


def _yolo_line(names: Sequence[str], size: tuple[int, int], name: str, box: Sequence[float]) -> str:
    (width, height), (x1, y1, x2, y2) = size, box
    shares = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
    return f"{names.index(name)} {' '.join(f'{share:.6f}' for share in shares)}\n"


def masks(shared: Path, root: Path) -> None:
    """images/{train,val} and masks/{train,val} of streets: classes 0 … 10, and 11 where unknown."""
    for split, count in COUNTS.items():
        lines = (shared / "camvid" / f"{split}.txt").read_text().splitlines()
        for place, line in enumerate(lines[:count]):
            picture, mask = (shared / "camvid" / path for path in line.split())
            stem = ODD if split == "train" and place == 1 else picture.stem
            copy(picture, root / "images" / split / f"{stem}.jpg")
            copy(mask, root / "masks" / split / f"{stem}.png")


FOLDERS: dict[str, Callable[[Path, Path], None]] = {
    "voc_other_names": voc_other_names,
    "voc_split_folders": voc_split_folders,
    "coco_export": coco_export,
    "coco_beside_pictures": coco_beside_pictures,
    "yolo_text": yolo_text,
    "masks": masks,
}


if __name__ == "__main__":
    beside = Path(__file__).resolve().parents[3] / "shared"
    real = Path(os.environ.get("DETKIT_SHARED", beside / "data"))
    for name, make in FOLDERS.items():
        make(real, Path(sys.argv[1]) / name)
        print(Path(sys.argv[1]) / name)
