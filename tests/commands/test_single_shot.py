"""The commands of docs/single_shot.md and docs/darknet.md compose; recipes that are named exist.

What YOLOv1's fully connected layers ask of a run is said before it begins.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detkit.__main__ import main
from detkit.backbones.darknet_cfg import DEFAULT
from detkit.backbones.darknet_sections import cfg_text
from detkit.commands.beginning import other_size
from detkit.commands.telling import room_line
from detkit.config.compose import compose
from detkit.data.transforms import build as build_transform
from detkit.models.build import build
from detkit.models.model import models
from detkit.structures import Classes

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/single_shot.md").read_text(encoding="utf-8")
BOTH = TEXT + (ROOT / "docs/darknet.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python scripts/(\w+)\.py (.*)$", BOTH, re.MULTILINE)


@pytest.mark.parametrize(("verb", "rest"), COMMANDS, ids=lambda text: text[:60])
def test_the_commands_compose(verb, rest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("RUN", "FILE", "yolov3-tiny"):  # what settings may come from has to be there
        Path(f"{file}.weights").touch()
    words = re.sub(r"checkpoint=RUN\b", "checkpoint=RUN.weights", rest)
    words = shlex.split(words, comments=True)
    compose(verb, [word for word in words if not word.startswith("weights=")])


def test_networks_and_recipes_exist():
    rows = [line.split("|")[1:4] for line in TEXT.splitlines() if line.startswith("| `")]
    named = [name for row in rows[1:] for name in re.findall(r"`(\w+)`", row[0])]
    assert {"yolo_v1", "yolo9000", "ssd512"} <= set(named) <= set(models.names())
    for row in rows[1:]:
        for recipe in re.findall(r"`(\w+)`", row[2]):
            assert (ROOT / f"conf/experiment/{recipe}.yaml").is_file()
    assert len(COMMANDS) > 22


@pytest.mark.parametrize("given", ["transforms.long_side=64", "transforms.sides=[448,64]"])
def test_yolo_v1_refuses_other_sizes_before_there_is_a_folder(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["backbone.width=0.03", "model.hidden=[4]", "dataset.train_images=2"]
    assert main(["train", "model=yolo_v1", "dataset=shapes", *small, given, "run_dir=run"]) == 2
    assert "Images of 64×64 pixels: the fully connected layers" in capsys.readouterr().err
    assert not Path("run").exists()


def test_the_size_of_yolo_v1s_run_folder_is_said():
    with torch.device("meta"):
        model = build({"name": "yolo_v1"}, {"name": "yolo_v1"}, Classes.numbered(20))
    # 271,703,550 numbers of 4 bytes: once in best, twice in last, and the optimizer's
    for defaults, told in (({"momentum": 0.9}, "gets 4.3 GB"), ({"betas": (0.9, 0.99)}, "5.4 GB")):
        state = SimpleNamespace(model=model, optimizer=SimpleNamespace(defaults=defaults))
        assert told in room_line(state)
    assert room_line(SimpleNamespace(model=torch.nn.Linear(4, 4), optimizer=None)) == ""


@pytest.mark.parametrize(
    ("net", "text", "told"),
    [
        ({"width": "320", "height": "256"}, "", "for pictures of 320×256, not of 96×64"),
        ({"width": "96", "height": "64"}, "", ""),
        ({}, "", ""),
        ({"width": "416", "height": "416"}, cfg_text(DEFAULT), ""),
    ],
)
def test_a_cfg_for_pictures_of_another_size_is_told(net, text, told):
    model = SimpleNamespace(backbone=SimpleNamespace(net=net))
    transform = build_transform({"name": "darknet", "width": 96, "height": 64}, train=False)
    session = SimpleNamespace(
        state=SimpleNamespace(model=model),
        settings=SimpleNamespace(backbone={"text": text}),
        data=SimpleNamespace(
            records=SimpleNamespace(sizes=np.array([[50, 80]])), transform=transform
        ),
    )
    assert told in other_size(session)
    assert bool(told) == bool(other_size(session))
