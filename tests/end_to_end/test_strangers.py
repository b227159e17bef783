"""A stranger's folder goes through train, evaluate and predict by the README's own lines."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex
from pathlib import Path

import cv2
import pytest
import readme
import strangers
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CELLS = ["Platelets", "RBC", "WBC"]
FEW_STEPS = "training.max_steps=3 training.workers=0 device=cpu"
SMALL = {
    "faster_rcnn": "backbone=resnet18_fpn backbone.width=0.25 backbone.fpn_channels=32"
    " transforms.short_side=96 transforms.long_side=160 model.score_thresh=0",
    "yolo_v3": "model=yolo_v3 backbone=resnet18 backbone.width=0.25 model.neck_width=0.125"
    " model.score_thresh=0 transforms.long_side=160",
    "unet": "model=unet backbone=resnet18 backbone.width=0.25 transforms.short_side=96",
}


class Stranger:
    """A folder of somebody's data, and what the README's three lines make of it.

    Only sizes are added to the lines, and the placeholders replaced.
    """

    def __init__(self, shared: Path, folder: Path, kind: str, pictures: str) -> None:
        self.folder, self.data, self.run = folder, folder / "it's my data", folder / "runs" / "a b"
        self.pictures = self.data / pictures
        strangers.FOLDERS[kind](shared, self.data)
        (folder / "scripts").symlink_to(readme.ROOT / "scripts")

    def lines(self, model: str) -> list[str]:
        train = readme.of_section("Your own data", "dataset.root=PATH")
        evaluate = readme.of_section("Evaluate", "checkpoint=RUN")
        predict = readme.of_section("Predict", "source=PATH")
        replaced = [
            replace(train, {"dataset.root=PATH": self.data}),
            replace(evaluate, {"checkpoint=RUN": self.run}),
            replace(predict, {"checkpoint=RUN": self.run, "source=PATH": self.pictures,
                              "output=DIR": self.folder / "drawn"}),
        ]  # fmt: skip
        run_dir = f"run_dir={shlex.quote(str(self.run))}"
        added = [f"{SMALL[model]} {FEW_STEPS} {run_dir}", "workers=0 device=cpu", "device=cpu"]
        if model != "unet":
            added[2] += " score_thresh=0"  # three steps give no confidence
        return [f"{line} {more}" for line, more in zip(replaced, added, strict=True)]

    def go(self, model: str = "faster_rcnn", by_shell: bool = False) -> list[str]:
        """What the commands printed."""
        lines = self.lines(model)
        if by_shell:
            done = [readme.shell(line, self.folder) for line in lines]
        else:
            done = readme.together((self.folder, line) for line in lines)
        for line, (status, output) in zip(lines, done, strict=True):
            assert status == 0, f"{line}\n{output}"
            assert "done: " in output.splitlines()[-1]
        return [output for _, output in done]

    def json(self, path: str) -> dict:
        return json.loads((self.folder / path).read_text())

    @property
    def trained(self) -> dict:
        return json.loads((self.run / "results.json").read_text())

    @property
    def evaluation(self) -> Path:
        """Where the evaluation of the run was written."""
        (folder,) = (self.run / "evaluation").iterdir()
        return folder

    @property
    def evaluated(self) -> dict:
        return json.loads((self.evaluation / "results.json").read_text())

    def counts(self) -> list[int]:
        """Images to train on and to validate with, as the run recorded them."""
        record = json.loads((self.run / "run.json").read_text())
        return [data["images"] for data in record["data"].values()]


def replace(command: str, values: dict[str, Path]) -> str:
    for said, path in values.items():
        assert said in command.split(), f"the README's line has no {said}: {command}"
        command = command.replace(said, f"{said.partition('=')[0]}={shlex.quote(str(path))}")
    return command


def detections_are_whole(stranger: Stranger, classes: list[str], truth: dict | None) -> None:
    """The figures are there and are pycocotools'; drawn images and tables hold all pictures."""
    trained, evaluated = stranger.trained, stranger.evaluated
    figures = [key for key in trained if key.startswith(("coco/", "voc/", "voc07/"))]
    for kind in ("coco/AP", "coco/AP50", "voc/AP", "voc07/AP"):
        assert {f"{kind}/{name}" for name in classes} <= set(figures)
    assert {"coco/AP75", "coco/APs", "coco/AR100", "voc/mAP", "voc07/mAP"} <= set(figures)
    for key in figures:
        assert evaluated[key] == pytest.approx(trained[key], abs=1e-6), key
    rows = json.loads((stranger.evaluation / "predictions.json").read_text())
    assert len(rows) == evaluated["detections"] > 0
    if truth is not None:
        ap, ap50 = by_pycocotools(truth, rows)
        assert evaluated["coco/AP"] == pytest.approx(ap, abs=1e-6)
        assert evaluated["coco/AP50"] == pytest.approx(ap50, abs=1e-6)
    drawn = stranger.folder / "drawn"
    names = {file.stem for file in stranger.pictures.glob("*.jpg")}
    assert strangers.ODD in names
    assert {file.stem for file in drawn.glob("*.jpg")} == names
    picture = cv2.imread(str(drawn / f"{strangers.ODD}.jpg"))
    original = cv2.imread(str(stranger.pictures / f"{strangers.ODD}.jpg"))
    assert picture.shape == original.shape
    found = json.loads((drawn / "predictions.json").read_text())
    ids = {row["file_name"]: row["image_id"] for row in found}
    loaded = silently(indexed, {"images": [{"id": i} for i in ids.values()], "annotations": [],
                                "categories": []})  # fmt: skip
    assert len(silently(loaded.loadRes, str(drawn / "predictions.json")).anns) == len(found) > 0
    known = json.loads((stranger.run / "classes.json").read_text())
    assert {row["category"] for row in found} <= set(known)  # also one without objects
    with (drawn / "predictions.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == len(found)


def by_pycocotools(truth: dict, rows: list[dict]) -> tuple[float, float]:
    evaluation = silently(lambda: COCOeval(indexed(truth), indexed(truth).loadRes(rows), "bbox"))
    silently(lambda: (evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()))
    return evaluation.stats[0], evaluation.stats[1]


def indexed(dataset: dict) -> COCO:
    made = COCO()
    made.dataset = {"info": {}, **dataset}
    made.createIndex()
    return made


def silently(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def truth_of(found: list[strangers.Photo], names: list[str], first: int = 1) -> dict:
    """The objects of some photos in COCO's form: ids are stems, categories count from `first`."""
    things = [(photo.name, *thing) for photo in found for thing in photo.objects()]
    return {
        "images": [{"id": photo.name} for photo in found],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, first)],
        "annotations": [
            {"id": i, "image_id": image, "category_id": names.index(name) + first, "iscrowd": 0,
             "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            for i, (image, name, (x1, y1, x2, y2)) in enumerate(things, 1)
        ],
    }  # fmt: skip


def test_voc_with_other_folder_names_and_no_lists(shared, tmp_path):
    stranger = Stranger(shared, tmp_path, "voc_other_names", "images")
    said = stranger.go(by_shell=True)
    assert stranger.counts() == [14, 4]
    assert "a fifth by hash of the file names is val" in said[0]
    every = [
        photo for split in strangers.COUNTS for photo in strangers.photos(shared, "bccd", split)
    ]
    assert len(every) == 18
    detections_are_whole(stranger, CELLS, None)
    rows = json.loads((stranger.evaluation / "predictions.json").read_text())
    assert {row["image_id"] for row in rows} <= {photo.name for photo in every}


def test_voc_in_train_and_valid(shared, tmp_path):
    stranger = Stranger(shared, tmp_path, "voc_split_folders", "train")
    stranger.go()
    assert stranger.counts() == [12, 6]
    truth = truth_of(strangers.photos(shared, "bccd", "val"), CELLS)
    detections_are_whole(stranger, CELLS, truth)


def test_a_coco_export(shared, tmp_path):
    stranger = Stranger(shared, tmp_path, "coco_export", "images/train")
    stranger.go()
    assert stranger.counts() == [12, 6]
    truth = stranger.json("it's my data/annotations/instances_val.json")
    assert len(truth["categories"]) == 80
    detections_are_whole(stranger, [kind["name"] for kind in truth["categories"]], truth)


def test_coco_files_beside_the_pictures(shared, tmp_path):
    stranger = Stranger(shared, tmp_path, "coco_beside_pictures", "train")
    stranger.go()
    assert stranger.counts() == [12, 6]
    truth = stranger.json("it's my data/valid/_annotations.coco.json")
    detections_are_whole(stranger, CELLS, truth)
    assert stranger.trained["voc/AP/RBC"] is not None


@pytest.mark.parametrize("model", ["faster_rcnn", "yolo_v3"])
def test_yolo_text(shared, tmp_path, model):
    stranger = Stranger(shared, tmp_path, "yolo_text", "images/train")
    stranger.go(model)
    assert stranger.counts() == [12, 6]
    classes = json.loads((stranger.run / "classes.json").read_text())
    truth = truth_of(strangers.photos(shared, "voc2007", "val"), classes, first=0)
    detections_are_whole(stranger, classes, truth)


def test_masks_for_a_unet(shared, tmp_path):
    stranger = Stranger(shared, tmp_path, "masks", "images/train")
    stranger.go("unet")
    assert stranger.counts() == [12, 6]
    trained, evaluated = stranger.trained, stranger.evaluated
    assert {"pixels/mIoU", "pixels/accuracy"} <= set(trained)
    assert evaluated["pixels/mIoU"] == pytest.approx(trained["pixels/mIoU"], abs=1e-6)
    drawn = tmp_path / "drawn"
    names = {file.stem for file in stranger.pictures.glob("*.jpg")}
    assert {file.stem for file in drawn.glob("*.jpg")} == names
    assert {file.stem for file in (drawn / "masks").glob("*.png")} == names
    mask = cv2.imread(str(drawn / "masks" / f"{strangers.ODD}.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (360, 480)
    assert mask.max() < 12
