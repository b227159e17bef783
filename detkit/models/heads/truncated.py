"""Truncated SVD of the fully connected layers that see each RoI (Fast R-CNN, section 3.1).

    W (u, v) ≈ U (u, t) · Σ Vᵀ (t, v):     u·v multiplications become t·(u + v)

A layer becomes two, without anything between them; the second one has its bias. The checkpoint
keeps the whole layers: this is for a copy that predicts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detkit.backbones.backbone import Tail
from detkit.errors import DetkitError


@torch.no_grad()
def truncate(model: nn.Module, ranks: Sequence[int]) -> None:
    """Makes two layers of each of the model's first fully connected layers behind RoIs, in place.

    Args:
        ranks: singular values that are left of each layer, first to last (VGG-16 in the paper:
            1024 of fc6, 256 of fc7); a layer that has no more stays as it is.
    Raises:
        DetkitError: the model has fewer such layers.
    """
    tails = [module for module in model.modules() if isinstance(module, Tail)]
    found = [
        (tail, name)
        for tail in tails
        for name, layer in tail.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    if len(ranks) > len(found):
        raise DetkitError(
            f"truncated_svd has {len(ranks)} numbers, and the model {len(found)} fully connected"
            " layers behind its RoIs.",
            record="truncated_svd",
            remedy="give a number a layer, first to last"
            if found
            else "leave it out: there is nothing to shorten.",
        )
    for (tail, name), rank in zip(found, ranks, strict=False):
        layer = tail.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        if rank < min(layer.weight.shape):
            parent, _, child = name.rpartition(".")
            setattr(tail.get_submodule(parent), child, two_layers(layer, rank))


def two_layers(layer: nn.Linear, rank: int) -> nn.Sequential:
    """The layer through its `rank` largest singular values."""
    first, second = factors(layer.weight, rank)
    narrow = nn.Linear(layer.in_features, rank, bias=False)
    wide = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
    narrow.weight, wide.weight = nn.Parameter(first), nn.Parameter(second)
    if layer.bias is not None:
        wide.bias = nn.Parameter(layer.bias.detach().clone())
    return nn.Sequential(narrow, wide).to(layer.weight)


def factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(t, v) and (u, t) whose product is the best approximation of that rank of (u, v).

    From the eigenvectors of the smaller of W Wᵀ and Wᵀ W in float64: a layer of 4096 × 25,088 takes
    seconds so, and its own SVD minutes.
    """
    exact = weight.double()
    if weight.shape[0] <= weight.shape[1]:
        left = torch.linalg.eigh(exact @ exact.T)[1][:, -rank:]  # eigenvalues ascend
        return (left.T @ exact).to(weight), left.to(weight)
    right = torch.linalg.eigh(exact.T @ exact)[1][:, -rank:]
    return right.T.to(weight), (exact @ right).to(weight)
