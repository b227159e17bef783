"""A saved state is compared with a fresh one before any of it is used."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tiny_run import run, tiny

from detkit import checkpoint
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.training.optimization import EMA, build_optimizer
from detkit.training.state import State

NAN, INF = math.nan, math.inf


def fresh(optimizer: str = "sgd", ema: float | None = 0.9, fp16: bool = False) -> State:
    model = tiny(seed=5)
    return State(
        model,
        build_optimizer({"name": optimizer, "lr": 0.05}, model),
        torch.amp.GradScaler("cpu", enabled=fp16),
        EMA(model, ema) if ema is not None else None,
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """What runs of a few steps left, by optimizer: shown, packed, plain."""
    found = {}
    for optimizer in ("sgd", "adamw"):
        folder = tmp_path_factory.mktemp(optimizer) / "run"
        run(folder, steps=4, optimizer=optimizer)
        packed, plain = checkpoint.read_resume(folder / "last")
        shown = checkpoint.read_tensors(folder / "last/model.safetensors")
        found[optimizer] = shown, packed, plain
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_sound_state_fits(kept, optimizer):
    state = fresh(optimizer)
    state.restore(*copy.deepcopy(kept[optimizer]), World())
    assert state.step == 4


def put(place, value):
    """Another tensor, in the shape of what was there if it is a function of it."""

    def change(shown, packed, plain):
        assert place in packed, sorted(packed)
        packed[place] = value(packed[place]) if callable(value) else value

    return change


def show(key, value):
    return lambda shown, packed, plain: shown.update({key: value})


def say(key, value):
    def change(shown, packed, plain):
        plain[key] = value(plain[key]) if callable(value) else value

    return change


def lose(place, number=True):
    def change(shown, packed, plain):
        del packed[place]
        plain["tensors"] -= number

    return change


def lose_all_of(prefix):
    def change(shown, packed, plain):
        for key in [key for key in packed if key.startswith(prefix)]:
            del packed[key]
        plain["tensors"] = len(packed)

    return change


def with_random(**numbers):
    return say("random", lambda random: [{**random[0], **numbers}])


WORDS = [3, [0] * 625, None]
MOMENTUM = "optimizer/classes.weight/momentum_buffer"
SECOND = "optimizer/classes.weight/exp_avg_sq"
SPOILT = {
    "a longer momentum": ("sgd", put(MOMENTUM, torch.zeros(3, 400))),
    "a momentum of one number": ("sgd", put(MOMENTUM, torch.zeros(()))),
    "a momentum without numbers": ("sgd", put(MOMENTUM, torch.zeros(0))),
    "a momentum of integers": ("sgd", put(MOMENTUM, lambda t: t.long())),
    "a momentum in double": ("sgd", put(MOMENTUM, lambda t: t.double())),
    "a momentum of NaN": ("sgd", put(MOMENTUM, lambda t: t * NAN)),
    "no momentum of one": ("sgd", lose(MOMENTUM)),
    "no momentum at all": ("sgd", lose_all_of("optimizer/")),
    "momentum of nobody": ("sgd", say("optimizer", {"nobody/momentum_buffer": 1})),
    "another kind of state": ("sgd", say("optimizer", {"classes.weight/exp_avg": 1.0})),
    "a longer second moment": ("adamw", put(SECOND, torch.zeros(99))),
    "no second moment": ("adamw", lose(SECOND)),
    "no moments at all": ("adamw", lose_all_of("optimizer/")),
    "steps for each weight": ("adamw", put("optimizer/classes.weight/step", torch.zeros(3, 4))),
    "endless steps": ("adamw", put("optimizer/classes.weight/step", torch.tensor(INF))),
    "a larger weight": ("sgd", put("model/classes.weight", torch.zeros(3, 5))),
    "weights of integers": ("sgd", put("model/classes.weight", lambda t: t.long())),
    "weights of NaN": ("sgd", put("model/classes.weight", lambda t: t * NAN)),
    "a weight too few": ("sgd", lose("model/classes.weight")),
    "shown weights of another size": ("sgd", show("boxes.bias", torch.zeros(99))),
    "shown weights of integers": ("sgd", show("boxes.bias", torch.zeros(4, dtype=torch.int32))),
    "shown weights of nobody": ("sgd", show("more", torch.zeros(1))),
    "best is NaN": ("sgd", say("best", NAN)),
    "best is endless": ("sgd", say("best", INF)),
    "best has too many digits": ("sgd", say("best", 10**400)),
    "a sum is NaN": ("sgd", say("sums", {"class": NAN})),
    "a sum is a text": ("sgd", say("sums", {"class": "x"})),
    "a sum is a list": ("sgd", say("sums", {"class": [1]})),
    "a count below 0": ("sgd", say("count", -1)),
    "a scaler of texts": ("sgd", say("scaler", {"scale": "x"})),
    "a scaler of NaN": ("sgd", say("scaler", {"scale": NAN})),
    "no random states": ("sgd", say("random", [])),
    "random states of texts": ("sgd", say("random", ["x"])),
    "a random state short of words": ("sgd", with_random(python=[3, [1] * 7, None])),
    "words beyond 32 bits": ("sgd", with_random(python=[3, [2**32] * 625, None])),
    "words below 0": ("sgd", with_random(python=[3, [-1] * 625, None])),
    "a position beyond the words": ("sgd", with_random(python=[3, [1] * 624 + [10**9], None])),
    "another version": ("sgd", with_random(python=[2, *WORDS[1:]])),
    "an absurd position": ("sgd", with_random(numpy=[10**9, 0, 0.0])),
    "a gauss of text": ("sgd", with_random(numpy=[1, 0, "x"])),
    "a gauss of NaN": ("sgd", with_random(python=[3, [1] * 625, NAN])),
    "numpy's words short": ("sgd", put("random/0/numpy", torch.zeros(7, dtype=torch.int64))),
    "numpy's words below 0": ("sgd", put("random/0/numpy", lambda t: t - 2**40)),
    "torch's state short": ("sgd", put("random/0/torch", torch.zeros(3, dtype=torch.uint8))),
    "torch's state of garbage": ("sgd", put("random/0/torch", lambda t: t * 0 + 255)),
    "no state of torch": ("sgd", lose("random/0/torch")),
    "a state of a process that was not": (
        "sgd", lambda s, p, j: p.update({"random/7/torch": p["random/0/torch"]})
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_a_state_that_does_not_fit_is_told_and_changes_nothing(kept, how):
    optimizer, change = SPOILT[how]
    shown, packed, plain = copy.deepcopy(kept[optimizer])
    change(shown, packed, plain)
    state = fresh(optimizer)
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    drawn = torch.get_rng_state()
    with pytest.raises(DetkitError, match="not this run's") as error:
        state.restore(shown, packed, plain, World())
    assert "weights=" in error.value.remedy
    assert len(str(error.value)) < 500
    assert state.step == 0
    assert all(torch.equal(value, before[key]) for key, value in state.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_scaler_of_this_run_fits_and_one_that_lost_a_number_does_not(tmp_path):
    run(tmp_path / "run", steps=4, dtype=torch.float16)
    packed, plain = checkpoint.read_resume(tmp_path / "run/last")
    shown = checkpoint.read_tensors(tmp_path / "run/last/model.safetensors")
    fresh(fp16=True).restore(shown, packed, plain, World())
    del plain["scaler"]["scale"]
    with pytest.raises(DetkitError, match="scaler"):
        fresh(fp16=True).restore(shown, packed, plain, World())


@pytest.mark.parametrize("kind", ["Adafactor", "RMSprop", "Adagrad", "NAdam"])
def test_the_state_of_a_plugins_optimizer_is_compared_too(kind):
    def state() -> State:
        model = tiny(seed=5)
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
        return State(model, optimizer, torch.amp.GradScaler("cpu", enabled=False))

    trained = state()
    for parameter in trained.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    trained.optimizer.step()
    trained.step = 1
    packed, plain = trained.pack(World())
    shown = trained.model.state_dict()
    state().restore(shown, packed, plain, World())
    large = next(k for k, v in packed.items() if k.startswith("optimizer/boxes.w") and v.ndim)
    packed[large] = torch.zeros(50, 50)
    with pytest.raises(DetkitError, match=large):
        state().restore(shown, packed, plain, World())
