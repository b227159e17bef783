"""The commands of docs/classifiers.md compose, and its figures and settings are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import readme

from detkit.config import compose
from detkit.models.model import models

TEXT = (readme.ROOT / "docs/classifiers.md").read_text()
BLOCKS = [
    line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.split("\n")
]
COMMANDS = [line for line in BLOCKS if line]
VERBS = ("train", "evaluate", "predict")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command):
    script, *argv = shlex.split(command)[1:]
    assert (readme.ROOT / script).is_file()
    if Path(script).stem in VERBS and "checkpoint=RUN" not in argv:  # a run that is not here
        assert compose(Path(script).stem, argv).model["name"] in models.names()


def test_the_figures_it_names_are_the_evaluators():
    from detkit.evaluation.localization import localization_figures

    keys = set(re.findall(r"`(localize/\w+)`", TEXT))
    assert keys - {"localize/top1/NAME"} == set(localization_figures([], 20))
