"""What somebody opens who follows one image from disk to loss: traced, and told in CONTRIBUTING."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import detkit
from detkit.data.formats.mask_folder import read as read_masks
from detkit.data.formats.voc import read as read_voc
from detkit.data.loading import Batches, Dataset
from detkit.data.records import Records
from detkit.data.transforms import build as build_transform
from detkit.models.build import build
from detkit.models.model import models
from detkit.structures import Classes

HOUSE = Path(detkit.__file__).parent
GUIDE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
MODELS = {  # how the guide's line begins: model, backbone, transforms
    "Faster R-CNN": ("faster_rcnn", "resnet50_fpn", "detection"),
    "YOLOv3": ("yolo_v3", "darknet53", "square"),
    "U-Net": ("unet", "unet_encoder", "segmentation"),
}


def lines_of(work: Callable[[], Any]) -> dict[str, int]:
    """The files of detkit of which something runs, and how many of their lines do."""
    ran: dict[str, set[int]] = defaultdict(set)
    inside = f"{HOUSE}{os.sep}"

    def stepped(frame, event, argument):
        if event == "line":
            ran[frame.f_code.co_filename].add(frame.f_lineno)
        return stepped

    def called(frame, event, argument):
        return stepped if frame.f_code.co_filename.startswith(inside) else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        work()
    finally:
        sys.settrace(before)
    return {Path(file).relative_to(HOUSE).as_posix(): len(lines) for file, lines in ran.items()}


NEEDS = {"detect": frozenset({"boxes"}), "segment_pixels": frozenset({"pixels"})}


def data(root: Path, task: str) -> Records:
    """One picture as a camera leaves it, with an object in the middle."""
    side, folder = 96, "images" if task == "segment_pixels" else "JPEGImages"
    (root / folder).mkdir()
    Image.effect_noise((side, side), 80).convert("RGB").save(root / folder / "a.jpg")
    if task == "segment_pixels":
        (root / "masks").mkdir()
        mask = Image.new("L", (side, side))
        mask.paste(1, (20, 20, 80, 80))
        mask.save(root / "masks" / "a.png")
        return read_masks(root, "train", classes=["ground", "cell"])
    (root / "Annotations").mkdir()
    corners = "".join(f"<{c}min>21</{c}min><{c}max>80</{c}max>" for c in "xy")
    (root / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.jpg</filename><size><width>{side}</width><height>{side}</height>"
        f"</size><object><name>cell</name><bndbox>{corners}</bndbox></object></annotation>"
    )
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    return read_voc(root, "train")


def section() -> str:
    return GUIDE.read_text(encoding="utf-8").split("## One image")[1].split("\n\nAround")[0]


def told(beginning: str) -> set[str]:
    """The files that a line of the guide names."""
    (item,) = [part for part in section().split("\n- ") if part.startswith(beginning)]
    return set(re.findall(r"`([\w/]+\.py)`", item))


@pytest.mark.parametrize("name", MODELS)
def test_the_guide_names_the_files_that_run_and_eleven_hold_nine_tenths_of_it(name, tmp_path):
    model, backbone, transforms = MODELS[name]
    task = models.part(model).task
    dataset = Dataset(
        data(tmp_path, task),
        build_transform({"name": transforms, "long_side": 96}, train=True),
        needs=NEEDS[task],
    )
    network = build(
        {"name": model},
        {"name": backbone, "width": 0.125},
        Classes.numbered(len(dataset.records.names)),
    )

    def from_disk_to_loss() -> None:
        (batch,) = Batches(dataset, [[(0, 0)]], 0, False)
        sum(network(batch.images, batch.targets, batch.sizes).values()).backward()

    lines = lines_of(from_disk_to_loss)
    assert set(lines) == told("Every model") | told(name)
    counted = " ".join(section().split("\n\n")[1].split())
    assert re.search(rf"{len(lines)}( files)? for {name}", counted)
    most = sorted(lines.values())[-11:]
    assert sum(most) > 0.9 * sum(lines.values())
