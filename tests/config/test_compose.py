"""What the commands are told, from what the user typed."""

import dataclasses
import json
import textwrap
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from detkit.config import CONF, compose
from detkit.config.help import page
from detkit.config.settings import VERBS, typed
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.structures import Classes
from detkit.training.optimization import schedules


def test_nothing_said_trains_faster_rcnn_on_the_shapes():
    settings = compose("train", [])
    assert settings.model["name"] == "faster_rcnn"
    assert settings.dataset["name"] == "shapes"
    assert settings.backbone["width"] < 1  # the experiment's small network


@pytest.mark.parametrize("model", ["faster_rcnn", "yolo_v3", "unet"])
def test_each_model_has_its_own_shapes(model):
    settings = compose("train", [f"model={model}"])
    assert (settings.model["name"], settings.dataset["name"]) == (model, "shapes")
    assert (
        settings.training.epochs == compose("train", [f"experiment=shapes_{model}"]).training.epochs
    )


def test_a_root_alone_is_recognised_and_leaves_the_shapes():
    settings = compose("train", ["dataset.root=/data/mine"])
    assert settings.dataset["name"] == "auto"
    assert settings.dataset["root"] == "/data/mine"
    assert settings.backbone["width"] == 1.0


def test_the_order_of_authority_is_model_experiment_command_line():
    assert compose("train", ["model=yolo_v3", "dataset=voc"]).backbone["name"] == "darknet53"
    assert compose("train", ["model=yolo_v3", "dataset=voc"]).transforms["name"] == "square"
    assert compose("train", ["experiment=shapes_yolo_v3"]).backbone["name"] == "resnet18"
    chosen = ["experiment=shapes_yolo_v3", "backbone=resnet50", "training.epochs=3"]
    settings = compose("train", chosen)
    assert (settings.backbone["name"], settings.training.epochs) == ("resnet50", 3)
    assert settings.transforms["long_side"] == 160  # what was not said stays the experiment's


@pytest.mark.parametrize("model", ["fast_rcnn", "rcnn", "sppnet", "mask_rcnn"])
def test_small_is_that_of_the_model_beside_it(model):
    settings = compose("train", ["experiment=small", f"model={model}", "dataset.root=x"])
    assert settings.model["name"] == model
    assert settings.backbone["name"].startswith("mobilenet_v2")
    network = build(settings.model, settings.backbone, Classes.numbered(2))
    assert network.backbone.channels


def test_a_table_of_names_joins_the_experiments():
    rates = compose("train", ["experiment=transfer", "optimizer.rates={backbone.4: 0.5, tail: 2}"])
    assert rates.optimizer["rates"] == {"backbone": 0.1, "backbone.4": 0.5, "tail": 2}
    alone = compose("train", ["optimizer.rates={backbone:0.1}"])
    assert alone.optimizer["rates"] == {"backbone": 0.1}
    with pytest.raises(DetkitError, match=r"rates.* cannot be"):
        compose("train", ["optimizer.rates={backbone:0}"])


def test_every_backbone_is_a_choice_with_and_without_a_neck():
    plain = compose("train", ["backbone=vgg16", "backbone.frozen_stages=2"]).backbone
    neck = compose("train", ["backbone=vgg16_fpn", "backbone.weights=a,b.pt"]).backbone
    assert plain["frozen_stages"] == 2
    assert neck["weights"] == "a,b.pt"
    assert "fpn_channels" in neck
    assert "fpn_channels" not in plain


@pytest.mark.parametrize(
    ("verb", "argument", "words"),
    [
        ("train", "training.epoch=3", "No setting 'training.epoch'. Did you mean training.epochs?"),
        ("train", "+training.epoch=3", "Did you mean training.epochs?"),
        ("train", "epochs=3", "Did you mean training.epochs?"),
        ("train", "lr=3", "optimizer.lr"),
        ("train", "learning_rate=3", "optimizer.lr"),
        ("train", "optimizer.learning_rate=3", "Did you mean optimizer.lr?"),
        ("train", "dataset.rot=x", "Did you mean dataset.root?"),
        ("train", "+optimizer.weight_decai=0", "Did you mean optimizer.weight_decay?"),
        ("train", "model=faster_rcn", "No model 'faster_rcn'. Did you mean faster_rcnn?"),
        ("train", "backbone=resnet50_fpm", "Did you mean resnet50_fpn?"),
        ("train", "dataset=coca", "Did you mean coco?"),
        ("train", "experiment=shapes", "No experiment 'shapes'"),
        ("evaluate", "model=unet", "No setting 'model'"),
        ("train", "model={depth: 3}", "Could not override 'model'. (Key 'depth'"),
        ("benchmark", "model=[unet]", "model cannot be"),
        ("predict", "sorce=x", "Did you mean source?"),
        ("evaluate", "spilt=x", "Did you mean split?"),
        ("train", "training.epochs=ten", 'training.epochs cannot be "ten"'),
        ("train", "training.epochs=true", "training.epochs cannot be true"),
        ("train", "training.epochs=1.5", "training.epochs cannot be 1.5"),
        ("train", "training.precision=fp8", "'bf16'"),
        ("train", "training.epochs=null", "training.epochs is not given"),
        ("train", "model.anchor_ratios=[1,x]", "model.anchor_ratios[1]"),
        ("train", "optimizer.lr=high", 'optimizer.lr cannot be "high"'),
        ("train", "plugins=[no_such_module]", "no module 'no_such_module'"),
        ("train", "experiment=small,blood_cells", "add -m for a run with each"),
        ("train", "plugins=os", "write plugins=[os]"),
        ("train", "plugins=null", "write plugins=[]."),
        (
            "train",
            "schedule=null",
            "Remedy: leave it out, or choose one of: auto, constant",
        ),
        ("train", "optimizer=3", "optimizer has no name"),
        ("train", "plugins=[no_such.py]", "not its file: plugins=[no_such]"),
        ("train", "model.name=unet", "No setting 'model."),
        ("predict", "photo.jpg", "'photo.jpg' is not an argument of the form key=value"),
        ("predict", "score_thresh=(", "'score_thresh=(' is not an argument"),
        ("predict", "checkpoint=x", "source is not given"),
    ],
)
def test_a_mistake_is_answered_in_the_users_terms(verb, argument, words):
    with pytest.raises(DetkitError) as caught:
        compose(verb, [argument])
    assert words in str(caught.value)
    assert "Remedy:" in str(caught.value)


@pytest.mark.parametrize("group", ["model", "optimizer", "schedule", "transforms", "backbone"])
def test_a_part_left_empty_is_asked_for(group):
    with pytest.raises(DetkitError, match=f"{group} is not given"):
        compose("train", ["dataset=coco", "dataset.root=x", f"{group}=[]"])


@pytest.mark.parametrize(
    ("code", "line", "words"),
    [
        ("import os\nfrom detkit.nowhere import Part\n", 2, "No module named 'detkit.nowhere'"),
        ("def (:\n", 1, "SyntaxError"),
        ("import json\n\njson.loads('{')\n", 3, "JSONDecodeError"),
    ],
)
def test_a_plugins_fault_is_told_with_its_line(code, line, words, tmp_path, monkeypatch):
    (tmp_path / f"faulty{line}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DetkitError, match=words) as caught:
        compose("train", [f"plugins=[faulty{line}]"])
    assert Path(caught.value.file).name == f"faulty{line}.py"
    assert caught.value.record == f"line {line}"


def test_types_are_those_of_yaml():
    settings = compose("train", ["optimizer.lr=1", "optimizer=adamw", "training.ema=0.5"])
    assert settings.optimizer["lr"] == 1.0
    assert settings.optimizer["betas"] == [0.9, 0.999]
    assert compose("evaluate", ["predictions=x", "split=2012"]).split == "2012"
    assert compose("train", ["training.class_weights=[1,2.5]"]).training.class_weights == [1.0, 2.5]
    assert compose("train", ["training.class_weights=auto"]).training.class_weights == "auto"


def test_values_of_masks_keep_their_integer_keys():
    arguments = ["model=unet", "dataset=mask_folder", "dataset.values={0: 0, 255: 1}"]
    assert compose("train", arguments).dataset["values"] == {0: 0, 255: 1}


def test_a_setting_that_is_left_out_is_named():
    values = dataclasses.asdict(compose("predict", ["checkpoint=c", "source=s"]))
    del values["device"]
    with pytest.raises(DetkitError, match="device is not given"):
        typed("predict", values)


@pytest.mark.parametrize("verb", VERBS)
def test_the_settings_survive_a_round_trip_through_json(verb):
    needed = {"predict": ["checkpoint=c", "source=s"], "export": ["checkpoint=c"]}
    arguments = needed.get(verb, [])
    settings = compose(verb, arguments)
    assert typed(verb, json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_a_plugins_parts_are_choices(tmp_path, monkeypatch):
    schedules.names()  # all of detkit's own are in before the plugin's joins a copy
    monkeypatch.setattr(schedules, "_entries", dict(schedules._entries))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_plugin_of_test.py").write_text(
        textwrap.dedent("""
        from detkit.training.optimization import schedules

        @schedules.register("sawtooth_of_test")
        def sawtooth(*, teeth: int = 3):
            return lambda step, steps: (step * teeth / steps) % 1
        """)
    )
    said = ["plugins=[my_plugin_of_test]", "schedule=sawtooth_of_test", "schedule.teeth=5"]
    assert compose("train", said).schedule == {"name": "sawtooth_of_test", "teeth": 5}


def test_resuming_a_strangers_run_imports_nothing_that_was_not_named(run, monkeypatch):
    folder = run[1]
    (folder.parent / "plugin_of_a_stranger.py").write_text("raise SystemExit('executed')")
    monkeypatch.chdir(folder.parent)
    meta = json.loads((folder / "last/meta.json").read_text())
    meta["config"]["plugins"] = ["plugin_of_a_stranger"]
    (folder / "last/meta.json").write_text(json.dumps(meta))
    with pytest.raises(DetkitError, match="plugin 'plugin_of_a_stranger'"):
        compose("train", [f"resume={folder}"])
    with pytest.raises(DetkitError, match="SystemExit: executed"):
        compose("train", [f"resume={folder}", "plugins=[plugin_of_a_stranger]"])


def test_an_own_experiment_without_its_first_line_is_told_the_line(tmp_path):
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment/mine.yaml"
    file.write_text("defaults:\n  - override /model: unet\n")
    said = [f"hydra.searchpath=['file://{tmp_path}']", "experiment=mine", "dataset.root=/x"]
    with pytest.raises(DetkitError, match="lacks the line") as caught:
        compose("train", said)
    assert caught.value.file == file
    file.write_text(f"# @package _global_\n{file.read_text()}")
    assert compose("train", said).model["name"] == "unet"
    assert "mine" in page("train", said).partition("experiment=")[2].partition("\n\n")[0]
    file.write_text(f"{file.read_text()}  - override /backbone: mine\n")
    with pytest.raises(DetkitError, match="backbone/mine") as caught:
        compose("train", said)
    assert "plugins=[MODULE]" in caught.value.remedy


@pytest.mark.parametrize("said", ["training.epochs=${nowhere}", "plugins=['']", "plugins=[../x]"])
def test_what_stands_for_nothing_is_told(said):
    with pytest.raises(DetkitError):
        compose("train", [said])


@pytest.fixture
def run(tmp_path):
    """A run folder with a checkpoint of a U-Net, as far as the config goes."""
    said = ["model=unet", "dataset=shapes", "dataset.size=64", "training.epochs=7", "seed=3"]
    said += ["optimizer=adamw", "schedule=cosine", "schedule.warmup_steps=7"]
    settings = compose("train", [*said, f"run_dir={tmp_path}/${{x}}"])
    for which in ("best", "last"):
        folder = tmp_path / "run" / which
        folder.mkdir(parents=True)
        save_file({}, folder / "model.safetensors")
        config = dataclasses.asdict(settings)
        meta = {"format": 1, "config": config, "names": ["a"], "category_ids": [1]}
        (folder / "meta.json").write_text(json.dumps(meta))
    return settings, tmp_path / "run"


def test_resume_takes_the_runs_own_settings_and_what_is_said_beside_them(run):
    stored, folder = run
    settings = compose("train", [f"resume={folder}", "training.epochs=9"])
    longer = dataclasses.replace(stored.training, epochs=9)
    assert settings == dataclasses.replace(stored, resume=str(folder), training=longer)


def test_a_resumed_run_keeps_its_model(run):
    with pytest.raises(DetkitError, match="A resumed run keeps its model"):
        compose("train", [f"resume={run[1]}", "model=faster_rcnn"])
    with pytest.raises(DetkitError, match="A resumed run keeps its experiment"):
        compose("train", [f"resume={run[1]}", "experiment=small"])


def test_weights_bring_the_network_that_they_fit(run):
    settings = compose("train", [f"weights={run[1]}", "dataset.root=/x", "training.epochs=2"])
    assert settings.model["name"] == "unet"
    assert settings.backbone == run[0].backbone
    assert (settings.optimizer, settings.schedule) == (run[0].optimizer, run[0].schedule)
    assert settings.dataset["name"] == "auto"
    chosen = compose("train", [f"weights={run[1]}", "dataset.root=/x", "model=yolo_v3"])
    assert (chosen.model["name"], chosen.backbone["name"]) == ("yolo_v3", "darknet53")


def test_evaluate_takes_the_checkpoints_own_data_unless_another_is_named(run):
    own = compose("evaluate", [f"checkpoint={run[1]}", "dataset.val_images=5"]).dataset
    assert own == {**run[0].dataset, "val_images": 5}
    assert (
        compose("evaluate", [f"checkpoint={run[1]}", "dataset.root=/x"]).dataset["name"] == "auto"
    )
    assert compose("evaluate", [f"checkpoint={run[1]}", "dataset=voc"]).dataset["name"] == "voc"


def test_no_checkpoint_is_told_with_its_path(tmp_path):
    with pytest.raises(DetkitError, match="nowhere"):
        compose("evaluate", [f"checkpoint={tmp_path}/nowhere"])


@pytest.mark.parametrize(
    "argument",
    ["training.batch_size=0", "training.batch_size=-1", "training.epochs=0", "training.workers=-1"]
    + ["training.max_steps=0", "training.accumulate=0", "training.evaluate_every=0", "seed=-1"]
    + ["training.log_every=0", "training.checkpoint_every=-1", "training.clip_norm=0"]
    + ["seed=4294967296", "optimizer.lr=nan", "optimizer.lr=inf", "training.class_weights=[1,-1]"]
    + ["training.repeat_thresh=nan", "training=foo", "model=[1,2]", "model.nms_iou=nan"]
    + ["model.detections=-1", "model.nms_iou=2", "model.anchor_ratios=[0]", "model.proposals=[0,1]"]
    + ["model.anchor_sizes=[[0],[1],[2]]", "backbone.fpn_channels=0"],
)
def test_a_value_out_of_range_is_told_with_its_key(argument):
    with pytest.raises(DetkitError, match=argument.partition("=")[0]) as told:
        compose("train", [argument])
    assert told.value.remedy
    assert "Annotated" not in str(told.value)


def test_composing_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compose("train", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda f: f.stem)
def test_an_experiment_composes_and_stays_short(file):
    compose("train", [f"experiment={file.stem}"])
    lines = file.read_text().splitlines()
    assert len(lines) <= 40
    assert sum("scripts/train.py" in line for line in lines) >= 1  # its command, to copy
