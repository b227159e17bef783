import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detkit import checkpoint, restore
from detkit.backbones.norms import freeze_norms
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.model import models
from detkit.structures import Classes

CONFIG = {
    "model": {"name": "yolo_v3", "neck_width": 1 / 64},
    "backbone": {"name": "resnet18", "width": 0.125},
}
NAMES = ["cat", "dog", "owl"]


def meta(names: list[str] = NAMES, config: dict = CONFIG) -> dict:
    return {"config": config, "names": names, "category_ids": list(range(1, len(names) + 1))}


def model(seed: int, names: list[str] = NAMES, config: dict = CONFIG) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build(config["model"], config["backbone"], Classes.numbered(len(names)))


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with a best and a last checkpoint that differ."""
    for seed, name in enumerate(("best", "last")):
        checkpoint.save(tmp_path / "run" / name, model(seed).state_dict(), meta())
    return tmp_path / "run"


def test_a_model_comes_back_as_it_was_saved(run):
    for place in (run, run / "best", run / "best" / "model.safetensors"):
        loaded, told = restore.load_model(place)
        assert not loaded.training
        assert told["names"] == NAMES
        wanted = model(0).state_dict()
        assert all(torch.equal(v, wanted[k]) for k, v in loaded.state_dict().items())


def test_last_is_found_where_it_is_preferred(run):
    assert checkpoint.find(run) == run / "best" / "model.safetensors"
    assert checkpoint.find(run, "last") == run / "last" / "model.safetensors"


def test_frozen_norms_come_back_frozen(tmp_path):
    frozen = model(0)
    assert freeze_norms(frozen.backbone)
    checkpoint.save(tmp_path / "best", frozen.state_dict(), meta())
    loaded, _ = restore.load_model(tmp_path)
    assert not [m for m in loaded.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert loaded.state_dict().keys() == frozen.state_dict().keys()


def test_tensors_that_share_memory_are_saved(tmp_path):
    shared = torch.arange(6.0)
    given = {"a": shared, "b": shared.view(2, 3), "c": shared[3:], "d": shared.view(2, 3).T}
    checkpoint.save(tmp_path / "best", given, meta())
    saved = checkpoint.read_tensors(tmp_path / "best" / "model.safetensors")
    assert all(torch.equal(saved[key], value) for key, value in given.items())


@pytest.mark.parametrize("failing", ["save_file", "write_json"])
def test_a_failure_while_saving_leaves_the_old_checkpoint(run, monkeypatch, failing):
    before = checkpoint.read_tensors(run / "last" / "model.safetensors")

    def fail(*arguments):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, failing, fail)
        with pytest.raises((OSError, DetkitError), match="No space"):
            checkpoint.save(run / "last", model(9).state_dict(), meta())
    after = checkpoint.read_tensors(run / "last" / "model.safetensors")
    assert all(torch.equal(before[key], value) for key, value in after.items())
    checkpoint.save(run / "last", model(9).state_dict(), meta())  # and the next one succeeds
    assert sorted(p.name for p in run.iterdir()) == ["best", "last"]


def test_a_kill_between_the_renames_leaves_the_old_checkpoint(run, monkeypatch):
    rename = Path.rename

    def die(self, target):
        rename(self, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(run / "last", model(9).state_dict(), meta())
    assert not (run / "last").exists()
    found = checkpoint.find(run, "last")
    wanted = model(1).state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in checkpoint.read_tensors(found).items())
    checkpoint.save(run / "last", model(9).state_dict(), meta())
    assert sorted(p.name for p in run.iterdir()) == ["best", "last"]


WRITER = """
import sys, torch
from pathlib import Path
from detkit import checkpoint, restore
print("ready", flush=True)
for n in range(10**6):
    tensors = {str(i): torch.full((2000,), n) for i in range(20)}
    told = {"config": {}, "names": [], "category_ids": [], "n": n}
    checkpoint.save(Path(sys.argv[1]) / "last", tensors, told, (tensors, {"step": n}))
"""


def test_a_kill_at_any_moment_leaves_one_whole_checkpoint(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
    )
    process.stdout.readline()
    for pause in (0.3, 0.03, 0.07, 0.011, 0.13):
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGSTOP)  # the files are as a kill here would leave them
        file = checkpoint.find(tmp_path, "last")
        n = checkpoint.read_meta(file)["n"]
        tensors, plain = checkpoint.read_resume(tmp_path / "last")
        for held in (tensors, checkpoint.read_tensors(file)):
            assert len(held) == 20
            assert all(bool((t == n).all()) for t in held.values())
        assert plain["step"] == n
        os.kill(process.pid, signal.SIGCONT)
    process.kill()
    process.wait()


def test_what_fits_is_taken_and_the_head_is_made_anew(run):
    names = ["a", "b", "c", "d", "e"]
    new, old = model(5, names), checkpoint.read_tensors(run / "best" / "model.safetensors")
    fresh = {k: v.clone() for k, v in new.state_dict().items()}
    report = restore.transfer(new, run, names)
    assert {key.split(".")[0] for key in report["new"]} < {k.split(".")[0] for k in old}
    assert set(report["taken"]) | set(report["new"]) == set(old)
    assert report["new"] == report["unused"]
    for key, value in new.state_dict().items():
        assert torch.equal(value, old[key] if key in report["taken"] else fresh[key])
    assert any(key.startswith("backbone.") for key in report["taken"])
    assert not any(key.startswith("backbone.") for key in report["new"])


def test_other_classes_of_the_same_number_get_new_heads(run):
    same = restore.transfer(model(5), run, NAMES)
    assert same["new"] == []
    other = restore.transfer(model(5), run, ["dog", "cat", "owl"])
    more = restore.transfer(model(5, [*NAMES, "x"]), run, [*NAMES, "x"])
    assert other["new"] == more["new"] != []


@pytest.mark.parametrize("name", ["faster_rcnn", "unet"])
def test_the_heads_of_other_models_are_told_apart_too(tmp_path, name):
    config = {**CONFIG, "model": {"name": name}}
    if name == "faster_rcnn":
        backbone = {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8}
        config = {"model": {"name": name, "head_channels": 8}, "backbone": backbone}
    checkpoint.save(tmp_path / "best", model(0, config=config).state_dict(), meta(config=config))
    report = restore.transfer(model(1, config=config), tmp_path, ["x", "y", "z"])
    assert 2 <= len(report["new"]) <= 4
    assert len(report["taken"]) > 50


def frozen_part(net: torch.nn.Module) -> list[bool]:
    norms = [m for m in net.backbone.modules() if "BatchNorm" in type(m).__name__]
    return [not isinstance(m, torch.nn.BatchNorm2d) for m in norms]


@pytest.mark.parametrize("file_frozen", [True, False])
def test_norms_stay_as_they_were_asked_for(run, tmp_path, file_frozen):
    trained = model(0)
    if file_frozen:
        freeze_norms(trained.backbone)
        checkpoint.save(tmp_path / "best", trained.state_dict(), meta())
    source = tmp_path if file_frozen else run
    for asked in ({"norm": "train"}, {"norm": "frozen"}, {"norm": "train", "frozen_stages": 2}):
        config = {**CONFIG, "backbone": CONFIG["backbone"] | asked}
        new = model(5, config=config)
        before = frozen_part(new)
        report = restore.transfer(new, source, NAMES, asked["norm"])
        assert frozen_part(new) == before
        assert "backbone.bn1.running_mean" in report["taken"]
    auto = model(5)
    restore.transfer(auto, source, NAMES)
    assert set(frozen_part(auto)) == {file_frozen}


def test_class_weights_of_the_checkpoint_do_not_bind_the_new_classes(tmp_path):
    config = {**CONFIG, "model": {**CONFIG["model"], "class_weights": [1.0, 2.0, 3.0]}}
    checkpoint.save(tmp_path / "best", model(0).state_dict(), meta(config=config))
    assert restore.transfer(model(5, ["x"]), tmp_path, ["x"])["new"]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
def test_a_state_dict_of_pytorchs_is_transferred(tmp_path, prefix):
    source = model(1).state_dict()
    torch.save({f"{prefix}{key}": value for key, value in source.items()}, tmp_path / "w.pth")
    new = model(2)
    report = restore.transfer(new, tmp_path / "w.pth", NAMES)
    assert not report["new"]
    assert report["stripped"] == prefix
    assert all(torch.equal(value, source[key]) for key, value in new.state_dict().items())


def test_a_state_dict_where_a_checkpoint_belongs_is_named(tmp_path):
    torch.save(model(1).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DetkitError, match="PyTorch's") as caught:
        checkpoint.read_tensors(tmp_path / "w.safetensors")
    assert ".pth" in caught.value.remedy
    (tmp_path / "w.safetensors").rename(tmp_path / "w.pth")
    assert restore.transfer(model(2), tmp_path / "w.pth", NAMES)["taken"]  # as the remedy has it


def test_transferring_does_not_move_the_random_state(run):
    new = model(5)
    before = torch.get_rng_state()
    restore.transfer(new, run, ["x", "y", "z"])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_safetensors_file_alone_is_transferred(run, tmp_path):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "best" / "model.safetensors").read_bytes())
    assert restore.transfer(model(5), alone, ["x", "y", "z"])["new"] == []


def spoil(run: Path, how: str) -> None:
    file, told = run / "best" / "model.safetensors", run / "best" / "meta.json"
    if how == "cut":
        file.write_bytes(file.read_bytes()[:5000])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "pickle":
        torch.save({"a": torch.ones(2)}, file)
    elif how == "no meta":
        told.unlink()
    elif how == "no JSON":
        told.write_text('{"config": {')
    else:
        values = json.loads(told.read_text())
        if how == "no names":
            del values["names"]
        elif how == "other names":
            values |= {"names": ["a", "b"], "category_ids": [1, 2]}
        elif how == "ids":
            values["category_ids"] = [1]
        elif how == "newer":
            values["format"] = 99
        elif how == "other model":
            values["config"] = {**CONFIG, "model": {"name": "unet"}}
        elif how == "unknown model":
            values["config"] = {**CONFIG, "model": {"name": "yolo_v33"}}
        elif how == "a list":
            values = [1]
        told.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("cut", "safetensors"),
        ("empty", "safetensors"),
        ("pickle", "safetensors"),
        ("no meta", "meta.json"),
        ("no JSON", "JSON"),
        ("no names", "lacks names"),
        ("a list", "lacks"),
        ("other names", "2 classes"),
        ("ids", "1 category id"),
        ("newer", "format is 99"),
        ("other model", "not those of unet"),
        ("unknown model", "yolo_v3"),
    ],
)
def test_a_spoilt_checkpoint_is_told(run, how, told):
    spoil(run, how)
    with pytest.raises(DetkitError, match=told) as error:
        restore.load_model(run)
    assert "Remedy" in str(error.value)


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_path_without_a_checkpoint_is_told(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DetkitError, match="checkpoint"):
        checkpoint.find(tmp_path / place)


def test_nothing_in_a_file_is_executed(run):
    """A pickle under the file's name is refused before it is looked into."""

    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('executed')",))

    import pickle

    (run / "best" / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DetkitError):
        restore.load_model(run)


def test_a_checkpoint_of_the_first_format_is_read_under_todays_names(tmp_path):
    """Before the RoI head was an extractor and a predictor their layers had shorter names."""
    config = {
        "model": {"name": "faster_rcnn", "head_channels": 8},
        "backbone": {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8},
    }
    model = build(config["model"], config["backbone"], Classes.numbered(2)).eval()
    old = {now: before for before, now in models.part("faster_rcnn").renamed.items()}
    state = {
        next((old[n] + key.removeprefix(n) for n in old if key.startswith(n)), key): value
        for key, value in model.state_dict().items()
    }
    assert "head.tail.fc6.weight" in state
    meta = {"config": config, "names": ["a", "b"], "category_ids": [1, 2]}
    checkpoint.save(tmp_path / "best", state, meta)
    file = tmp_path / "best/meta.json"
    file.write_text(file.read_text().replace('"format": 2', '"format": 1'))
    again, _ = restore.load_model(tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    other = build(config["model"], config["backbone"], Classes.numbered(2))
    taken = restore.transfer(other, tmp_path, ["a", "b"])
    assert not taken["unused"]
    assert not taken["new"]
