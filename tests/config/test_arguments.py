"""File names on the command line arrive as they were typed."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from detkit.config import arguments, compose
from detkit.errors import DetkitError

NAMES = [
    *(
        "it's (1).jpg",
        "[ab]*.jpg",
        "a=b.jpg",
        "0",
        "1e3",
        "${x}.jpg",
        "$(x).jpg",
        "true",
        "true.jpg",
    ),
    *(
        "a,b.jpg",
        "été 写真.jpg",
        "a#b",
        "{a: 1}",
        "'quoted'",
        '"quoted"',
        "back\\slash\\",
        "\\'",
        "a:b",
    ),
    *(
        " spaces ",
        "new\nline",
        "choice(a,b)",
        "???.jpg",
        "\\${x}",
        "\\\\${x",
        "-1",
        "nan",
        "~user/x",
    ),
    *("\udcff.jpg", "${", "null.jpg", "*", "[1, 2]", "+a", "a@b", "%00", "tab\there"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_arrives_as_it_was_typed(name):
    assert compose("predict", ["checkpoint=c", f"source={name}"]).source == name


_anything = st.text(st.characters(exclude_characters="\0"), min_size=1)
_awkward = st.text("\\${}'\" ab\n,=[]()~#", min_size=1)


@settings(max_examples=400, deadline=None)
@given(st.one_of(_anything, _awkward))
@example("\\\\\n")
def test_any_text_survives_the_quotes(text):
    override = OverridesParser.create().parse_override(arguments.quoted(f"source={text}"))
    config = OmegaConf.create({"source": override.value()})
    arrived = OmegaConf.to_container(config, resolve=True)["source"]
    if text == "null":
        assert arrived is None
    elif text == "???":
        assert arrived == "./???"
    elif text == "~" or text.startswith("~/"):
        assert arrived.startswith(str(Path.home()))
    else:
        assert arrived == text


@pytest.mark.parametrize("key", ["root", "dataset.root", "+dataset.root", "++backbone.weights"])
def test_the_last_part_of_a_key_makes_it_a_path(key):
    assert arguments.quoted(f"{key}=a b") == f"{key}='a b'"


@pytest.mark.parametrize(
    "argument", ["training.class_weights=[1,2]", "seed=1", "~experiment", "-m"]
)
def test_other_arguments_stay_hydras(argument):
    assert arguments.quoted(argument) == argument


def test_home_is_expanded_and_null_is_none(monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    found = compose("evaluate", ["predictions=~/a b.json", "output=null", "dataset.root=~"])
    assert (found.predictions, found.output) == ("/home/her/a b.json", None)
    assert found.dataset["root"] == "/home/her"


def test_an_empty_path_is_refused_before_it_means_the_current_folder():
    with pytest.raises(DetkitError, match=r"Nothing follows dataset\.root="):
        compose("train", ["dataset.root="])
