"""What a classifier learns, measures and predicts, and a detector that begins with it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from calls import detkit
from safetensors.torch import save_file

from detkit.commands.beginning import enlarged_line
from detkit.commands.predict import predict
from detkit.config import compose
from detkit.data.formats.shapes import read
from detkit.data.transforms import build as build_transform
from detkit.draw import save_image
from detkit.errors import DetkitError
from detkit.inference.published import imagenet_names
from detkit.models.build import build
from detkit.structures import Classes

SMALL = [
    *("model=classifier", "dataset=shapes", "dataset.train_images=96", "dataset.val_images=24"),
    *("dataset.size=48", "backbone=resnet18", "backbone.width=0.125", "transforms.side=32"),
    *("transforms.resize=null", "training.batch_size=16", "training.workers=0", "device=cpu"),
    *("optimizer=adamw", "optimizer.lr=0.003", "precision=fp32"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    settings = [s.replace("precision", "training.precision") for s in SMALL]
    steps = ("training.epochs=4", "training.class_weights=auto")
    told = detkit("train", *settings, *steps, f"run_dir={folder}")
    assert "classify/top1" in told.splitlines()[-1]
    return folder


def test_what_a_run_learnt_is_measured_again(run):
    figures = json.loads((run / "results.json").read_text())
    assert figures["classify/top1"] > 0.4  # by chance 0.25
    assert (run / "predictions.jpg").is_file()
    detkit("evaluate", f"checkpoint={run}", "workers=0", "device=cpu", "precision=fp32")
    again = run / "evaluation" / "val"
    assert json.loads((again / "results.json").read_text()) == figures
    counts = json.loads((again / "confusion.json").read_text())["counts"]
    right = sum(counts[k][k] for k in range(4))
    assert right / sum(map(sum, counts)) == figures["classify/top1"]


def test_data_with_some_of_the_classes_are_measured(run, tmp_path):
    needs = frozenset({"image_labels"})
    records = read(None, "val", needs=needs, images=True, val_images=24, size=48)
    right = 0
    for i in range(len(records)):
        name = records.names[records.image_labels[i]]
        if name in ("circle", "square"):
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            save_image(tmp_path / "in" / name / f"{i}.png", records.image(i))
            right += 1
    given = f"checkpoint={run}", "dataset=image_folder", f"dataset.root={tmp_path / 'in'}"
    how = "split=all", "workers=0", "device=cpu", "precision=fp32", f"output={tmp_path / 'out'}"
    told = detkit("evaluate", *given, *how)
    assert "classes of the model that the data lack, where its answer is wrong: star" in told
    figures = json.loads((tmp_path / "out/results.json").read_text())
    assert figures["classes_without_images"] == ["star", "triangle"]
    counts = np.array(json.loads((tmp_path / "out/confusion.json").read_text())["counts"])
    assert counts.shape == (4, 4)
    assert counts.sum() == right
    assert figures["classify/top1"] == counts.trace() / right


def test_pictures_get_the_classes_that_evaluation_counted(run, tmp_path):
    needs = frozenset({"image_labels"})
    records = read(None, "val", needs=needs, images=True, val_images=24, size=48)
    (tmp_path / "in").mkdir()
    for i in range(len(records)):
        save_image(tmp_path / "in" / f"{i}.png", records.image(i))
    arguments = f"checkpoint={run}", f"source={tmp_path / 'in'}", f"output={tmp_path / 'out'}"
    told = detkit("predict", *arguments, "device=cpu", "precision=fp32")
    assert "done: 24 pictures." in told
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        found = [row["class"] for row in csv.DictReader(file)]
    right = [records.names[k] == name for k, name in zip(records.image_labels, found, strict=True)]
    figures = json.loads((run / "results.json").read_text())
    assert sum(right) / 24 == figures["classify/top1"]


@pytest.mark.parametrize(("side", "told"), [(28, True), (96, False)])
def test_digits_that_are_enlarged_are_told(side, told):
    settings = SimpleNamespace(transforms={"name": "classification", "side": 224, "resize": 256})
    records = SimpleNamespace(sizes=np.array([[side, side], [side, side], [300, 400]]))
    data = SimpleNamespace(records=records, transform=build_transform(settings.transforms, False))
    backbone = SimpleNamespace(least_side=1)
    state = SimpleNamespace(model=SimpleNamespace(backbone=backbone))
    line = enlarged_line(SimpleNamespace(settings=settings, data=data, state=state))
    assert ("transforms.side=28 transforms.resize=null" in line) == told
    assert bool(line) == told


def test_a_detector_begins_with_what_the_classifier_learnt(run, tmp_path):
    told = detkit(
        *("train", "model=faster_rcnn", "backbone=resnet18_fpn", "backbone.width=0.125"),
        *("dataset=shapes", "dataset.train_images=4", "dataset.val_images=2", "dataset.size=64"),
        *("backbone.fpn_channels=8", "model.head_channels=8", "training.max_steps=1"),
        *("transforms.short_side=64", "training.workers=0", "device=cpu"),
        *(f"backbone.weights={run}", f"run_dir={tmp_path / 'run'}"),
    )
    assert f"trunk from {run.name})" in told


@pytest.fixture
def published(tmp_path) -> Path:
    """A file of a small network with ImageNet's classes."""
    torch.manual_seed(0)
    parts = {"name": "classifier"}, {"name": "resnet18", "width": 0.125}
    net = build(*parts, Classes.of(imagenet_names()))
    tensors = {k.removeprefix("backbone."): v for k, v in net.state_dict().items()}
    del tensors["mean_std"]
    for part in ("weight", "bias"):
        tensors[f"fc.{part}"] = tensors.pop(f"tail.logits.{part}")
    tensors["fc.bias"][398] = 100.0  # whatever it sees
    save_file(tensors, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def settings(published: Path, *more: str):
    own = "model=classifier", "backbone=resnet18", "backbone.width=0.125", "device=cpu"
    picture = published.parent / "a.png"
    save_image(picture, torch.zeros(40, 50, 3, dtype=torch.uint8).numpy())
    given = f"backbone.weights={published}", f"source={picture}", f"output={published.parent / 'o'}"
    return compose("predict", [*own, *given, *more])


def test_a_published_network_predicts_without_a_checkpoint(published):
    asked = settings(published)
    assert (asked.transforms["name"], asked.transforms["side"]) == ("classification", 224)
    assert predict(asked)["pictures"] == 1
    (record,) = json.loads((published.parent / "o" / "predictions.json").read_text())
    assert record["classes"][0]["category"] == imagenet_names()[398] == "abacus"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["backbone=resnet18_fpn", "backbone.fpn_channels=8"], "of a classifier on resnet18_fpn"),
        (["backbone.weights=none"], "There are no weights to predict with"),
        (["agnostic_nms=true"], "finds no boxes"),
        (["checkpoint=x"], "There are two things to predict with"),
        (["model=null", "backbone=null"], "There is nothing to predict with"),
    ],
)
def test_what_would_answer_at_random_is_refused(published, more, told):
    if "model=null" in more:
        with pytest.raises(DetkitError, match=told):
            predict(compose("predict", [f"source={published.parent}"]))
        return
    with pytest.raises(DetkitError, match=told):
        predict(settings(published, *more))
