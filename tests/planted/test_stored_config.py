"""What a checkpoint's config says is data: it configures nothing, and is checked before its use."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch
from hydra.core.config_store import ConfigStore

import detkit
from detkit import checkpoint, restore
from detkit.config import compose, launch
from detkit.config.compose import STORED
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.structures import Classes

PARTS = ["model=unet", "model.decoder_width=2", "dataset=shapes", "backbone.width=0.125"]


@pytest.fixture(autouse=True)
def no_choice_afterwards():
    """What a checkpoint makes a choice of is none for the tests that follow."""
    yield
    repo = ConfigStore.instance().repo
    for group in [key for key, nodes in repo.items() if isinstance(nodes, dict)]:
        repo[group].pop(f"{STORED}.yaml", None)
        if not repo[group]:
            del repo[group]


@pytest.fixture
def run(tmp_path):
    """A run's folder, as far as one can be resumed or started from."""
    config = asdict(compose("train", PARTS))
    meta = {"format": 1, "config": config, "names": ["a", "b"], "category_ids": [1, 2]}
    model = build(config["model"], config["backbone"], Classes(("a", "b"), (1, 2)))
    for which in ("best", "last"):
        checkpoint.save(tmp_path / "run" / which, model.state_dict(), meta)
    return tmp_path / "run"


def spoil(run, change):
    for which in ("best", "last"):
        file = run / which / "meta.json"
        meta = json.loads(file.read_text())
        change(meta["config"])
        file.write_text(json.dumps(meta))


def callback(marker):
    return {"x": {"_target_": "os.mkdir", "path": str(marker)}}


CALLS = [
    lambda run: ("train", ["-m", f"resume={run}", "training.epochs=1,2"]),
    lambda run: ("train", [f"resume={run}", "hydra.verbose=false"]),
    lambda run: ("train", [f"resume={run}"]),
    lambda run: ("train", ["-m", f"weights={run}", "dataset=shapes", "seed=1,2"]),
    lambda run: ("train", [f"weights={run}"]),
    lambda run: ("evaluate", ["-m", f"checkpoint={run}", "batch_size=1,2"]),
    lambda run: ("evaluate", [f"checkpoint={run}"]),
]
EVIL = {
    "hydra": lambda c, m: c.update(hydra={"callbacks": callback(m)}),
    "defaults": lambda c, m: c.update(defaults=["_self_", {"override hydra/launcher": "basic"}]),
    "hydra in a part": lambda c, m: [
        c[part].update(hydra={"callbacks": callback(m)}) for part in ("model", "dataset")
    ],
    "defaults in a part": lambda c, m: [
        c[part].update(defaults=[{"/hydra/launcher@_global_.hydra.launcher": "x"}])
        for part in ("backbone", "dataset")
    ],
    "target": lambda c, m: [
        c[part].update(_target_="os.mkdir", path=str(m)) for part in ("transforms", "dataset")
    ],
    "target in a value": lambda c, m: [
        c[part].update(classes=[{"_target_": "os.mkdir", "path": str(m)}]) for part in c
        if isinstance(c[part], dict)
    ],
    "target in training": lambda c, m: c["training"].update(class_weights={"_target_": "os.mkdir"}),
}  # fmt: skip


@pytest.fixture
def command():
    calls = []

    def run(settings):
        calls.append(settings)

    run.calls = calls
    return run


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("evil", EVIL)
def test_nothing_of_it_configures_hydra(run, call, evil, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "executed"
    spoil(run, lambda config: EVIL[evil](config, marker))
    with pytest.raises(DetkitError, match=r"meta\.json") as error:
        launch(*call(run), command)
    assert error.value.remedy
    assert not marker.exists()
    assert not command.calls


@pytest.mark.parametrize("call", CALLS)
def test_a_sound_one_gets_through(run, call, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    launch(*call(run), command)
    assert command.calls


NAN = math.nan
DAMAGED = {
    "no transforms": lambda c: c.pop("transforms"),
    "transforms are a list": lambda c: c.update(transforms=[1]),
    "transforms without a name": lambda c: c["transforms"].pop("name"),
    "transforms of no preset": lambda c: c["transforms"].update(name="nothing"),
    "a name that is a list": lambda c: c["transforms"].update(name=["segmentation"]),
    "another setting": lambda c: c["transforms"].update(sides=3),
    "a text for a side": lambda c: c["transforms"].update(short_side="x"),
    "a side below 0": lambda c: c["transforms"].update(short_side=-5),
    "no number": lambda c: c["transforms"].update(flip=NAN),
    "beyond 1": lambda c: c["transforms"].update(flip=7.0),
    "no model": lambda c: c.pop("model"),
    "a model that is a text": lambda c: c.update(model="unet"),
    "a width of NaN": lambda c: c["backbone"].update(width=NAN),
    "a width below 0": lambda c: c["backbone"].update(width=-1.0),
    "a setting of another type": lambda c: c["model"].update(decoder_width=[1]),
    "a negative width": lambda c: c["model"].update(decoder_width=-3),
    "a setting that is none": lambda c: c["model"].update(colour=1),
}


BUILT = {"a side below 0", "beyond 1", "a width below 0"}  # told when the part is built


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_one_is_told_by_whoever_reads_it(run, how, command):
    detkit.load(run, device="cpu")  # whole, it loads
    spoil(run, DAMAGED[how])
    with pytest.raises(DetkitError, match=r"meta\.json") as error:
        detkit.load(run, device="cpu")
    assert error.value.remedy
    if how in BUILT:
        return
    for verb, arguments in [CALLS[2](run), CALLS[4](run)]:
        with pytest.raises(DetkitError, match=r"meta\.json") as error:
            launch(verb, arguments, command)
        assert error.value.remedy
    assert not command.calls


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["backbone"].update(width=40.0),
        lambda c: c["backbone"].update(width=1e300),
        lambda c: c["backbone"].update(in_channels=10**18),
        lambda c: c["model"].update(decoder_width=10**6),
    ],
)
def test_a_model_larger_than_its_weights_is_told_before_it_is_built(run, change, monkeypatch):
    spoil(run, change)
    built = torch.nn.Conv2d.reset_parameters
    taken = []

    def counted(layer):
        taken.append(0 if layer.weight.is_meta else layer.weight.numel())
        built(layer)

    monkeypatch.setattr(torch.nn.Conv2d, "reset_parameters", counted)
    with pytest.raises(DetkitError, match=r"meta\.json|model\.safetensors"):
        detkit.load(run, device="cpu")
    assert sum(taken) < 1e8


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("dataset"),
        lambda c: c.update(dataset="shapes"),
        lambda c: c["dataset"].update(name=7),
        lambda c: c["dataset"].update(size="large"),
        lambda c: c.update(plugins="x"),
        lambda c: c.update(plugins=[1]),
    ],
)
def test_a_damaged_data_set_is_told_by_evaluate(run, change, command):
    spoil(run, change)
    with pytest.raises(DetkitError, match=r"meta\.json"):
        launch("evaluate", [f"checkpoint={run}"], command)


@pytest.mark.parametrize("setting", ["score_thresh", "nms_iou"])
@pytest.mark.parametrize("value", [-1.0, NAN, 1.5, "0.5x", None])
@pytest.mark.parametrize("name", ["faster_rcnn", "yolo_v3"])
def test_a_threshold_is_held_to_the_range_of_the_command_line(tmp_path, name, setting, value):
    model, backbone = {"name": name}, {"name": "resnet18", "width": 0.125}
    if name == "faster_rcnn":
        model, backbone = model | {"head_channels": 8}, {"name": "resnet18_fpn", "width": 0.125}
    config = {"model": model, "backbone": backbone, "transforms": {"name": "detection"}}
    meta = {"config": config, "names": ["a"], "category_ids": [1]}
    state = build(model, backbone, Classes(("a",), (1,))).state_dict()
    checkpoint.save(tmp_path / "best", state, meta)
    restore.load_model(tmp_path / "best")
    config["model"] = model | {setting: value}
    checkpoint.save(tmp_path / "best", state, meta)
    with pytest.raises(DetkitError, match=r"meta\.json.*" + setting):
        restore.load_model(tmp_path / "best")


def test_an_older_one_may_lack_a_setting_that_has_come_since(run):
    spoil(run, lambda config: config["training"].pop("val_losses"))
    assert compose("train", [f"resume={run}"]).training.val_losses is False  # its default
    assert compose("train", [f"resume={run}", "training.val_losses=true"]).training.val_losses
    assert torch.is_tensor(next(detkit.load(run, device="cpu").model.parameters()))
