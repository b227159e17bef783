"""The folder of a run: made, recorded, and gone on with."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision
from torch import Tensor

import detkit
from detkit import checkpoint, ours, restore
from detkit.errors import DetkitError
from detkit.folders import dated, held, in_home, make_folder

# what may change when a run goes on: where things are, how long (which moves what is left of the
# schedule) and how often, never what is learnt from
CHANGEABLE = (
    *("resume", "run_dir", "weights", "device", "allow_download", "plugins", "dataset"),
    *(f"training.{key}" for key in ("epochs", "max_steps", "batch_size", "accumulate", "workers")),
    *(f"training.{key}" for key in ("checkpoint_every", "evaluate_every", "log_every")),
    *("training.val_losses", "training.patience", "training.keep_last", "row", "threads"),
)

# of a run, in resume.json
KEPT: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("step", "batch", "journal", "count"), (int,)),
    **dict.fromkeys(("optimizer", "sums", "scaler"), (dict,)),
    "random": (list,),
    "due": (bool,),
    "best": (float, int, type(None)),
}
RESTORE = "restore the run's last/, or start a new run from the weights with weights=."


def create(run_dir: str | None, model: str, dataset: str, stack: ExitStack) -> Path:
    """A folder without a run: `run_dir`, else `runs/DATE_TIME_MODEL_DATASET`.

    A run that ended before its first checkpoint cannot go on; its records make way.

    Args:
        stack: holds the folder against other processes.
    Raises:
        DetkitError: there is something in it, or another process writes there.
    """
    folder = in_home(run_dir) if run_dir else dated("runs", "run_dir", f"_{model}_{dataset}")
    if folder.is_dir() or not folder.exists():
        make_folder(folder, "run_dir")
        stack.enter_context(held(folder))  # before the look: a run that begins has but records
    if not ours.came_to_nothing(folder):
        saved = any((folder / name).exists() for name in ("last", ".last.old"))
        go_on = f"go on with that run by resume={shlex.quote(str(folder))}, or "
        raise DetkitError(
            "The run folder is not empty." if folder.is_dir() else "The run folder is a file.",
            file=folder,
            remedy=f"{go_on if saved else ''}choose another run_dir.",
        )
    ours.clear(folder)
    return folder


@dataclass(frozen=True)
class Saved:
    """What a run left in `last/`.

    Attributes:
        folder: of the run.
        meta: what meta.json says.
        shown: the weights that are evaluated.
        packed, plain: see `State.pack`.
    """

    folder: Path
    meta: dict[str, Any]
    shown: dict[str, Tensor]
    packed: dict[str, Tensor]
    plain: dict[str, Any]


def read(resume: str, settings: Mapping[str, Any], batch: int) -> Saved:
    """A run to go on with.

    Args:
        resume: the run folder, or its `last`.
        settings: those that it is to go on with.
        batch: images a step, of all processes.
    Raises:
        DetkitError: nothing to resume from there, or a run that would become another one.
    """
    folder, file = home(resume), checkpoint.find(resume, "last")
    meta = checkpoint.read_meta(file)
    if settings["weights"] not in (None, meta["config"]["weights"]):
        raise DetkitError(
            "Both resume and weights are given.",
            remedy="resume= goes on with a run as it is; weights= starts another one from it.",
        )
    check_unchanged(settings, meta["config"])
    packed, plain = checkpoint.read_resume(file.parent)
    if missing := [key for key in KEPT if key not in plain]:
        raise DetkitError(
            f"It lacks {', '.join(missing)}.",
            file=file.with_name("resume.json"),
            remedy=RESTORE,
        )
    odd = [key for key, types in KEPT.items() if type(plain[key]) not in types]
    odd += [key for key in ("step", "journal") if not odd and plain[key] < 0]
    if odd or plain.get("tensors", len(packed)) != len(packed):
        raise DetkitError(
            f"Its {odd[0]} cannot be {plain[odd[0]]!r}."
            if odd
            else f"resume.safetensors holds {len(packed)} of {plain['tensors']} tensors.",
            file=file.with_name("resume.json"),
            remedy=RESTORE,
        )
    if plain["batch"] != batch:
        raise DetkitError(
            f"The run has {plain['batch']} images a step; batch_size × accumulate × processes "
            f"is {batch} now.",
            file=file.parent,
            remedy="choose training.batch_size and training.accumulate for the same product.",
        )
    asked = settings["run_dir"]
    if asked not in (None, meta["config"]["run_dir"]) and Path(asked).resolve() != folder.resolve():
        raise DetkitError(
            f"A run goes on in its own folder, not in {asked}.",
            file=folder,
            remedy="leave run_dir out, or copy the folder and resume the copy.",
        )
    plain["optimizer"] = restore.todays_names(plain["optimizer"], meta)
    shown = restore.todays_names(checkpoint.read_tensors(file), meta)
    return Saved(folder, meta, shown, restore.todays_names(packed, meta), plain)


def home(resume: str) -> Path:
    """The folder around the `last` that a path means: there the run goes on.

    Raises:
        DetkitError: it is no run's.
    """
    given = checkpoint.find(resume, "last").parent
    last = given.absolute()
    known = last.name in ("best", "last", ".best.old", ".last.old")
    if known and ours.is_run(last.parent / "run.json"):
        return given.parent if given.name else last.parent
    raise DetkitError(
        "This is a checkpoint outside of its run's folder.",
        file=last,
        remedy="resume= goes on in a run's folder (with run.json and last/ in it); weights= starts"
        " a new run from a checkpoint.",
    )


def changes(now: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """What of the training is set otherwise than in the part of the run before, as texts."""
    new, old = flat(now["training"]), flat(stored["training"])
    return [
        f"training.{key}: {old[key]} → {value}"
        for key, value in new.items()
        if key in old and value != old[key]
    ]


def check_unchanged(now: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raises the error of settings that would make a resumed run another run."""
    new, old = flat(now), flat(stored)
    changed = [
        key
        for key in sorted(new.keys() | old.keys())
        if new.get(key) != old.get(key)
        and not any(key == c or key.startswith(f"{c}.") for c in CHANGEABLE)
    ]
    if changed:
        told = ", ".join(f"{k}={new.get(k)} (was {old.get(k)})" for k in changed)
        raise DetkitError(
            f"A resumed run keeps its settings, but these differ: {told}.",
            remedy="leave them out; to train on with others start a new run with weights=.",
        )


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `group.key: value`, sequences as lists."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def versions() -> dict[str, str]:
    """What a result may depend on."""
    return {
        "detkit": detkit.__version__ + _commit(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def _commit() -> str:
    """`+abc1234` in a clone, with `.changed` behind it where the code differs from the commit."""
    root = Path(detkit.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    asked = ["describe --always --exclude=*", "status --porcelain -uno -- detkit conf scripts"]
    try:
        commit, changed = (
            subprocess.run(
                ["git", *question.split()],
                cwd=root,
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for question in asked
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"+{commit}{'.changed' if changed else ''}"
