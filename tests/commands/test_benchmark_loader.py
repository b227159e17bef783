"""Both loaders are given the same work, and what is reported is what was measured."""

import json
import subprocess
import sys
from types import SimpleNamespace

import folders
import pytest
import torch
from torchvision.ops import box_iou

from detkit.__main__ import main
from detkit.commands import benchmark_loader
from detkit.data.loading import Dataset
from detkit.data.open import open_dataset
from detkit.data.transforms import build
from detkit.errors import DetkitError


@pytest.fixture
def root(tmp_path):
    """Pictures of several sizes, one without objects."""
    pictures = [
        *folders.three(),
        folders.Picture("d", 45, 30, [folders.Thing("owl", (3, 4, 20, 40))]),
    ]
    return folders.write_voc(tmp_path / "voc", pictures, {"train": "abcd", "val": "abcd"})


def test_both_sides_make_the_same_batches(root, tmp_path):
    settings = SimpleNamespace(height=60, width=100)
    records = open_dataset({"name": "voc", "root": str(root)}, "train").subset([0, 1, 3])
    peer = benchmark_loader.coco_detection(records, tmp_path / "instances.json")
    ours = benchmark_loader.our_side(records, settings, flip=0.0)
    theirs = benchmark_loader.their_side(peer, settings, flip=0.0)
    for indices in ([0, 1], [2]):
        one, other = ours(0, indices), theirs(0, indices)
        assert one.shape == other.shape
        assert (one - other).abs().mean() < 0.1  # noise, resized by two libraries
    preset = {"name": "detection", "short_side": None, "long_side": None, "flip": 0.0}
    dataset = Dataset(records, build(preset, train=True))
    wrapped = benchmark_loader.reference(peer, flip=0.0)
    for index in range(3):
        mine, target = dataset[0, index].targets, wrapped[index][1]
        assert torch.equal(mine.labels + 1, target["labels"])
        assert box_iou(mine.boxes, target["boxes"]).diag().min() > 0.999


def test_the_loader_is_timed_by_the_command_line(root, tmp_path, capsys):
    given = [f"root={root}", "rows=[loader]", "height=64", "width=64", "repeats=3"]
    assert main(["benchmark", *given, f"output={tmp_path / 'r.json'}"]) == 0
    row = json.loads((tmp_path / "r.json").read_text())["loader"]
    assert 0 < row["low"] <= row["ratio"] <= row["high"]
    assert row["ours_images"] == pytest.approx(1 / row["ours"])
    assert f"{row['ours_images']:.0f}/{row['peer_images']:.0f} images" in capsys.readouterr().out


def test_the_loader_needs_pictures():
    with pytest.raises(DetkitError, match="set root"):
        benchmark_loader.loader(SimpleNamespace(root=None))


MEASURE = """
import json
from types import SimpleNamespace
from detkit.commands import benchmark_loader
benchmark_loader.OBJECTS = 50
row = benchmark_loader.worker_memory(SimpleNamespace(boxes=100_000, workers=1))
print("\\n" + json.dumps(row))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_objects_cost_a_worker_memory_and_arrays_do_not():
    """100,000 boxes: 3 MB of arrays; 50 MB of objects, all of which the one worker looks at.

    In a process of its own: what other tests have freed would serve the objects here.
    """
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["ours_growth"] < 8
    assert row["peer_growth"] > 16
    assert row["peer"] - row["ours"] > 16
    assert row["ratio"] == row["ours"] / row["peer"]
