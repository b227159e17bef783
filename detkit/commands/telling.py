"""What a training run says at its beginning and at its end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from detkit import checkpoint
from detkit.atomic import write_json, write_text
from detkit.backbones.pretrained import LOGITS
from detkit.data import contents
from detkit.data.records import Records
from detkit.distributed import World
from detkit.evaluation.text import number
from detkit.ops.precision import describe
from detkit.training.loop import Plan
from detkit.training.state import State

LARGE = 2e9  # bytes
MANY = 20.0  # million parameters: steps of seconds on a CPU
TOO_LARGE = """
note: on a CPU a step of a network of this size takes seconds, and random weights need many;
experiment=small (for pixels small_unet) is made for CPUs, and backbone.weights= starts from a
trained network."""


def first_line(
    state: State, settings: Any, records: Records, plan: Plan, world: World, stages: str = ""
) -> str:
    """What is trained on what, where to; and a warning where that will not end today."""
    model = state.model
    report = model.backbone.weights_report
    trunk = f"trunk from {_short(report.file)}" if report else "random weights"
    if report and (prefix := report.metadata.get("stripped")):
        trunk += f", {prefix!r} taken off all its names"
    if report and any(name.startswith(LOGITS) for name in report.missing):
        trunk += ", its last layer made anew"
    if settings.weights:
        trunk = f"from {settings.weights}"
    if state.step:
        trunk = f"going on after step {state.step:,}"
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    place = str(world.device)
    if place == "cpu":
        place = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores"
    if world.size > 1:
        place = f"{world.size} processes, each on {place}"
    parts = f" in stages {stages}" if stages else ""
    slow = world.device.type == "cpu" and parameters > MANY and trunk == "random weights"
    return (
        f"training {settings.model['name']} ({settings.backbone['name']}, {parameters:.1f} M "
        f"parameters, {trunk}) on {number(len(records), 'image')}, "
        f"{number(len(records.names), 'class')}; {number(plan.steps, 'step')}{parts} on {place} in "
        f"{describe(plan.dtype, world.device)}"
        f" → {settings.run_dir}" + (TOO_LARGE if slow else "")
    )


def room_line(state: State) -> str:
    """How large the run folder gets, where that is more than `LARGE`; else empty.

    `best/` has the weights once, `last/` the shown and the raw ones and the optimiser's numbers,
    and twice while it is written.
    """
    weights = sum(t.numel() * t.element_size() for t in state.model.state_dict().values())
    trained = sum(p.numel() * 4 for p in state.model.parameters() if p.requires_grad)
    defaults = state.optimizer.defaults if state.optimizer else {}
    numbers = 2 if "betas" in defaults else int(bool(defaults.get("momentum")))
    last = 2 * weights + numbers * trained
    if weights + last < LARGE:
        return ""
    return (
        f"note: the run folder gets {(weights + last) / 1e9:.1f} GB large, and {last / 1e9:.1f} GB"
        " more while it saves"
    )


def _short(file: str) -> str:
    """A file's name without its ending; that of its run for a checkpoint of ours."""
    path = Path(file)
    own = path.stem == "model" and path.parent.name in ("best", "last")
    return path.parent.parent.resolve().name if own else path.stem


def write_record(
    folder: Path,
    settings: Any,
    data: Mapping[str, Records],
    weights: Mapping[str, Any],
    *,
    versions: Mapping[str, str],
    step: int,
    resumed: bool,
) -> None:
    """Writes config.yaml, classes.json and run.json; a resumed run adds its call to the last.

    Args:
        data: the records of each split, the training split first.
        weights: what was loaded and what not: of the trunk, and of `weights=`.
        step: where this call begins.
        resumed: whether it goes on with the run that the folder holds.
    """
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    call = {"time": now, "step": step, "command": shlex.join(sys.argv)}
    record: dict[str, Any] = {
        "versions": versions,
        "seed": settings.seed,
        "data": {
            split: {"source": r.source, "images": len(r), "fingerprint": r.fingerprint()}
            for split, r in data.items()
        },
        "weights": {k: asdict(w) if is_dataclass(w) else w for k, w in weights.items()},  # type: ignore[arg-type]
        "calls": [],
    }
    file = folder / "run.json"
    if resumed and file.exists():
        record = checkpoint.read_json(file, ("calls",))
    write_json(file, {**record, "calls": [*record["calls"], call]})
    config = yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True)
    write_text(folder / "config.yaml", config)
    contents.write(folder, tuple(data.values()))
    write_json(folder / "classes.json", list(next(iter(data.values())).names))


def weights_line(transferred: Mapping[str, Any]) -> str:
    """What `weights=` gave, in a line."""

    def some(names: Sequence[str]) -> str:
        few = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        return f"{len(names)} ({few})"

    new, unused = transferred["new"], transferred["unused"]
    other = [name for name in new if name in unused]
    parts = {
        "made anew, since classes or shapes differ": other,
        "made anew, since it lacks them": [name for name in new if name not in other],
        "not used": [name for name in unused if name not in other],
    }
    told = "".join(f"; {what}: {some(names)}" for what, names in parts.items() if names)
    if prefix := transferred.get("stripped"):
        told += f"; {prefix!r} taken off all its names"
    return f"weights from {transferred['file']}: {len(transferred['taken'])} tensors taken{told}"


def taken_over(settings: Any) -> str:
    """Which settings are those of the weights' run: what prepares pictures, and the recipe."""
    meta = checkpoint.find(settings.weights).with_name("meta.json")
    config = checkpoint.read_meta(meta)["config"] if meta.exists() else {}
    parts = {part: getattr(settings, part) for part in ("transforms", "optimizer", "schedule")}
    same = {part: values for part, values in parts.items() if values and values == config.get(part)}
    sides = [f"{k} {v}" for k, v in same.get("transforms", {}).items() if k.endswith("_side") and v]
    told = [f"{part} {values['name']}" for part, values in same.items()]
    if sides:
        told[0] += f" ({', '.join(sides)})"
    return ", ".join(told)


def script(verb: str) -> str:
    """How the user calls a verb: as this one was called."""
    if Path(sys.argv[0]).name == "train.py":
        return f"python {Path(sys.argv[0]).with_name(f'{verb}.py')}"
    return f"detkit {verb}"
