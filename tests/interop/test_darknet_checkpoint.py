"""Darknet's three files as a checkpoint: found together, refused by name, written again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import detkit
from detkit import checkpoint, restore
from detkit.__main__ import main
from detkit.backbones.build import self_contained
from detkit.commands.export import export
from detkit.config import compose
from detkit.errors import DetkitError
from detkit.inference.predictor import Predictor
from detkit.interop import darknet_checkpoint
from detkit.models.build import build
from detkit.predictions import Detections
from detkit.structures import Classes

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests/parity/darknet_detections.json"
NAMES = ["black cat", "dog", "owl"]
TRANSFORMS = {"name": "darknet", "width": 96, "height": 64, "letterbox": True}


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder of model=darknet_cfg: detkit's own .cfg, narrow, with statistics of its own."""
    torch.manual_seed(0)
    backbone = {"name": "darknet_cfg", "width": 0.125}
    model = build({"name": "darknet_cfg"}, backbone, Classes.of(NAMES))
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.3)
    config = {
        "model": {"name": "darknet_cfg"},
        "backbone": self_contained(backbone),
        "transforms": TRANSFORMS,
    }
    meta = {"config": config, "names": NAMES, "category_ids": [4, 5, 6]}
    checkpoint.save(tmp_path / "run/best", model.state_dict(), meta)
    return tmp_path / "run"


def picture(height: int = 150, width: int = 120) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def exported(run: Path, output: Path, **changed: str) -> dict:
    given = {"checkpoint": run, "output": output, **changed}
    return export(compose("export", [f"{key}={value}" for key, value in given.items()]))


def load(path: Path, **given) -> Predictor:
    return detkit.load(path, "cpu", "fp32", 0.0, **given)


def test_what_is_exported_reads_back_equal(run, tmp_path, capsys):
    files = exported(run, tmp_path / "out.v1")["files"]
    assert [Path(f).name for f in files] == ["out.v1.cfg", "out.v1.weights", "out.v1.names"]
    assert "done: darknet_cfg, 3 classes" in capsys.readouterr().out
    ours, theirs = load(run), load(tmp_path / "out.v1/out.v1.weights")
    state = ours.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in theirs.model.state_dict().items())
    assert theirs.names == tuple(NAMES)
    expected, found = ours(picture()), theirs(picture())
    assert len(found) > 5
    for key in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(found, key), getattr(expected, key)), key
    # and once more from there
    exported(tmp_path / "out.v1/out.v1.weights", tmp_path / "b/out.v1")
    for file in files:
        assert (tmp_path / "b/out.v1" / Path(file).name).read_bytes() == Path(file).read_bytes()


CONV = "[convolutional]\nbatch_normalize=1\nfilters=6\nsize=3\nstride=8\npad=1\nactivation=leaky\n"
LAST = "[convolutional]\nfilters=16\nsize=1\nstride=1\nactivation=linear\n"
# as yolo9000.cfg ends
REGION = (
    "[region]\nanchors=.3,.4, 1,.6\nclasses=3\nnum=2\nsoftmax=1\ntree=data/9k.tree\nmap=no.map\n"
)
TREE = f"[net]\nwidth=96\nheight=64\n{CONV}{CONV}{LAST}{REGION}"


def test_weights_over_a_tree_of_classes_are_read_and_written_with_it(tmp_path):
    parents = (-1, 0, 0)
    classes = Classes(("big cat", "lion", "lynx"), (1, 2, 3), parents)
    backbone = {"name": "darknet_cfg", "text": TREE}
    torch.manual_seed(0)
    model = build({"name": "darknet_cfg"}, backbone, classes)
    for parameter in model.backbone.layers["2"].parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    config = {"model": {"name": "darknet_cfg"}, "backbone": backbone, "transforms": TRANSFORMS}
    meta = {"config": config, "names": list(classes.names), "category_ids": [1, 2, 3]}
    checkpoint.save(tmp_path / "run/best", model.state_dict(), {**meta, "parents": [-1, 0, 0]})
    folder = tmp_path / "cats"
    files = exported(tmp_path / "run", folder)["files"]
    assert [Path(file).suffix for file in files] == [".cfg", ".weights", ".names", ".tree"]
    assert (folder / "cats.tree").read_text() == "big_cat -1\nlion 0\nlynx 0\n"
    text = (folder / "cats.cfg").read_text()
    assert "tree=cats.tree" in text
    assert "map=" not in text
    ours, again = load(tmp_path / "run"), load(folder / "cats.weights")
    assert again.model.class_list == classes
    expected, found = ours(picture()), again(picture())
    assert len(expected) > 3
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.labels, expected.labels)
    for suffix in ("tree", "names"):
        (folder / f"cats.{suffix}").rename(tmp_path / f"felis.{suffix}")
    with pytest.raises(DetkitError, match=r"form a tree, but there is no cats\.tree"):
        load(folder / "cats.weights")
    for suffix in ("tree", "names"):
        named = load(folder / "cats.weights", names=tmp_path / f"felis.{suffix}")
        assert named.names == classes.names
    (tmp_path / "felis.names").unlink()
    (tmp_path / "felis.tree").write_text("cat -1\n")
    with pytest.raises(DetkitError, match="It has 1 classes, but the network 3"):
        load(folder / "cats.weights", names=tmp_path / "felis.tree")


def test_a_description_that_is_none_of_detkits_is_named_before_its_names(run, tmp_path):
    exported(run, tmp_path / "net")
    cfg = tmp_path / "net/net.cfg"
    line = cfg.read_text().splitlines().index("[upsample]") + 1
    cfg.write_text(cfg.read_text().replace("[upsample]", "[local]", 1))
    (tmp_path / "net/net.names").unlink()
    with pytest.raises(DetkitError, match=rf"(?s)net\.cfg, line {line}, .*\[local\].*yolo_v1"):
        load(tmp_path / "net/net.weights")


def test_real_files_are_exported_byte_for_byte(shared, tmp_path):
    source = shared / "darknet/MobileNetV2-YOLOv3-Nano-voc.weights"
    exported(source, tmp_path / "out")
    assert (tmp_path / "out/out.weights").read_bytes() == source.read_bytes()
    assert load(tmp_path / "out/out.weights").names == load(source).names


def test_a_run_that_no_cfg_describes_is_not_exported(run, tmp_path):
    file = run / "best/meta.json"
    meta = json.loads(file.read_text())
    meta["config"]["model"]["nms_iou"] = 0.6
    file.write_text(json.dumps(meta))
    model, meta = restore.load_model(run)
    _, notes = darknet_checkpoint.write(model, meta, tmp_path / "noted")
    assert notes == ["model.nms_iou=0.6 is not in these files"]
    with pytest.raises(DetkitError, match=r"(?s)noted\.cfg.*A file of that name is there"):
        darknet_checkpoint.write(model, meta, tmp_path / "noted")
    for change, message in (
        ({"names": ["a", "b", "c "]}, "The class 'c ' is no line"),
        ({"config": {**meta["config"], "transforms": {"name": "square"}}}, "transforms=square"),
    ):
        with pytest.raises(DetkitError, match=message):
            darknet_checkpoint.write(model, {**meta, **change}, tmp_path / "other")
    other = build(
        {"name": "tiny_yolo_v3", "neck_width": 0.125},
        {"name": "darknet_tiny", "width": 0.125},
        Classes.of(NAMES),
    )
    config = {"model": {"name": "tiny_yolo_v3"}}
    with pytest.raises(DetkitError, match=r"(?s)tiny_yolo_v3 is no network.*model=darknet_cfg"):
        darknet_checkpoint.write(other, {"config": config}, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_files_are_found_beside_the_weights_or_where_they_are_named(run, tmp_path):
    folder = tmp_path / "net"
    exported(run, folder)
    weights, cfg, names = (folder / f"net.{suffix}" for suffix in ("weights", "cfg", "names"))
    other = folder / "classes.names"
    names.rename(other)
    (folder / "long.names").write_text("a\nb\nc\nd\n")
    (folder / "binary.names").write_bytes(b"\xff\xfe\x00")
    assert load(weights).names == tuple(NAMES)
    (folder / "second.names").write_text("x\ny\nz\n")
    with pytest.raises(DetkitError, match=r"(?s)not one alone has 3 .*names, second.*names=FILE"):
        load(weights)
    assert load(weights, names=other).names == tuple(NAMES)
    with pytest.raises(DetkitError, match="It has 4 names, but the network 3 classes"):
        load(weights, names=folder / "long.names")
    (folder / "long.names").rename(names)
    with pytest.raises(DetkitError, match=r"(?s)net\.names: It has 4 names, .* 3 classes"):
        load(weights)
    names.write_text("a\nb\na\n")
    with pytest.raises(DetkitError, match=r"(?s)line 3: Two classes are called 'a'"):
        load(weights)
    cfg.rename(tmp_path / "elsewhere.cfg")
    with pytest.raises(DetkitError, match=r"(?s)net\.cfg is not beside it.*cfg=FILE"):
        load(weights, names=other)
    assert len(load(weights, names=other, cfg=tmp_path / "elsewhere.cfg")(picture()))


def test_a_cut_file_and_another_networks_are_refused(run, tmp_path):
    exported(run, tmp_path / "net")
    weights = tmp_path / "net/net.weights"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    with pytest.raises(DetkitError, match=f"{len(whole) - 4:,} bytes; {len(whole):,} are those"):
        load(weights)
    with pytest.raises(DetkitError, match=r"(?s)no weights.*\(net\.weights\)"):
        load(tmp_path / "net/net.cfg")
    weights.write_bytes(b"")
    with pytest.raises(DetkitError, match="does not begin with a Darknet version"):
        load(weights)


def test_cfg_and_names_are_no_settings_of_a_run(run, tmp_path):
    with pytest.raises(DetkitError, match=r"names=a\.names is of a foreign checkpoint"):
        load(run, names="a.names")


@pytest.mark.parametrize(
    ("option", "given", "letterbox"),
    [("", None, False), ("letter_box=1", None, True), ("letter_box=1", False, False)],
)
def test_pictures_are_stretched_unless_asked(run, tmp_path, option, given, letterbox):
    exported(run, tmp_path / "net")
    cfg = tmp_path / "net/net.cfg"
    cfg.write_text(cfg.read_text().replace("letter_box=1", option))
    predictor = load(tmp_path / "net/net.weights", letterbox=given)
    assert predictor.meta["config"]["transforms"]["letterbox"] is letterbox
    sample = predictor.transform(picture(150, 120))
    assert sample.image.shape == (64, 96, 3)
    assert sample.resized == ((64, 51) if letterbox else (64, 96))
    assert (sample.top, sample.left) == ((0, 22) if letterbox else (0, 0))


def test_weights_go_over_to_other_classes(run, tmp_path):
    exported(run, tmp_path / "net")
    file = tmp_path / "net/net.weights"
    whole, meta = restore.load_model(file)
    new = build({"name": "darknet_cfg"}, meta["config"]["backbone"], Classes.of(["a", "b", "c"]))
    report = restore.transfer(new, file, ["a", "b", "c"])
    assert {key.split(".")[2] for key in report["new"]} <= set(map(str, whole.backbone.layers))
    assert len(report["new"]) == 2 * 3  # weight and bias in front of each output
    key = "backbone.layers.0.0.weight"
    assert torch.equal(new.state_dict()[key], whole.state_dict()[key])


def rows_of(found: Detections, least: float) -> list[tuple[str, float, list[float]]]:
    sure = found.filter(least)
    names = [sure.names[label] for label in sure.labels]
    return list(zip(names, sure.scores.tolist(), sure.boxes.tolist(), strict=True))


@pytest.mark.parametrize("case", sorted(json.loads(FIXTURE.read_text())))
def test_detections_of_published_files_are_opencvs(shared, case):
    name, how = case.split()
    region = name.startswith("yolo-lite")  # OpenCV suppresses those at 0.4 before
    predictor = load(shared / f"darknet/{name}.weights", letterbox=how == "letterbox")
    expected: dict[str, list] = {}
    for file, category, score, (x, y, w, h) in json.loads(FIXTURE.read_text())[case]:
        expected.setdefault(file, []).append((category, score, [x, y, x + w, y + h]))
    assert len(expected) > 4
    for file, wanted in expected.items():
        found = rows_of(predictor(shared / "coco-mini/images/val" / file), 0.28)
        for category, score, box in wanted:
            same = [row for row in found if row[0] == category and abs(row[1] - score) < 0.02]
            assert same, (file, category, score)
            ious = box_iou(torch.tensor([box]), torch.tensor([row[2] for row in same]))
            assert ious.max() > 0.97, (file, category, score)
        sure = sum(row[1] > 0.32 for row in found)
        assert region or sure <= len(wanted), file


def test_predict_detects_at_once_in_a_process_of_its_own(shared, tmp_path):
    (tmp_path / "two").mkdir()
    for name in ("000000047112.jpg", "000000160012.jpg"):
        shutil.copy(shared / "coco-mini/images/val" / name, tmp_path / "two" / name)
    weights = shared / "darknet/yolo-fastest-1.1-xl.weights"
    argv = [f"checkpoint={weights}", f"source={tmp_path / 'two'}", f"output={tmp_path / 'out'}"]
    names = f"names={shared / 'darknet/coco.names'}"
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "scripts/predict.py",
            *argv,
            names,
            "device=cpu",
            "score_thresh=0.3",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "predicting with darknet_cfg (darknet_cfg, 80 classes) on 2 images" in done.stdout
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    wanted = json.loads(FIXTURE.read_text())["yolo-fastest-1.1-xl stretched"]
    pictures = ("000000047112.jpg", "000000160012.jpg")
    classes = {row[1] for row in wanted if row[0] in pictures and row[2] > 0.55}
    assert classes
    assert classes <= {row["category"] for row in found}
    assert (tmp_path / "out/000000047112.jpg").is_file()


def test_evaluate_asks_for_the_data(shared, tmp_path, capsys):
    weights = shared / "darknet/yolo-fastest-1.1.weights"
    assert main(["evaluate", f"checkpoint={weights}", f"output={tmp_path}"]) == 2
    assert "There is no ground truth" in capsys.readouterr().err
