"""U-Net as published through evaluate and predict, and the page about pixels."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import save_image
from PIL import Image

from detkit import checkpoint
from detkit.__main__ import main
from detkit.commands.opening import _absent
from detkit.config import compose
from detkit.data import open_dataset
from detkit.models.build import build
from detkit.structures import Classes

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "model": {"name": "unet_2015"},
    "backbone": {"name": "unet_encoder_2015", "width": 0.125, "in_channels": 1},
    "transforms": {"name": "segmentation"},
    "dataset": {"name": "mask_folder"},
}


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A folder with a run of random weights, and three slices of 40×52 pixels with masks."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = ["membrane", "cell"]
    model = build(CONFIG["model"], {**CONFIG["backbone"], "weights": "none"}, Classes.of(names))
    meta = {"config": CONFIG, "names": names, "category_ids": [1, 2]}
    checkpoint.save(tmp_path / "run/best", model.state_dict(), meta)
    for n in range(3):
        save_image(tmp_path / f"data/images/{n}.png", 40, 52)
        mask = np.full((40, 52), 255, np.uint8)
        mask[::9] = 0
        (tmp_path / "data/masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"data/masks/{n}.png")
    return tmp_path


def test_slices_are_measured_as_the_challenge_does(run, capsys):
    given = "evaluate checkpoint=run dataset.root=data dataset=mask_folder split=all workers=0"
    given += " dataset.classes=[membrane,cell] device=cpu precision=fp32 output=out"
    assert main([*given.split(), "membrane=membrane", "membrane_thresh=0.4"]) == 0
    figures = json.loads((run / "out/results.json").read_text())
    assert figures["membrane/thresh"] == 0.4
    errors = [figures[f"membrane/{key}_error"] for key in ("pixel", "rand", "warping")]
    assert all(0 <= error <= 1 for error in errors)
    assert figures["membrane/best/pixel_error"] <= errors[0]
    assert "membrane/pixel_error" in capsys.readouterr().out
    assert main([*given.split(), "membrane=membran"]) == 2
    assert "Did you mean membrane" in capsys.readouterr().err


def test_pixels_leave_what_is_asked_for(run, capsys):
    given = ["predict", "checkpoint=run", "source=data/images", "device=cpu", "precision=fp32"]
    assert main([*given, "output=whole"]) == 0
    assert not (run / "whole/predictions.json").exists()
    more = ["tiles=256", "probabilities=true", "polygons=true", "output=tiles"]
    assert main([*given, *more]) == 0
    assert "probabilities, polygons" in capsys.readouterr().out
    for n in range(3):
        whole, tiled = (np.asarray(Image.open(f"{o}/masks/{n}.png")) for o in ("whole", "tiles"))
        assert (whole == tiled).all()
        assert (run / f"tiles/probabilities/{n}.tif").is_file()
    records = json.loads((run / "tiles/predictions.json").read_text())
    assert {record["file_name"] for record in records} == {f"data/images/{n}.png" for n in range(3)}
    assert main([*given, "tiles=100", "output=no"]) == 2
    assert "receptive field" in capsys.readouterr().err
    assert not (run / "no").exists()


def test_classes_that_no_mask_has_are_told(run):
    given = {"name": "mask_folder", "root": run / "data", "values": {0: 0, 255: 1}}
    records = open_dataset(
        {**given, "classes": ["membrane", "cell", "dirt"]}, "all", needs=frozenset({"pixels"})
    )
    assert _absent(records, "learn from") == ["classes in none of the 3 masks to learn from: dirt"]


def test_the_commands_of_its_page_compose(run):
    text = (ROOT / "docs/segmentation.md").read_text(encoding="utf-8")
    lines = [li for b in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for li in b.splitlines()]
    assert len(lines) > 4
    for line in lines:
        script, *argv = shlex.split(line.replace("=RUN", "=run"), comments=True)[1:]
        assert (ROOT / script).is_file()
        compose(Path(script).stem, argv)
    for argv in (
        ["model=unet", "model.loss=cross_entropy+0.5*dice"],
        [
            "model=unet",
            "dataset=mask_folder",
            "dataset.colours={road: [1, 2, 3], ignore: [0, 0, 0]}",
        ],
        ["model=unet", "dataset=mask_folder", "dataset.colours=labelmap.txt", "dataset.channels=5"],
    ):
        compose("train", argv)
