"""The verbs from Python are those of the command line."""

import pytest
from folders import three, write_voc

import detkit
from detkit.commands.calls import arguments
from detkit.config import compose

DATA = {"name": "shapes", "train_images": 4, "val_images": 2, "size": 64}
SMALL = {
    "backbone": {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8},
    "model": {"name": "faster_rcnn", "head_channels": 16, "proposals": [50, 20]},
    "transforms": {"short_side": 64, "long_side": 64},
    "device": "cpu",
}


def test_keywords_are_settings_of_the_command_line(tmp_path):
    given = {**SMALL, "epochs": 3, "clip_norm": None, "dataset": tmp_path, "seed": 1}
    line = (
        "backbone=resnet18_fpn backbone.width=0.125 backbone.fpn_channels=8 model=faster_rcnn"
        " model.head_channels=16 model.proposals=[50,20] transforms.short_side=64"
        f" transforms.long_side=64 device=cpu training.epochs=3 training.clip_norm=null"
        f" dataset.root={tmp_path} seed=1"
    )
    assert arguments("train", given) == line.split()
    assert compose("train", arguments("train", given)) == compose("train", line.split())


def test_what_is_trained_is_measured_and_found_in_dir(tmp_path):
    run = tmp_path / "run"
    loop = {"max_steps": 1, "batch_size": 2, "workers": 0, "precision": "fp32"}
    figures = detkit.train(dataset=DATA, run_dir=run, **SMALL, **loop)
    assert figures["run_dir"] == str(run)
    again = detkit.evaluate(checkpoint=run, workers=0, device="cpu", precision="fp32")
    assert again["coco/AP"] == pytest.approx(figures["coco/AP"], abs=1e-9)
    assert {"load", "train", "evaluate", "open_dataset", "Detections"} <= set(dir(detkit))
    assert all(getattr(detkit, name) is not None for name in dir(detkit))


def test_a_folder_is_opened(tmp_path):
    write_voc(tmp_path, three(), {"train": ["a", "b"], "val": ["c"]})
    assert len(detkit.open_dataset(tmp_path)) == 2
    assert len(detkit.open_dataset({"name": "voc", "root": str(tmp_path)}, "val")) == 1


@pytest.mark.parametrize(
    ("mistake", "words"),
    [({"epoch": 3}, "epochs"), ({"model": object()}, "is a object"), ({"lr": 0.1}, "optimizer.lr")],
)
def test_mistakes_are_told(mistake, words):
    with pytest.raises(detkit.DetkitError, match=words):
        detkit.train(dataset="shapes", **mistake)
