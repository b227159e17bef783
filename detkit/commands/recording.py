"""`row=FILE` of a verb: its run becomes a measured row, or one more seed of one.

Another command's row, and a seed that the row has already, are refused before anything is computed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from detkit import checkpoint
from detkit.atomic import json_text, write_json
from detkit.commands.measured import Figure, Row, read, write
from detkit.errors import DetkitError
from detkit.folders import held, in_home, make_folder
from detkit.inference.tasks import tasks
from detkit.ops.device import pick_device
from detkit.ops.precision import emulated
from detkit.training import run_folder

COMPANIONS = {"voc07/mAP"}  # kept too, beside the figures that the last line tells
FREE = ("seed", "row", "run_dir", "resume", "output")  # in what the runs of a row may differ
OTHER = "name another file with row=FILE, or delete this one to measure anew."

Verb = Callable[[Any], dict[str, Any]]


class Cost(NamedTuple):
    """What a run took: minutes of wall time, and of what machine."""

    minutes: float | None
    cpu: str | None


def recorded(verb: Verb) -> Verb:
    """The verb, whose run is added to the row that `settings.row` names.

    `train` also notes in run.json how long it took on what, for an `evaluate row=FILE` of the run.
    """

    @functools.wraps(verb)
    def run(settings: Any) -> dict[str, Any]:
        begin = time.monotonic()
        row = _begun(verb.__name__, settings) if settings.row else None
        result = verb(settings)
        if os.environ.get("RANK", "0") != "0":  # of several processes the first one writes
            return result
        cost = Cost(round((time.monotonic() - begin) / 60, 2), _machine(settings))
        if verb.__name__ == "train":
            cost = _noted(Path(result["run_dir"]) / "run.json", cost)
        if row is not None:
            figures = {key: value for key, value in result.items() if key != "run_dir"}
            row = replace(
                row,
                what=", ".join(filter(None, (row.what, figures.get("split")))),
                figure=_headline(figures),
                minutes=row.minutes or [cost.minutes],
                cpu=row.cpu or cost.cpu,
                results=[hashlib.sha256(json_text(figures).encode()).hexdigest()],
            )
            _add(in_home(settings.row), row)
        return result

    return run


def _begun(verb: str, settings: Any) -> Row:
    """What of the row is known before the run.

    Raises:
        DetkitError: the row's file is another command's, has this seed already, or is no row.
    """
    if {"-m", "--multirun"} & set(sys.argv):
        raise DetkitError("A row is of one run.", remedy="run the seeds one after the other.")
    parts = {key: getattr(settings, key, None) for key in ("model", "dataset", "seed")}
    commits = [_commit(run_folder.versions())]
    cost, said = None, command([sys.argv], _processes())  # what it takes is known afterwards
    source = {"train": "resume", "evaluate": "checkpoint"}.get(verb)
    if source and (run := _run(getattr(settings, source), verb)):
        record = checkpoint.read_json(run / "run.json", ("calls", "seed", "versions"))
        config = checkpoint.read_meta(checkpoint.find(run))["config"]
        parts = {"model": config["model"], "dataset": parts["dataset"] or config["dataset"]}
        parts["seed"] = record["seed"]
        commits.insert(0, _commit(record["versions"]))
        calls = [shlex.split(call["command"]) for call in record["calls"]]
        if verb == "train":
            said = command([*calls, sys.argv], _processes())
        else:
            last = checkpoint.find(settings.checkpoint).parent.name == "last"
            of_run = f"checkpoint=RUN{'/last' if last else ''}"
            trained = command(calls, record["calls"][-1].get("processes", 1))
            said = f"{trained} && {command([[*sys.argv, of_run]])}"
            cost = _cost(record["calls"])
    row = Row(
        system=_name(parts["model"]),
        what=_data(parts["dataset"]) if verb != "benchmark" else "beside torchvision's",
        figure="",
        seeds=None if parts["seed"] is None else [parts["seed"]],
        minutes=[cost.minutes] if cost else None,
        cpu=cost.cpu if cost else None,
        commit=", ".join(dict.fromkeys(commits)),
        command=said,
        results=None,
        paper=None,
        cause=None,
    )
    file = in_home(settings.row)
    if file.exists():
        _check_joins(file, read(file), row)
    return row


def _run(path: str | None, verb: str) -> Path | None:
    """The run folder around a checkpoint, if there is one."""
    if path is None:
        return None
    folder = checkpoint.find(path, "last" if verb == "train" else "best").parent.absolute()
    folder = folder.parent if folder.name in ("best", "last") else folder
    return folder if (folder / "run.json").is_file() else None


def cost_of_run(path: str) -> Cost:
    """What the training took whose checkpoint that is; nothing known where no run is around it."""
    run = _run(path, "evaluate")
    known = checkpoint.read_json(run / "run.json", ("calls",))["calls"] if run else []
    return _cost(known) if known else Cost(None, None)


def _noted(file: Path, cost: Cost) -> Cost:
    """Adds to the run's last call what it took; returns what all its calls took."""
    record = checkpoint.read_json(file, ("calls",))
    record["calls"][-1] |= cost._asdict() | {"processes": _processes()}
    write_json(file, record)
    return _cost(record["calls"])


def _cost(calls: Sequence[Mapping[str, Any]]) -> Cost:
    """Of all calls: no minutes where one was stopped, which noted none."""
    minutes, cpu = [call.get("minutes") for call in calls], None
    for call in calls:
        cpu = _both(cpu, call.get("cpu"), "; ")
    known = [m for m in minutes if m is not None]
    return Cost(round(sum(known), 2) if len(known) == len(calls) else None, cpu)


def _name(model: Any) -> str | None:
    return model["name"] if isinstance(model, Mapping) else model


def _data(dataset: Mapping[str, Any] | None) -> str:
    return Path(dataset.get("root") or dataset["name"]).resolve().name if dataset else ""


def _check_joins(file: Path, row: Row, new: Row) -> None:
    """Raises the error of a run that is no further seed of the row."""
    if row.command != new.command:
        raise DetkitError(
            f"The row is another command's: {row.command}; this one is: {new.command}.",
            file=file,
            record="command",
            remedy=OTHER,
        )
    if row.seeds is None or new.seeds is None or set(row.seeds) & set(new.seeds):
        which = f"seed {new.seeds[0]}" if new.seeds else "without a seed"
        raise DetkitError(f"It was measured already ({which}).", file=file, remedy=OTHER)
    if isinstance(row.figure, str) or any(isinstance(v, str) for v in row.figure.values()):
        raise DetkitError(
            "Its figure is a text, which no seed can join.",
            file=file,
            record="figure",
            remedy=OTHER,
        )


def _add(file: Path, new: Row) -> None:
    """Writes the row, or the seed into the row that stands there: with that row's figures."""
    make_folder(file.absolute().parent, "row")
    with held(file.absolute().parent):  # from another seed's run
        write(file, joined(file, read(file), new) if file.exists() else new)


def joined(file: Path, row: Row, new: Row) -> Row:
    """The row with one more seed; what the user wrote into it stays.

    Raises:
        DetkitError: the run is no further seed of the row, or lacks one of its figures.
    """
    _check_joins(file, row, new)
    assert isinstance(row.figure, dict)
    assert isinstance(new.figure, dict)
    figure: Figure = {}
    for key, values in row.figure.items():
        if key not in new.figure:
            raise DetkitError(f"The run has no {key}.", file=file, record="figure", remedy=OTHER)
        figure[key] = [*values, *new.figure[key]]
    unknown = [None] * row.runs
    return replace(
        row,
        figure=figure,
        seeds=[*(row.seeds or []), *(new.seeds or [])],
        minutes=[*(row.minutes or unknown), *(new.minutes or [None])],
        results=[*(row.results or unknown), *(new.results or [None])],
        cpu=_both(row.cpu, new.cpu, "; "),
        commit=_both(row.commit, new.commit, ", "),
    )


def _both(one: str | None, other: str | None, between: str) -> str | None:
    parts = [part for text in (one, other) if text for part in text.split(between)]
    return between.join(dict.fromkeys(parts)) or None


def command(calls: Sequence[Sequence[str]], processes: int = 1) -> str:
    """What to type to get it again, but for the seed: the calls of one run as one.

    Args:
        calls: `sys.argv` of each; a later value of a setting is the run's.
        processes: of `torchrun`.
    """
    found: dict[str, str] = {}
    for program, *rest in calls:
        script = Path(program).name
        start = f"python scripts/{script}"
        if processes > 1:
            start = f"torchrun --nproc-per-node {processes} scripts/{script}"
        if script in ("detkit", "__main__.py"):
            start, rest = " ".join(["detkit", *rest[:1]]), rest[1:]
        for argument in rest:
            key, sign, value = argument.partition("=")
            found[key] = f"{key}{sign}{_placeless(value)}" if sign else _placeless(key)
    return " ".join([start, *(shlex.quote(v) for key, v in found.items() if key not in FREE)])


def _placeless(value: str) -> str:
    """A path from this machine's root or home as its last part."""
    return Path(value).name if re.match(r"[/~]|\.\.?/", value) else value


def _machine(settings: Any) -> str:
    """What computed: `AMD EPYC, 2 of 2 cores, AVX-512, no bf16`, and a GPU before it."""
    name, file = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if file.exists() and (found := re.search(r"^model name\s*: (.*)", file.read_text(), re.M)):
        name = re.sub(r"\((R|TM)\)|( \d+-Core)? Processor.*| CPU.*", "", found[1]).strip()
    wide = "AVX-512" if "AVX512" in torch.backends.cpu.get_cpu_capability() else "no AVX-512"
    half = "no bf16" if emulated(torch.bfloat16, "cpu") else "bf16"
    text = f"{name}, {torch.get_num_threads()} of {os.cpu_count()} cores, {wide}, {half}"
    device = pick_device(settings.device)
    if device.type == "cuda":
        text = f"{torch.cuda.get_device_name(device)}, {text}"
    return f"{_processes()} processes, each on {text}" if _processes() > 1 else text


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _commit(versions: Mapping[str, str]) -> str:
    return versions["detkit"].partition("+")[2] or versions["detkit"]


def _headline(figures: Mapping[str, Any]) -> Figure:
    """The figures that choose checkpoints and their companions; of a benchmark its ratios."""
    found: Figure = {}
    kinds = [task.evaluator for task in tasks.values()]
    wanted = {key for kind in kinds for key in (kind.headline, *kind.beside)} | COMPANIONS
    for key, value in figures.items():
        if isinstance(value, Mapping) and "ratio" in value:
            spread = f" ({value['low']:.2f}–{value['high']:.2f})" if "low" in value else ""
            found[key] = f"{value['ratio']:.2f} of the peer's{spread}"
        elif key in wanted:
            found[key] = [None if value is None else round(value, 4)]
    return found
