"""Checkpoints: safetensors and plain JSON, so reading a stranger's file executes nothing.

A checkpoint is a folder with `model.safetensors` and `meta.json`; a run's `last/` also holds
`resume.safetensors` and `resume.json`. A folder is written under another name and then put in the
place of the old one, so a kill at any moment leaves the old or the new one whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detkit import foreign, ours
from detkit.atomic import replacing, write_json
from detkit.errors import DetkitError
from detkit.folders import in_home

FORMAT = 2  # 1: some parts of models had other names (`Model.renamed`)
PICKLED = (b"PK\x03\x04", b"\x80\x02")  # how PyTorch's files begin, since 1.6 and before
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
        if not ours.is_new_checkpoint(new):
            raise DetkitError(
                "A checkpoint would be written here, but other files are in it.",
                file=new,
                remedy="move it out of the run's folder.",
            )
        shutil.rmtree(new)
    new.mkdir(parents=True)
    write_tensors(new / "model.safetensors", tensors)
    write_json(new / "meta.json", {"format": FORMAT, **meta})
    if resume is not None:
        write_tensors(new / "resume.safetensors", resume[0])
        write_json(new / "resume.json", resume[1])
    _to_disk(new)
    if folder.exists():
        _make_way(old, new)
        folder.rename(old)  # from here to the next rename `settled` finds the old one
    new.rename(folder)
    _make_way(old, folder)


def _make_way(old: Path, new: Path) -> None:
    """Removes a checkpoint; what the user put beside it goes along to the new one."""
    if not old.exists():
        return
    for path in old.iterdir():
        if path.name in ours.CHECKPOINT or ours.is_part(path):
            path.unlink()
        else:
            path.rename(new / path.name)
    old.rmdir()


def drop(folder: Path) -> None:
    """Removes a checkpoint; what the user put beside it stays."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name in ours.CHECKPOINT or ours.is_part(path):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


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


def replace_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """`write_tensors` such that the old file or the new one is whole."""
    with replacing(file) as part:
        write_tensors(part, tensors)


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
    if foreign.is_file(path):
        return path
    if not path.is_dir():
        raise DetkitError(
            "No such checkpoint.",
            file=path,
            remedy="give a run folder, its best or last folder, a model.safetensors, or a .weights"
            " of Darknet's.",
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
        foreign.check_regular(file)
        if foreign.begins(file, PICKLED):
            raise DetkitError(
                "This is a file of PyTorch's, not a checkpoint of detkit's (safetensors).",
                file=file,
                remedy="start from it with weights= or backbone.weights=, under a name that ends in"
                " .pth.",
            )
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
        value = foreign.read_json(file)
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
        raise damaged(file, f"Its format is {form!r}, not a number.")
    if form > FORMAT:
        raise DetkitError(
            f"Its format is {form}; this detkit reads up to {FORMAT}.",
            file=file.parent / "meta.json",
            remedy="install a newer detkit.",
        )
    names, ids = meta["names"], meta["category_ids"]
    if not _is_list_of(str, names) or len(set(names)) < len(names):
        raise damaged(file, "Its names are not a list of different class names.")
    if not _is_list_of(int, ids) or len(set(ids)) < len(ids):
        raise damaged(file, "Its category_ids are not a list of different numbers.")
    if not isinstance(meta["config"], dict):
        raise damaged(file, "Its config holds no settings.")
    _move(meta["config"])
    if len(names) != len(ids):
        counts = len(meta["names"]), len(meta["category_ids"])
        raise damaged(file, f"{counts[0]} class names, but {counts[1]} category ids.")
    return meta


def _move(config: dict[str, Any]) -> None:
    """Puts settings of older runs where they are now: `head_first` was a classifier's own."""
    model, training = config.get("model"), config.get("training")
    if isinstance(model, dict) and "head_first" in model:
        share = model.pop("head_first") or None
        if isinstance(training, dict):
            training.setdefault("head_first", share)


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def damaged(file: Path, problem: str) -> DetkitError:
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
