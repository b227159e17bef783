"""Every command of README.md and its pages runs as it stands where its placeholders are real.

What is added are sizes. Commands that install are those of CI; those that download, or need what is
not here, compose.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import folders
import numpy as np
import pytest
import readme
import torch
import torchvision

from detkit.config import compose, groups
from detkit.config.help import page

ALL = list(dict.fromkeys(command for _, command in readme.commands()))
TEXT = "\n".join(page.read_text() for page in readme.PAGES)
INSTALL = [command for command in ALL if "pip install" in command]
LONG = ("allow_download=true", "experiment=", "benchmark.py")  # or need what is not here
FIRST = readme.of_section("Your own data", "dataset.root=PATH")  # the run that others go on with
COMPOSED = [c for c in ALL if c != FIRST and any(mark in c for mark in LONG)]
RUN = [
    command.rpartition("&& ")[2]
    for command in ALL
    if command not in COMPOSED and not command.endswith("pytest")
]
ADDED = {
    "train": "device=cpu training.max_steps=2 training.workers=0 backbone.width=0.125"
    " transforms.short_side=48 transforms.long_side=64",
    "resume": "device=cpu training.max_steps=4",
    "evaluate": "device=cpu workers=0",
    "predict": "device=cpu score_thresh=0.001",
    "explain": "threads=1",
}
PYTHON = (  # what makes the call of the page small
    'max_steps=2, workers=0, device="cpu", backbone={"width": 0.125},'
    ' transforms={"short_side": 48, "long_side": 64}'
)
DRAWN = "dataset.train_images=8 dataset.val_images=4 dataset.size=64"


def with_sizes(command: str, number: int) -> str:
    """The command, made small; what it writes has its number in the name."""
    verb = "resume" if "resume=" in command else Path(shlex.split(command)[1]).stem
    verb = "train" if command.startswith("torchrun") else verb
    command = command.replace("run_dir=PATH", "").replace("output=DIR", "")
    command = command.replace("source=PATH", "source=PATH/JPEGImages")
    added = [command, ADDED[verb]]
    if verb == "train":
        own = any(f"{key}=" in command for key in ("dataset.root", "weights"))
        added += [] if own else [DRAWN]
        added += ["run_dir=RUN" if command == FIRST else f"run_dir=run{number}"]
    elif verb != "resume":
        added += [f"output=out{number}"]
    return " ".join(added)


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, dict[str, readme.Done]]:
    """The folder in which all commands ran, in the README's order, and how they ended."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "scripts").symlink_to(readme.ROOT / "scripts")
    pictures = folders.three()
    stems = [picture.stem for picture in pictures]
    lists = dict.fromkeys(("train", "val", "test"), stems)
    for place in ("PATH", "VOCdevkit/VOC2007"):
        folders.write_voc(folder / place, pictures, lists)
    folders.save_image(folder / "photo.jpg", 60, 80)
    (folder / "instances_val2017.json").write_text(json.dumps(folders.coco_dict(pictures)))
    dogs = folders.coco_dict(pictures)["categories"]
    dog = next(kind["id"] for kind in dogs if kind["name"] == "dog")
    row = {"image_id": 1, "category_id": dog, "bbox": [0, 0, 60, 40], "score": 0.9}
    (folder / "results.json").write_text(json.dumps([row]))
    (folder / "COMP4_FOLDER").mkdir()
    comp4 = folder / "COMP4_FOLDER" / "comp4_det_test_dog.txt"
    comp4.write_text("a 0.9 1 1 60 40\n")  # 1-based and inclusive
    torch.save(torchvision.models.resnet18().state_dict(), folder / "FILE")
    lines = {command: with_sizes(command, number) for number, command in enumerate(RUN)}
    plain = [command for command in RUN if command.startswith("python ")]
    done = dict(
        zip(plain, readme.together((folder, lines[command]) for command in plain), strict=True)
    )
    for command in set(RUN) - set(plain):
        done[command] = readme.shell(lines[command], folder)
    return folder, done


@pytest.mark.parametrize("command", RUN)
def test_a_command_runs_as_it_stands(ran, command):
    status, output = ran[1][command]
    assert status == 0, output
    assert "done: " in output.splitlines()[-1]


def test_what_the_commands_did(ran):
    folder, done = ran
    out = {command: folder / f"out{number}" for number, command in enumerate(RUN)}
    assert "going on after step 2" in done["python scripts/train.py resume=RUN"].output
    (weights,) = (command for command in RUN if " weights=RUN" in command)
    assert "tensors taken" in done[weights].output
    (torchrun,) = (command for command in RUN if command.startswith("torchrun"))
    assert "2 processes" in done[torchrun].output
    assert done[torchrun].output.count("done: ") == 1
    for sort in ("dataset=coco", "dataset=voc"):  # one of one dog found, exactly
        (command,) = (c for c in RUN if "predictions=" in c and sort in c)
        figures = json.loads((out[command] / "results.json").read_text())
        assert figures["coco/AP/dog"] == pytest.approx(1)
        assert figures["voc/AP/dog"] == pytest.approx(1)
    (predict,) = (command for command in RUN if "predict.py checkpoint" in command)
    assert {file.name for file in out[predict].iterdir()} == {
        *("a.jpg", "b.jpg", "c.jpg", "predictions.json", "predictions.csv"),
    }
    (explain,) = (command for command in RUN if "explain.py" in command)
    assert "<img" in (out[explain] / "index.html").read_text()


def test_the_python_lines_run(ran, monkeypatch):
    monkeypatch.chdir(ran[0])
    code = "\n".join(line for _, line in readme.commands("python"))
    code, replaced = re.subn(r'load\("runs/[^"]+"\)', 'load("RUN")', code)
    assert replaced == 1
    array = np.zeros((60, 80, 3), np.uint8)
    names = {"array": array}
    code = code.replace('run_dir="mine"', f'run_dir="mine", {PYTHON}')
    exec(compile(code, "README.md", "exec"), names)
    assert names["picture"].shape == array.shape
    assert not array.any()


def test_what_installs_is_what_ci_does():
    script = re.sub(r" (-q+|--quiet)\b", "", (readme.ROOT / ".ci" / "run").read_text())
    extra = [command for command in INSTALL if ".[test]" in command]
    assert extra == ["pip install -e '.[test]' && pytest"]
    assert all(re.search(rf"^{re.escape(part)}$", script, re.M) for part in extra[0].split(" && "))
    assert set(INSTALL) == {"pip install -e . && python scripts/train.py", *extra}


def test_every_extra_that_is_named_exists():
    named = {extra for said in re.findall(r"\.\[([\w,]+)\]'", TEXT) for extra in said.split(",")}
    project = tomllib.loads((readme.ROOT / "pyproject.toml").read_text())["project"]
    assert {"test"} < named <= set(project["optional-dependencies"])


@pytest.mark.parametrize("command", COMPOSED)
def test_what_needs_more_than_is_here_composes(command):
    script, *argv = shlex.split(command)[1:]
    verb = Path(script).stem
    assert (readme.ROOT / script).is_file()
    settings = compose(verb, argv)
    if "allow_download" in command:
        assert settings.allow_download
        assert settings.backbone["weights"] == "imagenet"


EXPERIMENTS = sorted((readme.ROOT / "conf" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_the_command_in_an_experiments_header_chooses_it(file):
    lines = re.findall(r"^#\s+(python scripts/train\.py.*)$", file.read_text(), re.M)
    assert lines, "the header has no command"
    for line in lines:
        settings = compose("train", shlex.split(line)[2:])
        assert settings == compose("train", [*shlex.split(line)[2:], f"experiment={file.stem}"])


def inline_settings() -> list[str]:
    """`key=value` and `key=` of the running text."""
    text = re.sub(r"```.*?```", "", TEXT, flags=re.S)
    words = [word for said in re.findall(r"`([^`]+)`", text) for word in said.split(" ")]
    return [word for word in words if re.match(r"[a-z_.]+=", word) and word != "key=value"]


def test_every_setting_that_the_text_names_exists():
    verbs = ("train", "evaluate", "predict", "benchmark")
    known = {verb: set(keys(verb)) for verb in verbs}
    of_choices = {
        f"{group}.{key}"
        for group in groups.GROUPS
        for name in groups.choices(group)
        for key in groups.parameters(group, name)
    }
    said = inline_settings()
    assert len(said) > 15
    for word in said:
        key, _, value = word.partition("=")
        having = [verb for verb in verbs if key in known[verb]]
        assert having or key in of_choices, f"no verb has {key}"
        if not having:  # a setting of another choice than the default one
            continue
        if key == "plugins" or key in ("source", "checkpoint"):
            continue
        for one in re.split(r"[|,]", value) if value and not value.isupper() else []:
            compose(having[0], [f"{key}={one}"])


def keys(verb: str) -> list[str]:
    said = {"train": ["dataset.root=PATH"], "evaluate": ["dataset.root=PATH"]}.get(verb, [])
    return re.findall(r"^ *([a-z_.\d]+)=", page(verb, said), re.M)
