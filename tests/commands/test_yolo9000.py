"""YOLO9000 from the command line: its tree in the checkpoint, images of a class alone, refusals."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import detkit
from detkit.__main__ import main

SHORT = [
    *("backbone.width=0.125", "training.max_steps=2", "training.batch_size=4"),
    *("training.workers=0", "device=cpu"),
]
SMALL = ["dataset.size=64", "dataset.train_images=12", "dataset.val_images=4"]


def test_a_run_keeps_its_tree_and_goes_on_without_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = tmp_path / "my tree.yaml"
    tree.write_text("pointed: [star]\nother: [circle, square, triangle]\n")
    run = ["train", "model=yolo9000", "experiment=shapes_yolo9000", f"model.tree={tree}"]
    assert main([*run, *SMALL, *SHORT, "transforms.long_side=64", "run_dir=run"]) == 0
    meta = json.loads((tmp_path / "run/best/meta.json").read_text())
    assert meta["names"] == ["pointed", "star", "other", "circle", "square", "triangle"]
    assert meta["parents"] == [-1, 0, -1, 2, 2, 2]
    tree.unlink()
    assert main(["train", "resume=run", "training.max_steps=3"]) == 0
    assert main(["evaluate", "checkpoint=run", "device=cpu", "workers=0"]) == 0
    predictor = detkit.load("run")
    assert predictor.model.class_list.parents == (-1, 0, -1, 2, 2, 2)


def test_pictures_of_a_class_are_learnt_beside_boxes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "boxed" / kind / split).mkdir(parents=True)
        for i in range(3):
            picture = Image.effect_noise((48, 40), 60 + i).convert("RGB")
            picture.save(tmp_path / f"boxed/images/{split}/{split}{i}.png")
            text = f"{i % 2} 0.5 0.5 0.4 0.4\n"
            (tmp_path / f"boxed/labels/{split}/{split}{i}.txt").write_text(text)
    (tmp_path / "boxed/data.yaml").write_text("names: [cat, dog]\n")
    for name in ("dog", "zebra"):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        Image.effect_noise((30, 30), 90).convert("RGB").save(tmp_path / f"labelled/{name}/1.png")
    run = ["train", "model=yolo9000", "dataset.root=boxed", "dataset.labels_root=labelled"]
    (tmp_path / "tree.yaml").write_text("animal: [felis, dog, zebra]\n")
    (tmp_path / "a.map").write_text("1\n2\n")  # cat is felis
    run += ["model.tree=tree.yaml", "model.tree_map=a.map", "transforms.long_side=64", *SHORT]
    assert main([*run, "dataset.labels_root=nowhere"]) == 2
    assert "correct dataset.labels_root" in capsys.readouterr().err
    assert main([*run, "run_dir=run"]) == 0
    (tmp_path / "a.map").unlink()
    assert main(["train", "resume=run", "training.max_steps=3"]) == 0
    assert main(["evaluate", "checkpoint=run", "device=cpu", "workers=0"]) == 0
    meta = json.loads((tmp_path / "run/best/meta.json").read_text())
    assert meta["names"] == ["animal", "cat", "dog", "zebra"]
    log = (tmp_path / "run/log.txt").read_text()
    assert "on 5 images" in log
    assert "beside them 2 of a class alone" in log


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            ["model=tiny_yolo_v2", "dataset.unboxed=[star]"],
            "learns nothing of images of which only",
        ),
        (["model=yolo9000", "model.tree=tree.yaml"], "class star is not in the tree"),
    ],
)
def test_what_cannot_be_learnt_is_refused(given, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree.yaml").write_text("a: [circle, square]\n")
    run = ["train", "dataset=shapes", *given, *SMALL, *SHORT, "run_dir=run"]
    assert main(run) == 2
    assert words in capsys.readouterr().err
