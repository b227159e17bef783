"""`detkit compare`: several runs on one data set, side by side, as the papers' tables have them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detkit import checkpoint, distributed, foreign, restore, stored
from detkit.atomic import write_json
from detkit.commands.recording import cost_of_run
from detkit.data.formats import BOXES
from detkit.data.open import open_dataset, split_name
from detkit.data.records import Records
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.evaluation.evaluate import DetectionEvaluator
from detkit.evaluation.text import aligned, figure, number
from detkit.evaluation.voc import interval
from detkit.folders import in_home
from detkit.inference.measure import measure
from detkit.inference.run import prepare
from detkit.models.heads.rpn import RPN
from detkit.models.model import Model

COLUMNS = ("run", "voc/mAP", "95 %", "coco/AP", "proposals", "trained, min", "s an image")
NOTE = (
    "95 %: between which values voc/mAP lies when the images are drawn anew (bootstrap); proposals:"
    " an image; trained: minutes of wall time, on whatever machine; s an image: here and now."
)


def compare(settings: Any) -> dict[str, Any]:
    """Measures each checkpoint on the same images, and prints a table.

    Args:
        settings: `CompareSettings`, see conf/compare.yaml.
    Returns:
        `runs`: a dict each, as in the table.
    Raises:
        DetkitError: no checkpoint, one that finds no boxes, or data of other classes.
    """
    if not settings.checkpoints:
        raise DetkitError("There is nothing to compare.", remedy="give checkpoints=[RUN,RUN,…].")
    output = in_home(settings.output) if settings.output else None
    if output is not None:
        _check_free(output)
    world = distributed.start(settings.device)
    try:
        runs: list[dict[str, Any]] = []
        for path in settings.checkpoints:
            runs.append(_measured(path, settings, world, runs[0]["data"] if runs else None))
    finally:
        distributed.stop()
    found = {"runs": runs}
    print(f"\n{table(runs)}\n\n{NOTE}")
    if output is not None:
        write_json(output, found)
    return found


def _check_free(output: Path) -> None:
    """Raises where a file of somebody else's would be replaced, before anything is measured."""
    if not output.exists():
        return
    try:
        told = foreign.read_json(output)
    except (DetkitError, OSError):
        told = None
    if not isinstance(told, dict) or list(told) != ["runs"]:
        raise DetkitError(
            "The comparison would replace this, which is not compare's.",
            file=output,
            remedy="choose another file with output=FILE.",
        )


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A row a run."""
    rows = [list(COLUMNS)]
    for run in runs:
        low, high = run["interval"] or (None, None)
        proposals, minutes = run["proposals"], run["minutes"]
        rows.append(
            [
                run["run"],
                figure(run["voc/mAP"]),
                f"{figure(low)} – {figure(high)}",
                figure(run["coco/AP"]),
                "–" if proposals is None else f"{proposals:,.0f}",
                "–" if minutes is None else f"{minutes:.1f}",
                f"{run['seconds']:.2f}",
            ]
        )
    return "\n".join(aligned(rows))


def _measured(path: str, settings: Any, world: World, data: str | None) -> dict[str, Any]:
    """A row; `data` is the fingerprint of what the first one was measured on."""
    model, meta = restore.load_model(path, world.device)
    config, file = meta["config"], checkpoint.find(path)
    dataset = settings.dataset or stored.part(config, "dataset", file)
    split = settings.split or split_name(dataset, "val", model.needs)
    records = open_dataset(dataset, split, needs=model.needs)
    # of the boxes: some models read masks as well
    fingerprint = open_dataset(dataset, split, needs=BOXES).fingerprint()
    if data not in (None, fingerprint):
        raise DetkitError(
            "It would be measured on other images than the first one.",
            file=path,
            remedy="measure all on the same ones: dataset.root=PATH, and split=NAME.",
        )
    seen = number(len(records), "image")
    print(f"{config['model']['name']} ({path}): {seen} of {split}", flush=True)
    proposals = proposed(model, records)
    start = time.monotonic()
    evaluator = measure(
        prepare(model, world.device, settings.precision),
        records,
        stored.transform_of(meta, path),
        names=meta["names"],
        world=world,
        precision=settings.precision,
        batch_size=settings.batch_size,
        workers=settings.workers,
    )
    seconds = (time.monotonic() - start) / max(1, len(records))
    if not isinstance(evaluator, DetectionEvaluator):
        raise DetkitError(
            f"{config['model']['name']} finds no boxes.",
            file=file,
            remedy="compare detectors.",
        )
    figures, between = evaluator.result(), interval(records, evaluator.results())
    return {
        "run": _name(config["model"]["name"], file),
        "split": split,
        "data": fingerprint,
        "voc/mAP": figures["voc/mAP"],
        "interval": None if between is None else list(between),
        "coco/AP": figures["coco/AP"],
        "proposals": proposals,
        "minutes": cost_of_run(path).minutes,
        "seconds": seconds,
    }


def proposed(model: Model, records: Records) -> float | None:
    """Boxes that are classified an image: a proposer's on average (they are made, or kept, before
    anything is timed), else at most those of the RPN; None where there are none.
    """
    if model.proposer is not None:
        return float(np.mean([len(_boxes(model, records, i)) for i in range(len(records))]))
    rpn = getattr(model, "rpn", None)
    return float(rpn.rules.after_nms[1]) if isinstance(rpn, RPN) else None


def _boxes(model: Model, records: Records, i: int) -> np.ndarray:
    file = str(records.path(i))
    return model.proposer(records.image(i), image_id=records.image_id(i), file=file)


def _name(model: str, file: Path) -> str:
    run = file.parent.parent if file.parent.name in ("best", "last") else file.parent
    return f"{model} ({run.resolve().name})"
