"""Checkpoints: safetensors and plain JSON, so reading a stranger's file executes nothing.

A checkpoint is a folder with `model.safetensors` and `meta.json`; a run's `last/` also holds
`resume.safetensors` and `resume.json`. A folder is written under another name and then put in the
place of the old one, so a kill at any moment leaves the old or the new one whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detkit.atomic import write_json
from detkit.backbones.norms import freeze_norms, held_frozen, match_norms
from detkit.errors import DetkitError, UnknownName
from detkit.folders import in_home
from detkit.models.build import build
from detkit.models.model import Model

FORMAT = 1
PARTS = ("model", "backbone")  # what a model is rebuilt from
REQUIRED = ("config", "names", "category_ids")


def save(
    folder: Path,
    tensors: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    resume: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None,
) -> None:
    """Writes a checkpoint; whatever happens meanwhile, the old one or the new one is there.

    Args:
        folder: `best` or `last` of a run folder.
        tensors: the model's state dict.
        meta: `config`, `names`, `category_ids` and whatever else tells how it came about.
        resume: what else the run needs to go on: tensors and plain values.
    """
    new, old = folder.with_name(f".{folder.name}.new"), _old(folder)
    if new.exists():  # of a run that was killed while it wrote
        shutil.rmtree(new)
    new.mkdir(parents=True)
    write_tensors(new / "model.safetensors", tensors)
    write_json(new / "meta.json", {"format": FORMAT, **meta})
    if resume is not None:
        write_tensors(new / "resume.safetensors", resume[0])
        write_json(new / "resume.json", resume[1])
    _to_disk(new)
    if folder.exists():
        if old.exists():
            shutil.rmtree(old)
        folder.rename(old)  # from here to the next rename `settled` finds the old one
    new.rename(folder)
    if old.exists():
        shutil.rmtree(old)


def _to_disk(folder: Path) -> None:
    """Out of the system's memory: a power cut could leave files behind that have but a name."""
    for file in folder.iterdir():
        with file.open("rb+") as written:
            os.fsync(written.fileno())


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, with the permissions of any other file (the library gives 0600).

    Raises:
        DetkitError: it cannot be written.
    """
    try:
        file.touch()
        mode = file.stat().st_mode
        save_file(_plain(tensors), file)
        file.chmod(mode)
    except (SafetensorError, OSError) as error:
        raise DetkitError(
            f"The checkpoint cannot be written ({error}).",
            file=file,
            remedy="make room; resume= goes on from the checkpoint before it, where there is one.",
        ) from error


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def settled(folder: Path) -> Path:
    """The folder, or the one before it if a kill struck between the two renames of `save`."""
    return _old(folder) if not folder.exists() and _old(folder).exists() else folder


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, in plain order, none sharing memory with another: what safetensors takes."""
    seen: set[int] = set()
    plain = {}
    for key, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        plain[key] = value.clone() if place in seen else value
        seen.add(place)
    return plain


def find(path: str | Path, prefer: str = "best") -> Path:
    """The `model.safetensors` that a path means.

    Args:
        path: a run folder, a checkpoint folder or the file itself.
        prefer: `best` or `last`: which one of a run folder; the other if there is no such.
    """
    path = in_home(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise DetkitError(
            "No such checkpoint.",
            file=path,
            remedy="give a run folder, its best or last folder, or a model.safetensors.",
        )
    other = "last" if prefer == "best" else "best"
    for folder in (path, settled(path / prefer), settled(path / other)):
        if (folder / "model.safetensors").is_file():
            return folder / "model.safetensors"
    raise DetkitError(
        "No checkpoint in this folder: neither model.safetensors nor best/ nor last/.",
        file=path,
        remedy="give the folder of a run that has saved one.",
    )


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise DetkitError(
            f"Not a readable safetensors file ({error}).",
            file=file,
            remedy="it may be cut short: copy it again, or take the run's other checkpoint.",
        ) from error


def read_json(file: Path, required: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object that has at least the required keys."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DetkitError(
            f"Not a readable JSON file ({error}).",
            file=file,
            remedy=f"{file.name} belongs beside its safetensors file: copy the whole folder.",
        ) from error
    absent = [k for k in required if not isinstance(value, dict) or k not in value]
    if absent:
        raise DetkitError(
            f"It lacks {', '.join(absent)}.", file=file, remedy="take a checkpoint made by detkit."
        )
    return value


def read_meta(file: Path) -> dict[str, Any]:
    """The meta.json beside a `model.safetensors`."""
    meta = read_json(file.parent / "meta.json", REQUIRED)
    form = meta.get("format", FORMAT)
    if not isinstance(form, int):
        raise _damaged(file, f"Its format is {form!r}, not a number.")
    if form > FORMAT:
        raise DetkitError(
            f"Its format is {form}; this detkit reads up to {FORMAT}.",
            file=file.parent / "meta.json",
            remedy="install a newer detkit.",
        )
    names, ids = meta["names"], meta["category_ids"]
    if not _is_list_of(str, names) or len(set(names)) < len(names):
        raise _damaged(file, "Its names are not a list of different class names.")
    if not _is_list_of(int, ids) or len(set(ids)) < len(ids):
        raise _damaged(file, "Its category_ids are not a list of different numbers.")
    if not isinstance(meta["config"], dict):
        raise _damaged(file, "Its config holds no settings.")
    if len(names) != len(ids):
        counts = len(meta["names"]), len(meta["category_ids"])
        raise _damaged(file, f"{counts[0]} class names, but {counts[1]} category ids.")
    return meta


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _damaged(file: Path, problem: str) -> DetkitError:
    remedy = "restore the file that belongs to this checkpoint."
    return DetkitError(problem, file=file.parent / "meta.json", remedy=remedy)


def read_resume(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` got as `resume`, from a run's `last` folder."""
    folder = settled(folder)
    if not (folder / "resume.json").exists():
        raise DetkitError(
            "This checkpoint holds no state to resume from (resume.safetensors, resume.json).",
            file=folder,
            remedy="restore the run's last/, or start a new run from the weights with weights=.",
        )
    return read_tensors(folder / "resume.safetensors"), read_json(folder / "resume.json", ("step",))


def load_model(
    path: str | Path, device: torch.device | str = "cpu", prefer: str = "best"
) -> tuple[Model, dict[str, Any]]:
    """Rebuilds the model of a checkpoint.

    Returns:
        The model in `eval()` on `device`, and the checkpoint's meta data.
    """
    file = find(path, prefer)
    meta, tensors = read_meta(file), read_tensors(file)
    config = meta["config"]
    parts = [config.get(part) for part in PARTS]
    if not all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts):
        raise _damaged(file, f"Its config does not name {' and '.join(PARTS)}.")
    modules = config.get("plugins")
    try:
        model = _rebuild(config, len(meta["names"]))
    except UnknownName as error:
        if not modules:
            raise
        raise _of_plugin(error, modules, file) from error
    except (TypeError, ValueError) as error:
        if modules:  # a fault of their code, it may be
            raise
        raise _damaged(file, f"Its config builds no model ({error}).") from error
    match_norms(model, tensors)
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


def _of_plugin(error: DetkitError, modules: Any, file: Path) -> DetkitError:
    """The error of a part that is not known, where the run had it from somebody's own module."""
    named = ",".join(map(str, modules)) if isinstance(modules, list) else modules
    return DetkitError(
        f"{error.problem.split('. ')[0]}. The run was trained with plugins, whose code would be"
        " executed.",
        file=file,
        remedy=f"if you trust them, add plugins=[{named}] (in Python, import them first).",
    )


def _rebuild(config: Mapping[str, Any], num_classes: int) -> Model:
    backbone = {**config["backbone"], "weights": "none"}
    return build(config["model"], backbone, num_classes)


def _difference(wanted: Mapping[str, Any], have: Mapping[str, Any]) -> str:
    told = [f"{key} is {have[key]}, not {wanted[key]}" for key in wanted.keys() & have.keys()
            if wanted[key] != have[key]]  # fmt: skip
    told += [f"{key} is missing" for key in wanted.keys() - have.keys()]
    told += [f"{key} is not its own" for key in have.keys() - wanted.keys()]
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return "; ".join(sorted(told)[:3]) + more


def transfer(
    model: Model, path: str | Path, names: Sequence[str], norm: str = "auto"
) -> dict[str, Any]:
    """Takes from a checkpoint what fits a new model.

    A tensor fits when name and shape agree. With another class list those whose shape depends on
    the number of classes are left as they are, even if that number happens to be the same.

    Args:
        model: the new model, changed in place.
        path: a checkpoint, or a safetensors file alone.
        names: the new model's classes.
        norm: `auto` freezes the norms that the file holds as frozen ones; else they stay.
    Returns:
        `file`, and lists of names: `taken`, `new` (of the model, not taken) and `unused` (of the
        file, not taken).
    """
    file = find(path)
    tensors = held = read_tensors(file)
    if (file.parent / "meta.json").exists():
        meta = read_meta(file)
        if list(meta["names"]) != list(names):
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
        "taken": taken,
        "new": sorted(ours.keys() - set(taken)),
        "unused": sorted(held.keys() - set(taken)),
    }


def _without_classes(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Tensor]:
    """Those whose shape would be the same with one class more."""
    model = {k: v for k, v in meta["config"]["model"].items() if k != "class_weights"}
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        other = _rebuild({**meta["config"], "model": model}, len(meta["names"]) + 1).state_dict()
    return {k: v for k, v in tensors.items() if k not in other or v.shape == other[k].shape}
