"""Optimisers, learning-rate schedules and the moving average of the weights.

A schedule is a pure function of the step, so it has no state to save: `factor(step, steps)` is what
the optimiser's learning rate is multiplied by at that step of so many.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from detkit.errors import DetkitError
from detkit.ranges import Positive
from detkit.registry import Registry

Schedule = Callable[[int, int], float]

optimizers: Registry[Optimizer] = Registry("optimizer", "detkit.training")
schedules: Registry[Schedule] = Registry("schedule", "detkit.training")

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def within(setting: str, value: float | None, least: float, below: float = math.inf) -> None:
    """Raises the error of a setting outside least ≤ value < below; None is no value."""
    if value is not None and not least <= value < below:
        end = f" to below {below:g}" if below < math.inf else " upwards"
        raise DetkitError(
            f"{setting} is a number from {least:g}{end}, not {value:g}.",
            remedy=f"leave {setting} out, or choose another value.",
        )


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    norm_decay: float,
    bias_decay: float | None,
    rates: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """The trained parameters, grouped by their decay towards zero and by their rate.

    Args:
        norm_decay: of the normalisation layers' scales and shifts.
        bias_decay: of the other biases; None is `weight_decay`.
        rates: factors on `lr` by the names of the model's parts; a part inside another one has its
            own.
    Raises:
        DetkitError: nothing to train, or a part that the model does not have.
    """
    rates = rates or {}
    _check_parts(model, rates)
    within("optimizer.weight_decay", weight_decay, 0)
    within("optimizer.norm_decay", norm_decay, 0)
    within("optimizer.bias_decay", bias_decay, 0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for place, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            decay = weight_decay
            if isinstance(module, _NORMS):
                decay = norm_decay
            elif name.endswith("bias") and bias_decay is not None:
                decay = bias_decay
            factor = factor_of(f"{place}.{name}".lstrip("."), rates)
            groups.setdefault((decay, factor), []).append(parameter)
    if not groups:
        raise DetkitError(
            "The model has no parameter to train: all of them are frozen.",
            remedy="lower backbone.frozen_stages.",
        )
    return [
        {"params": list(dict.fromkeys(parameters)), "weight_decay": decay, "lr": lr * factor}
        for (decay, factor), parameters in groups.items()
    ]


def factor_of(name: str, rates: Mapping[str, float]) -> float:
    """The factor on a parameter's learning rate: that of the innermost part that it is in, else 1.

    Args:
        name: such as "backbone.body.conv1.weight".
        rates: by names of parts, such as "backbone".
    """
    around = [part for part in rates if f"{name}.".startswith(f"{part}.")]
    return rates[max(around, key=len)] if around else 1.0


def _check_parts(model: nn.Module, rates: Mapping[str, float]) -> None:
    parts = [name for name, _ in [*model.named_modules(), *model.named_parameters()] if name]
    for part in rates:
        if part not in parts:
            top = ", ".join(name for name, child in model.named_children() if any_of(child))
            near = difflib.get_close_matches(part, parts, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise DetkitError(
                f"The model has no part {part!r}.{hint}",
                record="optimizer.rates",
                remedy=f"name one of {top}, or a part inside of one with a dot between.",
            )


def any_of(module: nn.Module) -> bool:
    """Whether there is a parameter in it."""
    return next(module.parameters(), None) is not None


@optimizers.register("sgd")
def sgd(
    model: nn.Module,
    *,
    lr: float = 0.0025,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    nesterov: bool = False,
    norm_decay: float = 0.0,
    bias_decay: float | None = None,
    rates: dict[str, Positive] | None = None,
) -> Optimizer:
    """Stochastic gradient descent with momentum.

    Args:
        rates: see `parameter_groups`.
    """
    within("optimizer.lr", lr, 0)
    within("optimizer.momentum", momentum, 0, 1)
    if nesterov and not momentum:
        raise DetkitError(
            "optimizer.nesterov needs a momentum.", remedy="set optimizer.momentum=0.9."
        )
    groups = parameter_groups(model, lr, weight_decay, norm_decay, bias_decay, rates)
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=True)
    if momentum:  # torch leaves them uninitialised if fp16 overflows at the very first step
        for parameter in (p for group in groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


@optimizers.register("adamw")
def adamw(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
    norm_decay: float = 0.0,
    bias_decay: float | None = None,
    rates: dict[str, Positive] | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101).

    Args:
        rates: see `parameter_groups`.
    """
    within("optimizer.lr", lr, 0)
    within("optimizer.eps", eps, 0)
    if len(betas) != 2:
        raise DetkitError(
            f"optimizer.betas are two numbers, not {list(betas)}.", remedy="write [0.9,0.999]."
        )
    for beta in betas:
        within("optimizer.betas", beta, 0, 1)
    groups = parameter_groups(model, lr, weight_decay, norm_decay, bias_decay, rates)
    first, second = betas
    return torch.optim.AdamW(groups, lr=lr, betas=(first, second), eps=eps, fused=True)


def warmed(step: int, warmup_steps: int, warmup_start: float, power: float = 1.0) -> float:
    """A factor that rises from `warmup_start` at step 0 to 1 at step `warmup_steps`.

    Args:
        power: of the share of those steps that is made; Darknet's burn-in is that of 4 from 0.
    """
    if step >= warmup_steps:
        return 1.0
    return warmup_start + (1.0 - warmup_start) * (step / warmup_steps) ** power


def at_most_a_quarter(warmup_steps: int, steps: int) -> int:
    """The warm-up in a run of so many steps: a short one has to reach its rate too."""
    return min(warmup_steps, steps // 4)


def _warmup(warmup_steps: int, warmup_start: float, power: float) -> Schedule:
    """The factor of the warm-up alone."""
    within("schedule.warmup_steps", warmup_steps, 0)
    within("schedule.warmup_start", warmup_start, 0)
    within("schedule.warmup_power", power, 0)
    return lambda step, steps: warmed(
        step, at_most_a_quarter(warmup_steps, steps), warmup_start, power
    )


@schedules.register("constant")
def constant(
    *, warmup_steps: int = 0, warmup_start: float = 0.001, warmup_power: float = 1.0
) -> Schedule:
    """The same rate throughout, after a warm-up.

    Args:
        warmup_steps, warmup_start, warmup_power: the rate rises from `warmup_start` times itself,
            by that power of the steps made: 1 is linear, Darknet's burn-in is 4 from a start of 0.
    """
    return _warmup(warmup_steps, warmup_start, warmup_power)


@schedules.register("multistep")
def multistep(
    *,
    warmup_steps: int = 500,
    warmup_start: float = 0.001,
    warmup_power: float = 1.0,
    milestones: Sequence[float] = (0.67, 0.89),
    gamma: float = 0.1,
) -> Schedule:
    """Multiplied by `gamma` at each milestone, a fraction of the run; warm-up as in `constant`."""
    warm = _warmup(warmup_steps, warmup_start, warmup_power)
    within("schedule.gamma", gamma, 0)
    if any(not 0 <= m <= 1 for m in milestones):
        raise DetkitError(
            f"schedule.milestones are fractions of the run, 0 … 1, not {list(milestones)}.",
            remedy="write 0.67 for two thirds of the run.",
        )

    def factor(step: int, steps: int) -> float:
        passed = sum(step >= round(m * steps) for m in milestones)
        return warm(step, steps) * gamma**passed

    return factor


@schedules.register("cosine")
def cosine(
    *,
    warmup_steps: int = 500,
    warmup_start: float = 0.001,
    warmup_power: float = 1.0,
    final: float = 0.0,
) -> Schedule:
    """Half a cosine from 1 at the end of the warm-up (as in `constant`) to `final` at the end."""
    warm = _warmup(warmup_steps, warmup_start, warmup_power)
    within("schedule.final", final, 0)

    def factor(step: int, steps: int) -> float:
        warmup = at_most_a_quarter(warmup_steps, steps)
        if step < warmup:
            return warm(step, steps)
        done = (step - warmup) / max(1, steps - warmup)
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))

    return factor


def build_optimizer(settings: Mapping[str, Any], model: nn.Module) -> Optimizer:
    """`{"name": "sgd", "lr": …}` for the parameters of `model` that are trained."""
    return optimizers.build(settings["name"], settings, model)


def build_schedule(settings: Mapping[str, Any]) -> Schedule:
    """`{"name": "cosine", …}` → factor of the learning rate by (step, steps)."""
    return schedules.build(settings["name"], settings)


def set_rate(optimizer: Optimizer, factor: float) -> float:
    """Sets the rates to `factor` times those it was built with; returns that of no factor."""
    for group in optimizer.param_groups:
        group.setdefault("full_lr", group["lr"])
        group["lr"] = group["full_lr"] * factor
    return optimizer.defaults["lr"] * factor


class EMA:
    """The exponential moving average of a model's weights, in a model of its own.

    `decay` is reached gradually, min(decay, (1 + t) / (10 + t)) at update t, so that a short run
    forgets its random start. Floating-point buffers (batch-norm statistics) are averaged too, the
    others copied.

    Attributes:
        model: the averaged model, to evaluate and to save; never trained.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        within("training.ema", decay, 0, 1)
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards `model`, which has made `step` updates before this one."""
        weight = 1.0 - min(self.decay, (1 + step) / (10 + step))
        ours, theirs = tensors(self.model), tensors(model)
        floats = [key for key, tensor in ours.items() if tensor.is_floating_point()]
        others = [key for key, tensor in ours.items() if not tensor.is_floating_point()]
        torch._foreach_lerp_([ours[k] for k in floats], [theirs[k] for k in floats], weight)
        if others:  # all at once: a batch norm's counter alone is a launch of a kernel
            torch._foreach_copy_([ours[k] for k in others], [theirs[k] for k in others])


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, the tensors themselves."""
    return dict(_unique(model.state_dict(keep_vars=True).items()))


def _unique(items: Iterable[tuple[str, Tensor]]) -> Iterable[tuple[str, Tensor]]:
    seen: set[int] = set()
    for key, tensor in items:  # a tensor that two modules share is averaged once
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield key, tensor
