"""Parts that a message names exist: a remedy that names a model can be obeyed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import detkit
from detkit.backbones.backbone import backbones
from detkit.data.formats import formats
from detkit.data.open import OTHERS
from detkit.data.transforms import transforms
from detkit.models.model import models

HOUSE = Path(detkit.__file__).parent
KNOWN = {
    "model": models.names(),
    "backbone": [*backbones.names(), *(f"{name}_fpn" for name in backbones.names())],
    "dataset": [*formats.names(), "auto"],
    "transforms": transforms.names(),
    "experiment": [file.stem for file in (HOUSE.parent / "conf/experiment").glob("*.yaml")],
}
PEERS = re.compile(r'models\.register\(\s*"(\w+)"')  # some are registered where they are imported
NAMED = re.compile(rf"\b({'|'.join(KNOWN)})=([a-z][a-z0-9_]*)\b")


def named_in(source: str) -> Iterator[tuple[str, str]]:
    """(group, name) of all texts in a file; what an f-string fills in is no name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from NAMED.findall(node.value)


def test_every_part_that_a_text_names_exists():
    sources = {
        file.relative_to(HOUSE).as_posix(): file.read_text(encoding="utf-8")
        for file in HOUSE.rglob("*.py")
    }
    found = {
        (file, group, name) for file, source in sources.items() for group, name in named_in(source)
    }
    peers = {name for source in sources.values() for name in PEERS.findall(source)}
    assert len([1 for _, group, _ in found if group == "model"]) > 10
    absent = {entry for entry in found if entry[2] not in KNOWN[entry[1]]}
    assert not {entry for entry in absent if entry[2] not in peers}


@pytest.mark.parametrize("needs", OTHERS)
def test_the_model_for_other_data_learns_from_them(needs):
    (name,) = re.findall(r"model=(\w+)", OTHERS[needs])
    assert models.part(name).needs == {needs}


def test_the_search_finds_what_it_is_for():
    assert list(named_in("f'set model=unet or backbone={x}' 'model=NAME'")) == [("model", "unet")]
