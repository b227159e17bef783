"""Every group file against the signature of what it builds, so that neither drifts."""

import pytest
import yaml

from detkit.config import CONF, compose, groups
from detkit.config.compose import home
from detkit.config.help import comments
from detkit.config.settings import VERBS

FILES = sorted(file for group in groups.GROUPS for file in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_keys_are_exactly_the_builders_keyword_arguments(file):
    values = yaml.safe_load(file.read_text())
    parts = values.pop("defaults", None)
    assert values.pop("name") == file.stem
    own = groups.parameters(file.parent.name, file.stem)
    signature = f"/signature/{file.parent.name}/{file.stem}@_here_"
    if parts and signature in parts:  # it takes them from there, and may change some
        assert set(values) <= set(own)
        assert set(compose("train", [f"model={file.stem}"]).model) == {"name", *own}
    else:
        assert set(values) == set(own)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_values_are_the_builders_defaults(file):
    values = yaml.safe_load(file.read_text())
    for key, (_, default) in groups.parameters(file.parent.name, file.stem).items():
        if key in values:
            expected = list(default) if isinstance(default, tuple) else default
            assert _lists(values[key]) == _lists(expected), key


def _lists(value):
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("group", groups.GROUPS)
def test_each_registered_part_is_a_choice_that_composes(group):
    names = groups.choices(group)
    assert names
    for name in names if group != "backbone" else names[::7]:
        assert getattr(compose("train", [f"{group}={name}"]), group)["name"] == name


@pytest.mark.parametrize("verb", VERBS)
def test_every_setting_of_a_verb_has_a_line_of_comment(verb):
    said = comments(home(verb) / f"{verb}.yaml")
    sections = {key.split(".")[0] for key in said if "." in key}
    silent = [key for key, text in said.items() if not text and key not in {"defaults", *sections}]
    assert not silent
    assert not [text for text in said.values() if text.endswith((",", " a", " the"))]  # cut off
