"""Masks on disk, beside the tables of boxes."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from detkit.errors import DetkitError
from detkit.inference.sources import Item, Picture
from detkit.inference.tasks import tasks
from detkit.predictions import Detections

WRITER = tasks["segment_instances"].writer


def picture(name: str, frame: int | None = None) -> Picture:
    image = np.full((60, 80, 3), 90, np.uint8)
    return Picture(image, Item(f"{name}.png", name, False), frame=frame)


def discs(*boxes: tuple[float, ...]) -> Detections:
    n, corners = len(boxes), torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    place = torch.linspace(-1, 1, 28)
    one = (place[None, :] ** 2 + place[:, None] ** 2 < 1).float()
    scores = torch.linspace(0.9, 0.5, n)
    masks = one.expand(n, 28, 28)
    return Detections(
        corners, scores, torch.zeros(n).long(), ("cell",), masks, corners, size=(60, 80)
    )


def write(folder, *predictions: Detections):
    folder.mkdir(exist_ok=True)
    writer = WRITER(folder, ["cell"], [4])
    for number, one in enumerate(predictions):
        writer.add(picture(f"p{number}"), one)
    writer.close()
    return writer


def test_index_masks_run_lengths_and_areas_say_the_same(tmp_path):
    found = discs((10, 10, 40, 40), (30, 10, 60, 50))
    assert write(tmp_path / "out", found, discs()).found == 2
    records = json.loads((tmp_path / "out/predictions.json").read_text())
    with (tmp_path / "out/predictions.csv").open(newline="") as file:
        areas = [int(row["pixels"]) for row in csv.DictReader(file)]
    index = cv2.imread(str(tmp_path / "out/masks/p0.png"), cv2.IMREAD_UNCHANGED)
    first, second = (coco.decode(record["segmentation"]).astype(bool) for record in records)
    assert areas == [first.sum(), second.sum()]
    assert (first & second).any()
    assert (index == np.where(first, 1, np.where(second, 2, 0))).all()  # the surer one is seen
    assert not cv2.imread(str(tmp_path / "out/masks/p1.png"), cv2.IMREAD_UNCHANGED).any()


def test_more_objects_than_a_byte_counts(tmp_path):
    write(tmp_path / "out", discs(*[(x % 20 * 4, x // 20 * 4, x % 20 * 4 + 3, x // 20 * 4 + 3)
                                    for x in range(300)]))  # fmt: skip
    index = cv2.imread(str(tmp_path / "out/masks/p0.png"), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(index)) == set(range(301))


def test_its_own_masks_are_replaced_and_someone_elses_stay(tmp_path):
    write(tmp_path / "out", discs((10, 10, 40, 40)))
    write(tmp_path / "out", discs((10, 10, 40, 40)))
    mine = tmp_path / "mine"
    (mine / "masks").mkdir(parents=True)
    (mine / "masks" / "p0.png").write_bytes(b"drawn by hand")
    with pytest.raises(DetkitError, match="masks here already"):
        write(mine, discs())
    boxes = tasks["detect"].writer(mine, ["cell"], [4])
    boxes.close()
    with pytest.raises(DetkitError, match="masks here already"):
        write(mine, discs())
    assert (mine / "masks" / "p0.png").read_bytes() == b"drawn by hand"
