"""The commands of docs/single_shot.md compose, and each recipe that it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from detkit.config.compose import compose
from detkit.models.model import models

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
