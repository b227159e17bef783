"""A model watched while it predicts one picture, by hooks: nothing is computed a second time.

Norms should be as `backbones.norms.unfreeze_norms` leaves them: then each convolution is called by
itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detkit.draw import as_rgb, visible
from detkit.errors import DetkitError
from detkit.models.model import Model
from detkit.predictions import Prediction
from detkit.structures import Batch

BACKBONE = "backbone"


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        inputs: its positional arguments.
        output: what it gave.
    """

    inputs: tuple[Any, ...]
    output: Any


@dataclass
class Seen:
    """What went on in a model.

    Attributes:
        model: it.
        batch: of the one picture.
        picture: (h, w, 3) uint8, the batch's image without its padding.
        names: of the classes.
        calls: by the modules' names: of all that are not inside the backbone, of the backbone
            itself, and of the layers that were asked for.
        maps: what the backbone gave, call by call: tensors that gradients can be asked for.
        prediction: in pixels of the network's image, with its graph back to `maps`.
    """

    model: Model
    batch: Batch
    picture: np.ndarray
    names: tuple[str, ...]
    calls: dict[str, list[Call]] = field(default_factory=dict)
    maps: list[dict[str, Tensor]] = field(default_factory=list)
    prediction: Any = None

    def outputs(self) -> dict[str, list[Any]]:
        """What each module gave, call by call; of those inside the backbone nothing."""
        return {
            name: [call.output for call in calls]
            for name, calls in self.calls.items()
            if not name.startswith(f"{BACKBONE}.")
        }

    def output(self, name: str) -> Any:
        """What a module gave at its first call."""
        return self.calls[name][0].output

    @property
    def sizes(self) -> Tensor:
        return self.batch.sizes


def watch(model: Model, batch: Batch, names: tuple[str, ...], layers: Collection[str]) -> Seen:
    """The model's prediction of one picture, and what went on.

    Args:
        model: in `eval()`, its parameters without gradients.
        batch: of one picture, on the model's device.
        layers: names of modules whose outputs are kept, wherever they are.
    """
    (height, width) = batch.sizes[0].tolist()
    seen = Seen(model, batch, rgb(batch.images[0, :, :height, :width]), names)
    with hooked(model, seen, layers), torch.enable_grad():
        found = model(**batch.inputs())
    prediction: Prediction = found[0]
    prediction.names = names
    seen.prediction = prediction
    return seen


@contextmanager
def hooked(model: Model, seen: Seen, layers: Collection[str]) -> Iterator[None]:
    """Hooks for as long as the block lasts."""
    with ExitStack() as stack:
        for name, module in model.named_modules():
            inside = name.startswith(f"{BACKBONE}.")
            if not name or (inside and name not in layers):
                continue
            hook = recorder(seen, name, copies=name in layers)
            stack.callback(module.register_forward_hook(hook).remove)
        last = model.backbone.register_forward_hook(joint(seen))
        stack.callback(last.remove)
        yield


def recorder(seen: Seen, name: str, copies: bool) -> Any:
    """A hook that keeps a module's calls.

    Args:
        copies: of the outputs, which the layer behind may work on in place.
    """

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        kept = mapped(output, lambda tensor: tensor.detach().clone()) if copies else output
        seen.calls.setdefault(name, []).append(Call(inputs, kept))

    return hook


def joint(seen: Seen) -> Any:
    """A hook behind the backbone: from here on there is a graph, and nothing of it before."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, Mapping):  # a plugin's, of another form
            return None
        maps = {key: value.detach().requires_grad_() for key, value in output.items()}
        seen.maps.append(maps)
        return {key: value.clone() for key, value in maps.items()}  # a leaf is not worked on

    return hook


def mapped(value: Any, change: Any) -> Any:
    """A structure of dicts, lists and tuples with each tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mapped(item, change) for item in value]
    return value


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Each tensor in such a structure, with the way to it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, f"{name} {key}".strip())
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value, 1):
            yield from tensors(item, f"{name} {place}".strip())


def rgb(image: Tensor) -> np.ndarray:
    """(C, H, W) uint8, or float in 0 … 1 → (H, W, 3) uint8; of bands those that `visible` takes."""
    values = image.detach().cpu()
    if values.is_floating_point():
        values = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    return as_rgb(visible(values.permute(1, 2, 0).numpy()))


def denormalized(images: Tensor, mean_std: Tensor) -> Tensor:
    """What the network was given as numbers about zero, in 0 … 1 again."""
    mean, std = mean_std
    return images.detach() * std + mean


def check_layers(model: nn.Module, layers: Iterable[str]) -> None:
    """
    Raises:
        DetkitError: the model has no such layer; the nearest names are told.
    """
    names = [name for name, _ in model.named_modules() if name]
    for layer in layers:
        if layer not in names:
            near = difflib.get_close_matches(layer, names, n=3, cutoff=0.4)
            near += [n for n in names if layer.lower() in n.lower() and n not in near][
                : 3 - len(near)
            ]
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            top = ", ".join(name for name, _ in model.named_children())
            raise DetkitError(
                f"The model has no layer {layer!r}.{hint}",
                record="layers",
                remedy=f"name a module of it with dots between; at the top are {top}.",
            )
