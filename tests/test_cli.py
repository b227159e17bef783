"""The command line as a user meets it: exit codes, help, mistakes without a traceback."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import detkit
from detkit import __main__
from detkit.config import settings
from detkit.config.compose import home, prepare, resolved
from detkit.config.groups import GROUPS
from detkit.config.help import page
from detkit.errors import DetkitError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(monkeypatch):
    """Puts a function in the place of `detkit.commands.predict.predict`."""

    def put(function):
        module = types.ModuleType("detkit.commands.predict")
        module.predict = function
        monkeypatch.setitem(sys.modules, "detkit.commands.predict", module)

    return put


def test_a_command_gets_its_settings_and_ends_with_0(command):
    told = []
    command(told.append)
    assert __main__.main(["predict", "checkpoint=c", "source=it's (1).jpg"]) == 0
    assert told[0].source == "it's (1).jpg"


def test_a_mistake_ends_with_2_and_no_traceback(command, capsys):
    def fail(settings):
        raise DetkitError("It is cut short.", file="a.jpg", remedy="copy it again.")

    command(fail)
    assert __main__.main(["predict", "checkpoint=c", "source=a.jpg"]) == 2
    assert capsys.readouterr().err == "a.jpg: It is cut short.\n  Remedy: copy it again.\n"


def test_a_fault_of_ours_shows_its_traceback(command):
    command(lambda settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        __main__.main(["predict", "checkpoint=c", "source=a.jpg"])


def test_memory_that_ran_out_is_told_with_what_to_lower(command, capsys):
    command(lambda settings: torch.empty(10**15))
    assert __main__.main(["predict", "checkpoint=c", "source=a.jpg"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Memory ran out: ")
    assert "transforms.short_side" in told


def test_a_name_that_the_system_cannot_have_is_told(command, capsys):
    command(lambda settings: Path("a" * 300).read_text())
    assert __main__.main(["predict", "checkpoint=c", "source=a.jpg"]) == 2
    assert "shorter name" in capsys.readouterr().err


def test_a_norm_of_one_value_is_told(command, capsys):
    norm = torch.nn.BatchNorm2d(3)
    command(lambda settings: norm(torch.zeros(1, 3, 1, 1)))
    assert __main__.main(["predict", "checkpoint=c", "source=a.jpg"]) == 2
    assert "batch_size" in capsys.readouterr().err


def test_a_reader_that_leaves_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    call = [sys.executable, "-m", "detkit", "train", "--help"]
    done = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_ctrl_c_ends_with_130_and_one_line(command, capsys):
    def interrupt(settings):
        raise KeyboardInterrupt

    command(interrupt)
    assert __main__.main(["predict", "checkpoint=c", "source=a.jpg"]) == 130
    error = capsys.readouterr().err.strip()
    assert "stopped" in error
    assert "\n" not in error


def test_an_unknown_verb_is_answered_with_the_nearest(capsys):
    assert __main__.main(["trian"]) == 2
    assert "Did you mean train?" in capsys.readouterr().err


_SAID = {verb: ["dataset.root=/my data"] for verb in ("train", "evaluate", "propose", "anchors")}


@pytest.mark.parametrize("verb", __main__.VERBS)
def test_help_shows_every_setting_with_its_value_and_a_line_about_it(verb):
    text = page(verb, _SAID.get(verb, []))
    rows = re.findall(r"^  ([a-z_.\d]+)=", text, re.MULTILINE)
    composed = resolved(verb, *prepare(verb, _SAID.get(verb, [])))
    assert set(rows) >= set(_leaves(composed, ""))
    if "device" in composed:
        assert re.search(r"^  device=auto +auto \(CUDA", text, re.MULTILINE)


def _leaves(values, prefix):
    for key, value in values.items():
        if hasattr(value, "items") and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif (prefix or key not in GROUPS) and not (prefix and key == "name"):
            yield f"{prefix}{key}"


def test_help_follows_the_choices():
    text = page("train", ["model=yolo_v3", "backbone=googlenet_fpn", "dataset=voc"])
    assert "model=yolo_v3" in text
    assert re.search(r"backbone\.fpn_channels=256 +\S", text)  # from the builder's docstring
    assert "experiment=null" in text
    assert re.search(r"^  blood_cells +Faster R-CNN on a small trunk", text, re.MULTILINE)
    assert re.search(r"^  small_unet +\S", text, re.MULTILINE)


def test_the_verbs_are_those_of_the_settings_and_scripts():
    assert set(__main__.VERBS) == set(settings.VERBS)
    for verb in __main__.VERBS:
        assert (home(verb) / f"{verb}.yaml").exists()
        script = (ROOT / "scripts" / f"{verb}.py").read_text()
        assert f'main(["{verb}", *sys.argv[1:]])' in script


def _python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, **options
    )


@pytest.mark.parametrize("arguments", [["-m", "detkit"], ["-m", "detkit", "--help"]])
def test_without_a_verb_the_verbs_are_told_at_once(arguments):
    done = _python("-X", "importtime", *arguments, cwd=ROOT)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in __main__.VERBS)
    assert not re.search(r"\| +(torch|hydra)$", done.stderr, re.MULTILINE)


def test_the_version_is_told():
    done = _python("-m", "detkit", "--version", cwd=ROOT)
    assert done.stdout.strip() == f"detkit {detkit.__version__}"


def test_a_script_is_the_same_command(tmp_path):
    done = _python(str(ROOT / "scripts" / "predict.py"), "sorce=x", cwd=tmp_path,
                   env={"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 2
    assert "Did you mean source?" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
