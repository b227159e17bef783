"""Which steps a stage has, and what a stage begins with, on Faster R-CNN's six."""

from dataclasses import replace

import pytest
import torch

from detkit import checkpoint
from detkit.data.formats.shapes import read
from detkit.data.loading import Dataset, collate
from detkit.data.transforms import Transform
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.inference.measure import measure
from detkit.models.build import build
from detkit.models.stages import Stage
from detkit.structures import Classes, Targets
from detkit.training import recipe
from detkit.training.optimization import build_optimizer
from detkit.training.recipe import (
    Beginning,
    Interval,
    intervals,
    proposals_of,
    solve,
    stage_names,
    train_mode,
)
from detkit.training.state import State


def nothing(model, batches, folder, generator):
    pass


def ends(stages, steps, update=1, kept=None) -> list[int]:
    return [interval.end for interval in intervals(stages, steps, update, kept)]


A, B, SOLVED = Stage("a"), Stage("b", share=3), Stage("s", solve=nothing)


@pytest.mark.parametrize(
    ("stages", "steps", "update", "wanted"),
    [
        ([A], 7, 1, [7]),
        ([A, SOLVED, B], 8, 1, [2, 2, 8]),
        ([A, SOLVED, A, A, SOLVED, A], 4, 1, [1, 1, 2, 3, 3, 4]),
        ([A, SOLVED, A, A, SOLVED, A], 10, 1, [2, 2, 5, 8, 8, 10]),  # 2.5, 5, 7.5: halves to even
        ([Stage("first", images=12800), A], 1000, 64, [200, 1000]),
        ([A, SOLVED], 5, 1, [5, 5]),
    ],
)
def test_stages_share_the_steps(stages, steps, update, wanted):
    assert ends(stages, steps, update) == wanted
    starts = [interval.start for interval in intervals(stages, steps, update)]
    assert starts == [0, *wanted[:-1]]


@pytest.mark.parametrize(("steps", "short"), [(3, "a"), (1, "a")])
def test_too_few_steps_are_told(steps, short):
    stages = [Stage(name) for name in "abcd"]
    assert ends(stages, 4) == [1, 2, 3, 4]
    with pytest.raises(DetkitError, match=f"{steps} steps leave none for its stage") as caught:
        intervals(stages, steps, 1)
    assert "4 stages of descent" in caught.value.remedy


def test_a_longer_run_grows_in_its_last_stage_of_descent():
    stages = [A, SOLVED, A, SOLVED]
    kept = ends(stages, 10)
    assert kept == [5, 5, 10, 10]
    assert ends(stages, 30, kept=kept) == [5, 5, 30, 30]


def test_one_stage_is_not_worth_a_word():
    assert stage_names([A]) == ""
    assert stage_names([A, SOLVED]) == "a → s"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(
        {"name": "faster_rcnn_alternating", "head_channels": 16, "roi_samples": 16},
        {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8, "frozen_stages": 1},
        Classes.numbered(3),
    )


@pytest.fixture
def begin(model, tmp_path):
    checkpoint.write_tensors(tmp_path / "start.safetensors", model.state_dict())
    return Beginning(
        optimizer=lambda model: build_optimizer({"name": "sgd"}, model),
        scaler=lambda: torch.amp.GradScaler("cpu", enabled=False),
        ema=0.5,
        trainable=frozenset(n for n, p in model.named_parameters() if p.requires_grad),
        start=tmp_path / "start.safetensors",
    )


def stage_of(model, name: str) -> Interval:
    (found,) = [i for i in intervals(model.stages(), 8, 1) if i.stage.name == name]
    return found


def test_a_restart_gives_back_the_weights_of_the_runs_start_and_no_others(model, begin):
    start = {key: value.clone() for key, value in model.state_dict().items()}
    state = State(model, None, begin.scaler())
    begin(state, stage_of(model, "rpn"), resumed=False)
    with torch.no_grad():
        for key, value in state.ema.model.state_dict().items():
            if key != "mean_std":
                value.add_(1)  # what the averaged weights have learnt goes on, not the raw ones
    begin(state, stage_of(model, "head"), resumed=False)
    for key, value in model.state_dict().items():
        same = torch.equal(value, start[key])
        assert same != key.startswith("rpn."), key
        assert torch.equal(value, state.ema.model.state_dict()[key]), key


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("rpn", {"backbone", "rpn"}),
        ("head", {"backbone", "head"}),
        ("rpn_alone", {"rpn", "backbone.fpn"}),
        ("head_alone", {"head"}),
    ],
)
def test_a_stage_trains_its_part_and_leaves_the_norms_of_others_alone(model, begin, name, parts):
    state, interval = State(model, None, begin.scaler()), stage_of(model, name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    begin(state, interval, resumed=False)
    view = interval.stage.losses(model)
    train_mode(view, interval.stage)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    truth = [Targets(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([1]))] * 2
    offered = {} if "rpn" in parts else {"proposals": [torch.tensor([[6.0, 9, 40, 44]])] * 2}
    losses = view(images=images, sizes=torch.tensor([[64, 64]] * 2), targets=truth, **offered)
    sum(losses.values()).backward()
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(any(n.startswith(part) for n in learning) for part in parts)
    assert all(n.startswith(tuple(parts)) for n in learning)
    assert not any(n.startswith("backbone.body.conv1") for n in learning)  # frozen by the settings
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (key in learning), key
    state.optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert all(key.startswith(tuple(parts)) for key in changed)
    moved = any(key.endswith("running_mean") for key in changed)
    assert moved == ("backbone" in parts)


def test_its_four_steps_learn_two_pictures_by_heart(tmp_path):
    """Each stage by the recipe's own means; the last measures what all of them made together."""
    records = read(None, "train", needs=frozenset({"boxes"}), images=True, train_images=2, size=64)
    transform = Transform(lambda height, width: (64, 64))
    dataset, folder = Dataset(records, transform), tmp_path / "stages"
    settings = {"anchor_sizes": [8, 16, 24, 32], "proposals": [60, 30], "roi_samples": 32}
    torch.manual_seed(0)
    model = build(
        {"name": "faster_rcnn_alternating", "head_channels": 64, **settings},
        {"name": "resnet18_fpn", "width": 0.125, "levels": [2, 3, 4, 5], "fpn_channels": 16},
        Classes.of(records.names),
    )
    folder.mkdir()
    checkpoint.write_tensors(folder / "start.safetensors", model.state_dict())
    begin = Beginning(
        optimizer=lambda model: torch.optim.Adam((p for p in model.parameters()), lr=2e-3),
        scaler=lambda: torch.amp.GradScaler("cpu", enabled=False),
        ema=None,
        trainable=frozenset(n for n, _ in model.named_parameters()),
        start=folder / "start.safetensors",
    )
    state = State(model, None, begin.scaler())
    for interval in intervals(model.stages(), 600, 2):
        stage = interval.stage
        if stage.solve is not None:
            solve(state, interval, dataset, tmp_path, 0, 2, World())
            continue
        begin(state, interval, resumed=False)
        proposer = proposals_of(tmp_path, stage.proposals) if stage.proposals else None
        seen = replace(dataset, proposer=proposer)
        batch = collate([seen[0, 0], seen[0, 1]])
        view = stage.losses(model)
        for _ in range(interval.start, interval.end):
            train_mode(view, stage)
            sum(view(**batch.inputs(), targets=batch.targets).values()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            state.optimizer.step()
            state.optimizer.zero_grad()
    found = measure(model, records, transform, names=records.names, world=World(), precision="fp32")
    assert found.result()["voc/mAP"] >= 0.8


def test_what_a_run_keeps_is_compared_with_what_it_was(tmp_path):
    (tmp_path / "stages/propose").mkdir(parents=True)
    (tmp_path / "stages/propose/proposals.npz").write_bytes(b"boxes")
    start = tmp_path / "stages" / recipe.START
    start.write_bytes(b"weights")
    kept = {
        "propose": recipe.digest(start.parent / "propose"),
        recipe.START: recipe.digest_of_file(start),
    }
    recipe.check_solved(kept, tmp_path, ["rpn", "propose"])
    start.write_bytes(b"others")
    with pytest.raises(DetkitError, match="began with are gone or were changed") as caught:
        recipe.check_solved(kept, tmp_path, ["rpn", "propose"])
    assert caught.value.file == start
    for name in ("..", "propose/..", str(tmp_path)):  # of a stranger's resume.json
        with pytest.raises(DetkitError, match="gone or was changed"):
            recipe.check_solved({name: recipe.digest(tmp_path / "stages/propose")}, tmp_path, [])
