"""Batch norms frozen, matched to a file, folded into their convolutions for good."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from detkit.backbones.backbone import folded

STATISTICS = ("weight", "bias", "running_mean", "running_var")
TRAINED = (nn.BatchNorm2d, nn.SyncBatchNorm)  # several GPUs turn the one into the other


def freeze_norms(
    module: nn.Module, chosen: Callable[[str], bool] = lambda prefix: True
) -> list[str]:
    """Put frozen norms with the same statistics in place of trainable ones.

    Args:
        chosen: tells from a norm's name ("layer1.0.bn1") whether it is meant.
    Returns:
        The names of those that changed.
    """
    return _replace(module, TRAINED, _frozen, chosen)


def match_norms(module: nn.Module, state_dict: Mapping[str, Tensor]) -> list[str]:
    """Freeze the norms that `state_dict` holds as frozen ones, unfreeze those it holds trainable.

    A trainable norm has a `num_batches_tracked` beside its weight, a frozen one has none. Norms
    that are not in the file stay.

    Returns:
        The names of those that changed.
    """

    def held_trainable(name: str) -> bool:
        return f"{name}.num_batches_tracked" in state_dict

    return _replace(module, TRAINED, _frozen, lambda n: held_frozen(n, state_dict)) + _replace(
        module, FrozenBatchNorm2d, _trainable, held_trainable
    )


def unfreeze_norms(module: nn.Module) -> list[str]:
    """Put trainable norms with the same statistics in place of frozen ones.

    In `eval()` they compute the same, each by itself: a frozen one is computed together with the
    convolution before it, so that no hook sees either.
    """
    return _replace(module, FrozenBatchNorm2d, _trainable, lambda name: True)


def held_frozen(name: str, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether a state dict holds the norm of that name as a frozen one."""
    held, tracked = f"{name}.running_mean", f"{name}.num_batches_tracked"
    return held in state_dict and tracked not in state_dict


def fold_norms(module: nn.Module, inside: type[nn.Module] = nn.Module) -> int:
    """Multiply every frozen norm into the convolution before it, for good, and leave an Identity.

    For inference, where it saves doing so at each call. The state dict changes: never save such a
    module, and never train it. Norms are found by place: directly behind a convolution among the
    children of one module, as in every network here.

    Args:
        inside: parents of another kind are left as they are; only those of an `nn.Sequential` are
            sure to run in the order in which they are listed.
    Returns:
        How many norms are gone.
    """
    count = 0
    for parent in [part for part in module.modules() if isinstance(part, inside)]:
        children = list(parent.named_children())
        for (_, conv), (name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                with torch.no_grad():
                    weight, bias = folded(conv, norm)
                conv.weight = nn.Parameter(weight, requires_grad=False)
                conv.bias = nn.Parameter(bias, requires_grad=False)
                setattr(parent, name, nn.Identity())
                count += 1
    return count


def _replace(
    module: nn.Module,
    old: type[nn.Module] | tuple[type[nn.Module], ...],
    make: Callable[..., nn.Module],
    chosen: Callable[[str], bool],
) -> list[str]:
    names = [n for n, m in module.named_modules() if isinstance(m, old) and n and chosen(n)]
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, make(module.get_submodule(name)))
    return names


def _frozen(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    return _copy(norm, frozen)


def _trainable(norm: FrozenBatchNorm2d) -> nn.BatchNorm2d:
    trainable = nn.BatchNorm2d(len(norm.weight), eps=norm.eps)
    return _copy(norm, trainable)


def _copy(source, target):
    for name in STATISTICS:
        getattr(target, name).data = getattr(source, name).detach().clone()
    return target.to(source.weight.device).train(source.training)
