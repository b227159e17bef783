"""The one way from batches to predictions, and how a trained model is made ready for it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from detkit.backbones.backbone import Backbone
from detkit.backbones.norms import fold_norms, freeze_norms
from detkit.models.model import Model
from detkit.ops.precision import autocast, resolve
from detkit.predictions import Prediction
from detkit.structures import Batch, Frame

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def predictions(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    device: torch.device | str,
    precision: str,
    names: Sequence[str],
    agnostic_nms: float | None = None,
) -> Iterator[tuple[list[Frame], list[Prediction]]]:
    """What the model finds in each image.

    Args:
        model: on `device`, as it is or from `prepare` with the same precision.
        batches: their uint8 images cross to the device as they are.
        names: the class names that the predictions carry.
        agnostic_nms: of two objects of any classes that overlap by more the less sure one goes;
            None: the model's own NMS is all.
    Yields:
        The frames of a batch, and its predictions in the file's image pixels, on the CPU.
    """
    device, dtype = torch.device(device), resolve(precision, device)
    for batch in batches:
        found = _predict(model, batch, device, dtype)
        if agnostic_nms is not None:
            found = [prediction.separate(agnostic_nms) for prediction in found]
        for prediction in found:
            prediction.names = tuple(names)
        mapped = [p.to_image(f) for p, f in zip(found, batch.frames, strict=True)]
        yield batch.frames, mapped


@torch.inference_mode()
def _predict(
    model: nn.Module, batch: Batch, device: torch.device, dtype: torch.dtype
) -> list[Prediction]:
    inputs = replace(batch, targets=[]).to(device, non_blocking=True).inputs()
    with autocast(device, dtype):
        found = [prediction.float32() for prediction in model(**inputs)]  # whoever wrote it
    if device.type != "cuda":
        return [p.to("cpu") for p in found]
    moved = [p.to("cpu", non_blocking=True) for p in found]
    torch.cuda.current_stream(device).synchronize()  # one wait a batch instead of one a tensor
    return moved


def prepare(model: Model, device: torch.device | str, precision: str) -> Model:
    """A copy of a model for inference only: the same results, sooner.

    Batch norms are folded into the convolutions before them, weights are cast once instead of at
    each call, and convolutions read channels last. Box decoding stays in fp32: the models see to
    that.
    """
    fast = _folded(model)
    fast.to(device).to(memory_format=torch.channels_last)
    dtype = resolve(precision, device)
    for module in fast.modules():
        if isinstance(module, _WEIGHTED):
            module.to(dtype)
    return fast


def _folded(model: Model) -> Model:
    """A folded copy; a plain one if a backbone runs its parts in another order than it lists.

    A backbone is tried. What else a model has is folded only where the order is sure, and a model
    that keeps its network elsewhere (torchvision's) is left as it is.
    """
    plain = copy.deepcopy(model).eval().requires_grad_(False)
    folded = copy.deepcopy(plain)
    freeze_norms(folded)
    if not isinstance(model.backbone, Backbone):
        return plain
    fold_norms(folded.backbone)
    for part in folded.children():
        fold_norms(part, inside=nn.Sequential)
    with torch.inference_mode():
        channels = plain.mean_std.shape[1]
        side = max(128, model.backbone.least_side)
        probe = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))
        probe = probe.to(next(plain.parameters()))
        ours, theirs = folded.backbone(probe), plain.backbone(probe)
    # a wrong order is wrong by far; a GPU's convolutions (TF32) alone differ by about a thousandth
    same = all((ours[k] - theirs[k]).abs().max() <= 2e-2 * theirs[k].abs().max() for k in theirs)
    return folded if same else plain
