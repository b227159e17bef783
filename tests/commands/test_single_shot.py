"""The commands of docs/single_shot.md compose, and each recipe that it names is there.

What YOLOv1's fully connected layers ask of a run is said before it begins.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from detkit.__main__ import main
from detkit.commands.telling import room_line
from detkit.config.compose import compose
from detkit.models.build import build
from detkit.models.model import models
from detkit.structures import Classes

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/single_shot.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python scripts/(\w+)\.py (.*)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("verb", "rest"), COMMANDS, ids=lambda text: text[:60])
def test_the_commands_compose(verb, rest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("RUN.weights").touch()  # a run that settings come from would have to be there
    words = [word.replace("checkpoint=RUN", "checkpoint=RUN.weights") for word in shlex.split(rest)]
    compose(verb, [word for word in words if not word.startswith("weights=")])


def test_networks_and_recipes_exist():
    rows = [line.split("|")[1:4] for line in TEXT.splitlines() if line.startswith("| `")]
    named = [name for row in rows[1:] for name in re.findall(r"`(\w+)`", row[0])]
    assert {"yolo_v1", "yolo9000", "ssd512"} <= set(named) <= set(models.names())
    for row in rows[1:]:
        for recipe in re.findall(r"`(\w+)`", row[2]):
            assert (ROOT / f"conf/experiment/{recipe}.yaml").is_file()
    assert len(COMMANDS) > 15


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
