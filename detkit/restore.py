"""A model again from a checkpoint: as it was, or what fits of it in another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from detkit.backbones import pretrained
from detkit.backbones.norms import freeze_norms, held_frozen, match_norms
from detkit.checkpoint import damaged, find, read_tensors
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.model import Model, models
from detkit.registry import Registry
from detkit.stored import read_meta
from detkit.structures import Classes

T = TypeVar("T")
Restored = tuple[Model, dict[str, Any]]  # a model and the meta data of its checkpoint

# by a file's suffix: (file, beside) → a model on the CPU and its meta data
readers: Registry[Restored] = Registry("form of checkpoints", "detkit.interop")


@dataclass(frozen=True)
class Beside:
    """What a foreign checkpoint needs beside its weights, where it is not to be found there.

    Attributes:
        cfg: the file that describes the network.
        names: the file with a class name on each line.
        letterbox: pictures keep their aspect ratio (True) or are stretched (False); None is as the
            description has it.
    """

    cfg: str | None = None
    names: str | None = None
    letterbox: bool | None = None


SPARE = 1 << 28  # bytes that a model may have beside its weights file, such as heads of training
NOTHING = Beside()


def load_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    prefer: str = "best",
    beside: Beside = NOTHING,
) -> Restored:
    """Rebuilds the model of a checkpoint.

    Args:
        beside: of a foreign checkpoint.
    Returns:
        The model in `eval()` on `device`, and the checkpoint's meta data.
    """
    file = find(path, prefer)
    if is_foreign(file):
        model, meta = readers[file.suffix](file, beside)
        return model.to(device).eval(), meta
    for field in fields(beside):
        if (value := getattr(beside, field.name)) is not None:
            raise DetkitError(
                f"{field.name}={value} is of a foreign checkpoint; this one brings its own.",
                file=file,
                remedy=f"leave {field.name} out.",
            )
    meta = read_meta(file)
    config = meta["config"]
    check_size(config, classes_of(meta), file)
    try:
        model = _rebuild(config, classes_of(meta))
    except (
        DetkitError, TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError
    ) as error:  # fmt: skip
        elsewhere = isinstance(error, DetkitError) and error.file is not None
        if elsewhere or config.get("plugins"):  # in a file that the config names, or their code
            raise
        raise damaged(file, f"Its config builds no model ({error}).") from error
    tensors = todays_names(read_tensors(file), meta)
    match_norms(model, tensors)
    for key, value in model.state_dict().items():  # older checkpoints may be without such heads
        if key.startswith(model.training_only):
            tensors.setdefault(key, value)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    have = {key: tuple(value.shape) for key, value in tensors.items()}
    if wanted != have:
        raise DetkitError(
            f"The weights are not those of {meta['config']['model']['name']} with "
            f"{len(meta['names'])} classes: {_difference(wanted, have)}.",
            file=file,
            remedy="model.safetensors and meta.json have to come from the same checkpoint.",
        )
    model.load_state_dict(tensors)
    return model.to(device).eval(), meta


def is_foreign(file: Path) -> bool:
    """Whether another program's checkpoint is to be read, such as Darknet's `.weights`."""
    return file.suffix not in ("", ".safetensors") and file.suffix in readers


def classes_of(meta: Mapping[str, Any]) -> Classes:
    """What a checkpoint's model tells apart."""
    parents = meta.get("parents")
    names, ids = tuple(meta["names"]), tuple(meta["category_ids"])
    return Classes(names, ids, None if parents is None else tuple(parents))


def check_size(config: Mapping[str, Any], classes: Classes, file: Path) -> None:
    """
    Raises:
        DetkitError: the model would be far larger than the weights that the file holds; told before
            memory is taken for it.
    """
    try:
        with torch.device("meta"):
            state = _rebuild(config, classes).state_dict()
    except Exception:  # not every part can be built without numbers; what is wrong is told later
        return
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > 2 * file.stat().st_size + SPARE:
        raise damaged(file, f"Its config describes a model of {size:,} bytes.")


def _rebuild(config: Mapping[str, Any], classes: Classes) -> Model:
    backbone = {**config["backbone"], "weights": "none"}
    return build(config["model"], backbone, classes)


def _difference(wanted: Mapping[str, Any], have: Mapping[str, Any]) -> str:
    told = [f"{key} is {have[key]}, not {wanted[key]}" for key in wanted.keys() & have.keys()
            if wanted[key] != have[key]]  # fmt: skip
    told += [f"{key} is missing" for key in wanted.keys() - have.keys()]
    told += [f"{key} is not its own" for key in have.keys() - wanted.keys()]
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return "; ".join(sorted(told)[:3]) + more


def todays_names(values: Mapping[str, T], meta: Mapping[str, Any]) -> dict[str, T]:
    """The same values under the names that a model's parts have now.

    Args:
        values: by key of a state dict, or with such a key between slashes (`optimizer/KEY/step`).
        meta: of their checkpoint.
    """
    name = meta["config"]["model"]["name"]
    if meta.get("format", 1) > 1 or name not in models:
        return dict(values)
    prefixes = models.part(name).renamed

    def now(part: str) -> str:
        old = next((prefix for prefix in prefixes if part.startswith(prefix)), None)
        return part if old is None else prefixes[old] + part.removeprefix(old)

    return {"/".join(map(now, key.split("/"))): value for key, value in values.items()}


def transfer(
    model: Model, path: str | Path, names: Sequence[str], norm: str = "auto"
) -> dict[str, Any]:
    """Takes from a checkpoint what fits a new model.

    A tensor fits when name and shape agree. With another class list those whose shape depends on
    the number of classes are left as they are, even if that number happens to be the same.

    Args:
        model: the new model, changed in place.
        path: a checkpoint, a foreign one too, or a safetensors file alone.
        names: the new model's classes.
        norm: `auto` freezes the norms that the file holds as frozen ones; else they stay.
    Returns:
        `file`, `stripped` (what was taken off all its names), and lists of names: `taken`,
        `new` (of the model, not taken) and `unused` (of the
        file, not taken).
    """
    file = find(path)
    meta, prefix = None, ""
    if is_foreign(file):
        whole, meta = readers[file.suffix](file, NOTHING)
        held = whole.state_dict()
    elif file.suffix == ".safetensors" and (file.parent / "meta.json").exists():
        held = read_tensors(file)
        meta = read_meta(file)
        held = todays_names(held, meta)
    else:  # of another program, perhaps a state dict of PyTorch's
        held, metadata = pretrained.read(file)
        prefix = metadata.get("stripped", "")
    tensors = held
    if meta is not None and list(meta["names"]) != list(names):
        tensors = _without_classes(held, meta)
    if norm == "auto":
        freeze_norms(model, lambda name: held_frozen(name, tensors))
    ours = model.state_dict()
    taken = sorted(k for k in ours if k in tensors and ours[k].shape == tensors[k].shape)
    if not taken:
        raise DetkitError(
            "Nothing in this checkpoint fits the model.",
            file=file,
            remedy="choose the model and the backbone that it was trained with.",
        )
    model.load_state_dict({key: tensors[key] for key in taken}, strict=False)
    return {
        "file": str(file),
        "stripped": prefix,
        "taken": taken,
        "new": sorted(ours.keys() - set(taken)),
        "unused": sorted(held.keys() - set(taken)),
    }


def _without_classes(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Tensor]:
    """Those whose shape would be the same with one class more."""
    model = {k: v for k, v in meta["config"]["model"].items() if k != "class_weights"}
    backbone = {k: v for k, v in meta["config"]["backbone"].items() if k != "classes"}
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        more = Classes.numbered(len(meta["names"]) + 1)
        other = _rebuild({"model": model, "backbone": backbone}, more).state_dict()
    return {k: v for k, v in tensors.items() if k not in other or v.shape == other[k].shape}
