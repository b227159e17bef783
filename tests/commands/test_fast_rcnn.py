"""Fast R-CNN from one command: proposals first, and the same ones wherever it goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import detkit
from detkit.commands.compare import compare
from detkit.commands.evaluate import evaluate
from detkit.commands.train import train
from detkit.config import compose
from detkit.data.formats.shapes import read
from detkit.errors import DetkitError
from detkit.proposals import store
from detkit.proposals.files import write_npz

GIVEN = [
    *("model=fast_rcnn", "backbone=resnet18_fpn", "backbone.fpn_channels=8"),
    *("model.head_channels=16", "model.roi_samples=16", "training.epochs=1"),
    *("dataset=shapes", "dataset.train_images=6", "dataset.val_images=2", "dataset.size=64"),
    *("backbone.width=0.125", "training.batch_size=2", "training.workers=0", "device=cpu"),
    *("transforms.short_side=96", "transforms.long_side=96", "training.log_every=1"),
    *("training.val_losses=true", "training.ema=0.9"),
]
SEARCH = ["model.proposal_mode=single", "model.proposal_width=null", "model.proposal_min_side=6"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def searched(cache, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "run"
    train(compose("train", [*GIVEN, *SEARCH, f"run_dir={folder}"]))
    return folder


def test_what_is_proposed_is_said_before_the_first_step(searched):
    log = (searched / "log.txt").read_text()
    assert "making the proposals of the 6 images of train" in log
    assert "making the proposals of the 2 images of val" in log
    for split in ("train", "val"):
        (line,) = [row for row in log.splitlines() if row.startswith(f"proposals of {split}: ")]
        assert "boxes an image, recall@0.5 " in line
        assert "MABO 0." in line
        assert "made anew for all, none was kept of these pixels and settings" in line
    assert log.index("proposals of val") < log.index("epoch 1, step 3")


def test_nothing_is_searched_twice(searched, cache, tmp_path, monkeypatch):
    """Training, evaluation and prediction ask one cache, by one checkpoint's settings."""
    assert len(list(cache.rglob("*.npy"))) == 8

    def fail(*_, **__):
        raise AssertionError("searched again")

    monkeypatch.setattr(store, "selective_search", fail)
    ours = json.loads((searched / "results.json").read_text())
    given = [f"checkpoint={searched}", f"output={tmp_path}", "device=cpu", "workers=0"]
    assert evaluate(compose("evaluate", [*given, "batch_size=2"])) == ours
    predictor = detkit.load(searched, "cpu", score_thresh=0.0)
    records = read(None, "val", needs=frozenset({"boxes"}), images=True, val_images=2, size=64)
    assert len(predictor(records.image(1))) > 0
    train(compose("train", [f"resume={searched}", "training.max_steps=4", "training.epochs=2"]))
    assert "proposals of" not in (searched / "log.txt").read_text().split("epoch 1, step 3")[1]


def boxes_of(split: str, count: int) -> dict[str, np.ndarray]:
    """The objects themselves, and boxes beside them; the first image has none."""
    images = {f"{split}_images": count}
    records = read(None, split, needs=frozenset({"boxes"}), images=True, size=64, **images)
    found = {}
    for i in range(count):
        boxes = records.annotation(i).boxes
        beside = np.concatenate([boxes, boxes + [0, 0, 8, 4], boxes - [6, 3, 0, 0]])
        found[str(records.image_id(i))] = beside if i else beside[:0]
    return found


@pytest.fixture
def file(tmp_path) -> Path:
    write_npz(tmp_path / "boxes.npz", boxes_of("train", 6) | boxes_of("val", 2))
    return tmp_path / "boxes.npz"


def from_file(file: Path, run: Path, *more: str):
    given = ["model.proposer=file", f"model.proposals_file={file}", f"run_dir={run}"]
    return compose("train", [*GIVEN, *given, *more])


def test_a_checkpoint_wants_its_file_of_proposals_again(file, tmp_path):
    run = tmp_path / "run"
    train(from_file(file, run, "training.workers=1"))
    assert "recall@0.5 0." in (run / "log.txt").read_text()  # those of the first image are missed
    given = [f"checkpoint={run}", f"output={tmp_path}", "device=cpu", "workers=0", "batch_size=2"]
    ours = json.loads((run / "results.json").read_text())
    assert evaluate(compose("evaluate", given)) == ours
    file.rename(tmp_path / "elsewhere.npz")
    with pytest.raises(DetkitError, match="no such file") as caught:
        evaluate(compose("evaluate", given))
    assert caught.value.file == file


def test_an_image_without_proposals_in_the_file_is_told_before_the_first_step(tmp_path):
    write_npz(tmp_path / "boxes.npz", boxes_of("train", 5) | boxes_of("val", 2))
    with pytest.raises(DetkitError, match="no proposals for the image 5"):
        train(from_file(tmp_path / "boxes.npz", tmp_path / "run"))
    assert (tmp_path / "run/metrics.jsonl").read_text() == ""


def test_runs_are_compared_side_by_side(searched, tmp_path, capsys):
    """One run in full, and through two singular values of each layer by `evaluate`."""
    given = [f"checkpoints=[{searched},{searched}/last]", "split=val", "device=cpu"]
    found = compare(compose("compare", [*given, f"output={tmp_path}/table.json"]))
    assert json.loads((tmp_path / "table.json").read_text()) == found
    results = json.loads((searched / "results.json").read_text())
    one, other = found["runs"]
    assert one["voc/mAP"] == results["voc/mAP"]
    low, high = one["interval"]
    assert 0 <= low <= high <= 1
    assert one["proposals"] == other["proposals"] > 5
    assert one["minutes"] > 0
    printed = capsys.readouterr().out
    assert printed.count("fast_rcnn (run)") == 2
    assert "proposals  trained, min" in printed
    shutil.copytree(searched, tmp_path / "other")
    meta = json.loads((tmp_path / "other/best/meta.json").read_text())
    meta["config"]["dataset"]["val_images"] += 1
    (tmp_path / "other/best/meta.json").write_text(json.dumps(meta))
    elsewhere = [f"checkpoints=[{searched},{tmp_path}/other]", "split=val", "device=cpu"]
    with pytest.raises(DetkitError, match="other images than the first"):
        compare(compose("compare", elsewhere))


def test_an_evaluation_through_few_singular_values_is_another_one(searched, tmp_path):
    given = [f"checkpoint={searched}", "device=cpu", "workers=0", "batch_size=2"]
    whole = evaluate(compose("evaluate", [*given, f"output={tmp_path}/whole"]))
    all_ = ["truncated_svd=[16,16]", f"output={tmp_path}/all"]
    assert evaluate(compose("evaluate", [*given, *all_])) == whole
    few = ["truncated_svd=[1,1]", f"output={tmp_path}/few"]
    assert evaluate(compose("evaluate", [*given, *few])) != whole
    with pytest.raises(DetkitError, match="3 numbers, and the model 2 fully connected"):
        evaluate(compose("evaluate", [*given, "truncated_svd=[1,1,1]", f"output={tmp_path}/3"]))
