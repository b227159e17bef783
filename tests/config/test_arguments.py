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


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("{dog:0.4}", {"dog": 0.4}),
        ("{猫: 0.4, crème brûlée:0.25}", {"猫": 0.4, "crème brûlée": 0.25}),
        (
            "{traffic light: 1, 'a: b': 0, \"x, y\": .5}",
            {"traffic light": 1, "a: b": 0, "x, y": 0.5},
        ),
        ("{a:b: 0.3, c, d: 0.2}", {"a:b": 0.3, "c, d": 0.2}),
        ("{it's:1e-1}", {"it's": 0.1}),
        ("{}", {}),
    ],
)
def test_scores_of_classes_in_any_script(text, scores):
    found = compose("predict", ["checkpoint=c", "source=s", f"score_thresh={text}"])
    assert found.score_thresh == scores


@pytest.mark.parametrize("text", ["{dog}", "{dog:high}", "{dog:2}", "{:0.3", "{dog:0.1:0.2, a}"])
def test_what_is_no_table_of_scores_is_refused(text):
    with pytest.raises(DetkitError):
        compose("predict", ["checkpoint=c", "source=s", f"score_thresh={text}"])


def test_classes_in_any_script():
    found = compose("predict", ["checkpoint=c", "source=s", "classes=[猫, dog,'été, hiver']"])
    assert found.classes == ["猫", "dog", "été, hiver"]
    settings = ["dataset.root=x", "training.best_by=coco/AP/été", "dataset.classes=[猫,犬]"]
    found = compose("train", settings)
    assert (found.training.best_by, found.dataset["classes"]) == ("coco/AP/été", ["猫", "犬"])
