"""A part's keys are checked where it is registered; a failed import is tried again."""

import sys

import pytest

from detkit.errors import DetkitError
from detkit.registry import Registry


def part(*, anchors: int = 1, neck: str = "x"):
    return anchors, neck


@pytest.mark.parametrize("given", [{"defaults": {"ancors": 2}}, {"nek": "y"}])
def test_a_preset_of_what_the_part_does_not_take_is_refused(given):
    with pytest.raises(DetkitError, match="argument of the model small"):
        Registry("model", "detkit.models").register("small", **given)(part)


def test_a_package_that_failed_to_import_fails_again(tmp_path, monkeypatch):
    package = tmp_path / "broken_parts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("raise ImportError('half')")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("part", "broken_parts")
    for _ in range(2):
        with pytest.raises(ImportError, match="half"):
            registry.names()
    sys.modules.pop("broken_parts")
