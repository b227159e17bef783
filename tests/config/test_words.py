"""What other toolkits' settings are called here; no guess where names are far apart."""

from __future__ import annotations

import re

import pytest

from detkit.config import compose
from detkit.config.compose import home
from detkit.config.mistakes import misspelt
from detkit.config.words import DETECTRON, WORDS
from detkit.errors import DetkitError


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Every setting of each verb, those of some models and transforms together."""

    def keys(values, prefix=""):
        for key, value in values.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{key}.")

    from dataclasses import asdict

    calls = {
        "train": [
            ["dataset.root=x", "optimizer=sgd", "schedule=multistep"],
            ["schedule=cosine", "model=yolo_v3", "dataset=shapes"],
        ],
        "evaluate": [["checkpoint=x", "dataset.root=x"]],
        "predict": [["checkpoint=x", "source=y"]],
    }
    return {
        verb: {key for call in several for key in keys(asdict(compose(verb, call)))}
        for verb, several in calls.items()
    }


def test_every_setting_that_is_named_is_there(known):
    for own in (*WORDS.values(), *DETECTRON.values()):
        train, others = (own, own) if isinstance(own, str) else own
        for answer, verbs in ((train, ["train"]), (others, ["predict", "evaluate"])):
            if answer is None or answer.startswith("nothing"):
                continue
            named = re.findall(r"[a-z_]+(?:\.[a-z_]+)?(?==|\b)", re.sub(r"=\S+", "", answer))
            named = [one for one in named if one not in ("and", "with")]
            assert named
            for key in named:
                assert any(key in known[verb] for verb in verbs), (answer, key)


@pytest.mark.parametrize(
    ("verb", "argument", "says"),
    [
        ("train", "imgsz=640", "Here it is transforms.short_side and transforms.long_side."),
        ("predict", "imgsz=640", "Here it is short_side."),
        ("predict", "conf=0.3", "Here it is score_thresh."),
        ("predict", "iou=0.5", "Here it is nms_iou."),
        ("predict", "max_det=5", "Here it is detections."),
        ("predict", "weights=x", "Here it is checkpoint."),
        ("train", "data=coco.yaml", "Here it is dataset.root=FOLDER."),
        ("train", "patience=3", "Did you mean training.patience?"),
        ("train", "epochs=3", "Did you mean training.epochs?"),
        ("train", "hflip=0.5", "Here it is transforms.flip."),
        ("train", "momentum=0.9", "Here it is optimizer.momentum"),
        ("train", "MODEL.WEIGHTS=x", "Here it is weights."),
        ("train", "MODEL.ROI_HEADS.NAME=x", "Here it is among the settings model."),
        ("train", "SOLVER.BASE_LR=0.1", "Here it is optimizer.lr."),
        ("evaluate", "spilt=x", "Did you mean split?"),
        ("train", "trianing.epochs=3", "Did you mean training.epochs?"),
        ("train", "optimiser.lr=3", "Did you mean optimizer.lr?"),
    ],
)
def test_a_word_from_elsewhere_is_answered_at_once(verb, argument, says):
    with pytest.raises(DetkitError) as error:
        misspelt(verb, [argument], home(verb))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("verb", "argument"),
    [
        ("train", "model.widht=3"),  # of a choice, which is not known yet
        ("train", "quux=3"),  # like nothing: no guess
        ("train", "training.epochs=3"),
        ("train", "optimizer=sgd"),
        ("train", "dataset.root=x"),
        ("train", "hydra.verbose=true"),
        ("predict", "source=imgsz=3"),
        ("predict", "patience"),
    ],
)
def test_what_may_be_right_is_left_to_the_whole_check(verb, argument):
    misspelt(verb, [argument], home(verb))
