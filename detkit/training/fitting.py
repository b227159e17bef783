"""Whether a saved state is one of this model and optimizer, compared before any of it is used.

PyTorch checks little of it: an optimizer's tensors of another shape end the process or train on in
silence, and a random state's bytes are taken as they are.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

TRIED = (3, 5, 7)  # a shape that no optimizer has for something else than the parameter
STATE_WORDS = 624  # of a Mersenne twister; its position is a number up to that


def misfit(
    model: nn.Module,
    optimizer: Optimizer | None,
    scaler: Mapping[str, Any],
    shown: Mapping[str, Tensor],
    packed: Mapping[str, Tensor],
    plain: Mapping[str, Any],
    random: tuple[Mapping[str, Tensor], Mapping[str, Any]],
) -> str | None:
    """The first thing in a saved state that is not as in a fresh one; None if all fits.

    Args:
        model, optimizer: fresh, of this run; none where nothing descends.
        scaler: the state of a fresh gradient scaler, empty where it is not enabled.
        shown: the weights that are evaluated.
        packed, plain: what `State.pack` gave, read from files.
        random: fresh random states of this process.
    """
    faults = (
        _weights(model, shown, "model.safetensors: "),
        _weights(model, _below(packed, "model/"), "model/"),
        _optimizer(model, optimizer, _below(packed, "optimizer/"), plain),
        _scaler(scaler, plain["scaler"]),
        _numbers(plain),
        _random(random, _below(packed, "random/"), plain["random"]),
    )
    return next((fault for part in faults for fault in part), None)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _weights(model: nn.Module, saved: Mapping[str, Tensor], place: str) -> Iterator[str]:
    fresh = model.state_dict()
    yield from (f"{place}{key} is missing" for key in fresh if key not in saved)
    for key, value in saved.items():
        if key not in fresh:
            yield f"{place}{key} is none of the model's"
            return
        yield from _tensor(f"{place}{key}", value, fresh[key])


def _tensor(place: str, value: Tensor, like: Tensor) -> Iterator[str]:
    if value.shape != like.shape or value.dtype != like.dtype:
        kinds = [f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (value, like)]
        yield f"{place} is {kinds[0]}, not {kinds[1]}"
    elif not torch.isfinite(value).all():
        yield f"{place} holds numbers that are not finite"


def _optimizer(
    model: nn.Module,
    optimizer: Optimizer | None,
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
) -> Iterator[str]:
    """Each trained parameter has all that its optimizer keeps of one, or had no gradient yet."""
    groups = optimizer.param_groups if optimizer else []
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    names = {name: p for name, p in model.named_parameters() if id(p) in trained}
    found: dict[str, dict[str, Any]] = {}
    for place, value in (*tensors.items(), *plain["optimizer"].items()):
        name, _, key = place.rpartition("/")
        if name not in names:
            yield f"optimizer/{place} is of no parameter that is trained"
            return
        found.setdefault(name, {})[key] = value
    if optimizer is None or (wanted := _kept_of(optimizer, TRIED)) is None:
        return
    shapes = [tuple(like.shape) for like in wanted.values() if isinstance(like, Tensor)]
    plain_shapes = all(shape in (TRIED, ()) for shape in shapes)
    if plain["step"] and not plain.get("stage") and wanted and not found:
        yield "the optimizer's state is missing"
    for name, parameter in names.items():
        kept = found.get(name, {})
        if not kept and not optimizer.state.get(parameter):
            continue
        if not plain_shapes:  # rows and columns apart, as Adafactor has them
            wanted = _kept_of(optimizer, parameter.shape) or {}
        if kept.keys() != wanted.keys():
            lost = sorted(wanted.keys() ^ kept.keys())[0]
            yield f"optimizer/{name}/{lost} is {'missing' if lost in wanted else 'not kept'}"
            return
        for key, like in wanted.items():
            place, value = f"optimizer/{name}/{key}", kept[key]
            if isinstance(like, Tensor) and isinstance(value, Tensor):
                as_it = parameter if tuple(like.shape) == TRIED else like
                yield from _tensor(place, value, as_it)
            elif type(value) is not type(like):
                yield f"{place} is {value!r:.80}, not such as {like!r:.80}"
            elif not _finite(value):
                yield f"{place} is {value!r:.80}"


def _kept_of(optimizer: Optimizer, shape: Sequence[int]) -> dict[str, Any] | None:
    """What the optimizer keeps of a parameter after a step; None where it cannot be tried.

    A fresh optimizer of its kind takes the step, with a parameter of that shape.
    """
    takes = inspect.signature(type(optimizer)).parameters.keys() - {"fused"}
    settings = {key: value for key, value in optimizer.defaults.items() if key in takes}
    tried = nn.Parameter(torch.zeros(tuple(shape)))
    tried.grad = torch.zeros(tuple(shape))
    try:
        trial = type(optimizer)([tried], **settings)
        trial.step()
    except Exception:  # a plugin's may want other arguments
        return None
    return dict(trial.state[tried])


def _scaler(fresh: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[str]:
    if fresh and saved and fresh.keys() != saved.keys():
        yield f"the gradient scaler's state has {', '.join(map(str, saved))[:80]}"
    for key, value in saved.items():
        if not _finite(value) or value is None or value < (0 if key.startswith("_") else 1e-30):
            yield f"the gradient scaler's {key} is {value!r:.80}"


def _numbers(plain: Mapping[str, Any]) -> Iterator[str]:
    for key in ("step", "count", "stage", "since_best"):  # a run of one stage may not tell it
        value = plain.get(key, 0)
        if type(value) is not int or value < 0:
            yield f"{key} is {value!r:.80}"
    for key, value in (("best", plain["best"]), *plain["sums"].items()):
        if not _finite(value) or (value is None and key != "best"):
            yield f"{key} is {value!r:.80}"


def _finite(value: Any) -> bool:
    """Whether it is None, a flag, or a number that a float can be."""
    try:
        return value is None or (isinstance(value, (int, float)) and math.isfinite(value))
    except OverflowError:
        return False


def _random(
    fresh: tuple[Mapping[str, Tensor], Mapping[str, Any]],
    tensors: Mapping[str, Tensor],
    values: list[Any],
) -> Iterator[str]:
    """The states of all processes; those of a GPU are compared where there is one."""
    if not values:
        yield "there are no random states"
    known = {f"{rank}/{key}" for rank in range(len(values)) for key in (*fresh[0], "cuda", "mps")}
    if odd := next((key for key in tensors if key not in known), None):
        yield f"random/{odd} is of no process"
    for rank, numbers in enumerate(values):
        for key, like in fresh[0].items():
            value = tensors.get(f"{rank}/{key}")
            if value is None and key in ("torch", "numpy"):
                yield f"random/{rank}/{key} is missing"
            elif value is not None:
                yield from _tensor(f"random/{rank}/{key}", value, like)
        yield from _generators(rank, _below(tensors, f"{rank}/"), numbers)


def _generators(rank: int, tensors: Mapping[str, Tensor], numbers: Any) -> Iterator[str]:
    place = f"the random state of process {rank}"
    try:
        torch.Generator().set_state(tensors["torch"])
        position, has_gauss, gauss = numbers["numpy"]
        version, words, gauss_next = numbers["python"]
        integers = (position, has_gauss, version, *words)
        sound = (
            all(type(number) is int for number in integers)
            and 0 <= tensors["numpy"].min() <= tensors["numpy"].max() < 2**32
            and 0 <= position <= STATE_WORDS
            and has_gauss in (0, 1)
            and version == 3
            and len(words) == STATE_WORDS + 1
            and all(0 <= word < 2**32 for word in words)
            and words[-1] <= STATE_WORDS
            and type(gauss) in (float, int)
            and _finite(gauss)
            and _finite(gauss_next)
        )
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError):
        sound = False
    if not sound:
        yield f"{place} is none"
