import math

import pytest
import torch
from torch import nn

from detkit.errors import DetkitError
from detkit.training.optimization import (
    EMA,
    build_optimizer,
    build_schedule,
    optimizers,
    schedules,
    set_rate,
)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_the_names_are_registered():
    assert optimizers.names() == ["adamw", "sgd"]
    assert schedules.names() == ["constant", "cosine", "multistep"]


def test_multistep_warms_up_and_falls_at_its_milestones():
    factor = build_schedule(
        {"name": "multistep", "warmup_steps": 4, "warmup_start": 0.2, "milestones": [0.5, 0.75]}
    )
    # 0.2 + 0.8 · step / 4, then a tenth from step 10 of 20 and a hundredth from step 15
    wanted = {0: 0.2, 1: 0.4, 3: 0.8, 4: 1.0, 9: 1.0, 10: 0.1, 14: 0.1, 15: 0.01, 19: 0.01}
    assert {s: factor(s, 20) for s in wanted} == pytest.approx(wanted)


def test_cosine_falls_from_one_to_final():
    factor = build_schedule(
        {"name": "cosine", "warmup_steps": 10, "warmup_start": 0.0, "final": 0.1}
    )
    # half-way between step 10 and step 50 the cosine is 0: 0.1 + 0.9 / 2; a third: cos 60° = 1/2
    wanted = {0: 0.0, 5: 0.5, 10: 1.0, 30: 0.55, 50: 0.1, 60: 0.1}
    assert {s: factor(s, 50) for s in wanted} == pytest.approx(wanted)
    assert factor(30, 70) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 3)))


def test_constant_stays_at_one_after_its_warm_up():
    factor = build_schedule({"name": "constant", "warmup_steps": 2, "warmup_start": 0.5})
    assert [factor(s, 9) for s in range(4)] == [0.5, 0.75, 1.0, 1.0]


def test_the_warm_up_of_a_short_run_is_a_quarter_of_it():
    for name in schedules.names():
        factor = build_schedule({"name": name, "warmup_steps": 500, "warmup_start": 0.0})
        assert [factor(s, 40) for s in (0, 5, 10)] == [0.0, 0.5, 1.0]


def test_milestones_in_steps_are_refused():
    with pytest.raises(DetkitError, match="fractions"):
        build_schedule({"name": "multistep", "milestones": [8, 11]})


def test_each_parameter_gets_its_decay_and_none_is_lost():
    model = net()
    optimizer = build_optimizer(
        {"name": "sgd", "lr": 1, "weight_decay": 0.3, "norm_decay": 0.1, "bias_decay": 0.0}, model
    )
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    by_name = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert by_name == {
        "0.weight": 0.3,
        "0.bias": 0.0,
        "2.weight": 0.3,
        "2.bias": 0.0,
        "1.weight": 0.1,
        "1.bias": 0.1,
    }


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(DetkitError, match="no parameter"):
        build_optimizer({"name": "adamw"}, net().requires_grad_(False))


def test_the_rate_is_the_first_one_times_the_factor_each_time():
    optimizer = build_optimizer({"name": "sgd", "lr": 0.4}, net())
    assert [set_rate(optimizer, f) for f in (0.5, 0.25, 1.0)] == pytest.approx([0.2, 0.1, 0.4])


def test_ema_equals_the_sum_written_out():
    torch.manual_seed(0)
    model = net()
    ema = EMA(model, 0.7)
    history = [{k: v.double().clone() for k, v in model.state_dict().items()}]
    for step in range(12):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(1) if not tensor.is_floating_point() else tensor.add_(
                    torch.randn_like(tensor)
                )
        ema.update(model, step)
        history.append({k: v.double().clone() for k, v in model.state_dict().items()})
    for key, value in ema.model.state_dict().items():
        if not value.is_floating_point():
            assert value == history[-1][key]
            continue
        slow = history[0][key]
        for step, new in enumerate(history[1:]):
            decay = min(0.7, (1 + step) / (10 + step))
            slow = decay * slow + (1 - decay) * new[key]
        assert torch.allclose(value.double(), slow, atol=1e-5), key


def test_ema_leaves_the_raw_weights_alone():
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    ema = EMA(model, 0.5)
    with torch.no_grad():
        model[0].weight.add_(1)
    ema.update(model, 0)
    assert torch.equal(model[0].weight, before[0] + 1)
    assert not torch.equal(ema.model[0].weight, model[0].weight)
    assert all(torch.equal(p, b) for p, b in zip(list(model.parameters())[1:], before[1:]))  # noqa: B905
    assert not any(p.requires_grad for p in ema.model.parameters())


@pytest.mark.parametrize("decay", [1.0, -0.1, 12])
def test_an_impossible_decay_is_refused(decay):
    with pytest.raises(DetkitError, match=r"training\.ema is a number from 0 to below 1"):
        EMA(net(), decay)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        *(("sgd", "lr", -1.0), ("sgd", "lr", math.nan), ("sgd", "momentum", 1.0)),
        *(("adamw", "lr", math.inf), ("adamw", "betas", (0.9, 1.0)), ("adamw", "eps", -1.0)),
        *(("sgd", "weight_decay", -1.0), ("adamw", "bias_decay", -1.0), ("sgd", "norm_decay", -1)),
    ],
)
def test_an_optimizer_refuses_what_is_out_of_range_by_its_name(name, setting, value):
    with pytest.raises(DetkitError, match=rf"optimizer\.{setting} is a number from 0 "):
        build_optimizer({"name": name, setting: value}, net())


@pytest.mark.parametrize("name", ["constant", "multistep", "cosine"])
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("warmup_steps", -5),
        ("warmup_start", -0.1),
        ("warmup_start", math.nan),
        ("warmup_power", -1.0),
    ],
)
def test_a_schedule_refuses_an_impossible_warm_up(name, setting, value):
    with pytest.raises(DetkitError, match=rf"schedule\.{setting} is a number from 0 upwards"):
        build_schedule({"name": name, setting: value})


def test_a_warm_up_by_a_power_is_darknets_burn_in():
    settings = {"warmup_steps": 1000, "warmup_start": 0.0, "warmup_power": 4.0}
    for name in ("constant", "multistep", "cosine"):
        schedule = build_schedule({"name": name, **settings})
        # network.c: learning_rate * pow(batch_num / burn_in, power)
        for step in (0, 1, 10, 500, 999):
            assert schedule(step, 100_000) == pytest.approx((step / 1000) ** 4)
        assert schedule(1000, 100_000) == pytest.approx(1)


def rates_of(model, name, **settings) -> dict[str, float]:
    optimizer = build_optimizer({"name": name, "lr": 0.4, **settings}, model)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {key: round(rate[id(p)], 6) for key, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_part_learns_at_its_own_rate_and_the_innermost_counts(name):
    model = nn.ModuleDict({"a": net(), "ab": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    rates = {"a": 0.1, "a.2": 0.5, "b": 2.0}
    found = rates_of(model, name, rates=rates)
    assert found == {
        **{f"a.{key}": 0.04 for key in ("0.weight", "0.bias", "1.weight", "1.bias")},
        **{f"a.2.{key}": 0.2 for key in ("weight", "bias")},
        **{f"ab.{key}": 0.4 for key in ("weight", "bias")},  # no part of "a"
        **{f"b.{key}": 0.8 for key in ("weight", "bias")},
    }
    assert set(rates_of(model, name).values()) == {0.4}


def test_the_rate_of_a_schedule_is_that_without_a_factor():
    model = nn.ModuleDict({"a": net(), "b": nn.Linear(2, 2)})
    optimizer = build_optimizer({"name": "sgd", "lr": 0.4, "rates": {"a": 0.1}}, model)
    for factor in (0.5, 1.0):
        assert set_rate(optimizer, factor) == pytest.approx(0.4 * factor)
        rates = {round(group["lr"], 6) for group in optimizer.param_groups}
        assert rates == {round(0.4 * factor, 6), round(0.04 * factor, 6)}


def test_an_unknown_part_is_answered_with_the_nearest():
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"body": net()}), "head": nn.Linear(2, 2)})
    with pytest.raises(DetkitError, match=r"no part 'backbon'.*mean backbone") as caught:
        build_optimizer({"name": "sgd", "rates": {"backbon": 0.1}}, model)
    assert "one of backbone, head" in caught.value.remedy
    with pytest.raises(DetkitError, match=r"mean backbone\.body"):
        build_optimizer({"name": "sgd", "rates": {"backbone.bodi": 0.1}}, model)
