"""`detkit evaluate`: measures a checkpoint, or anyone's predictions, on a data set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from detkit import checkpoint, ours, restore, stored
from detkit.atomic import write_json
from detkit.data.loading import Dataset
from detkit.data.open import open_dataset, split_name
from detkit.data.order import evaluation_batches
from detkit.data.records import Records
from detkit.data.splits import ALL
from detkit.data.transforms import Transform
from detkit.errors import DetkitError
from detkit.evaluation import files
from detkit.evaluation.diagnosis import diagnose
from detkit.evaluation.evaluate import (
    DetectionEvaluator,
    Evaluator,
    Figures,
    evaluators,
)
from detkit.folders import dated, in_home, make_folder
from detkit.inference.run import predictions, prepare
from detkit.models.model import Model
from detkit.ops.precision import describe, resolve
from detkit.structures import Detections, Prediction
from detkit.training import distributed
from detkit.training.distributed import World

UNSURE = 0.1  # a curve of precision and recall ends with detections that score less


def evaluate(settings: Any) -> Figures:
    """Prints a table, writes `results.json`, and what a checkpoint found as `predictions.json`.

    Args:
        settings: `EvaluateSettings`, see conf/evaluate.yaml.
    Returns:
        What `results.json` holds: figures as fractions of 1, null where nothing could be measured.
    Raises:
        DetkitError: no checkpoint or predictions, data that cannot be read, or other classes.
    """
    if (settings.checkpoint is None) == (settings.predictions is None):
        raise DetkitError(
            "There are two things to evaluate."
            if settings.checkpoint
            else "There is nothing to evaluate.",
            remedy="give checkpoint=PATH or predictions=PATH, one of them.",
        )
    world = distributed.start(settings.device)
    try:
        return (_predictions if settings.checkpoint is None else _checkpoint)(settings, world)
    finally:
        distributed.stop()


def _predictions(settings: Any, world: World) -> Figures:
    """Scores a file of predictions; nothing is known of the model."""
    path = in_home(settings.predictions)
    if settings.dataset is None:
        raise DetkitError("There is no ground truth.", remedy="set dataset.root to the data set.")
    split = settings.split or split_name(settings.dataset, "val", unsplit=_whole(settings.dataset))
    records = open_dataset(settings.dataset, split, images=False)
    results = files.read(path, records)
    output = None
    if world.main:
        output = in_home(settings.output) if settings.output else dated("evaluation", "output")
        _check_free(output)
    output = distributed.share(output, world)
    _say(
        world,
        f"evaluating {len(results):,} detections of {path} on {_data(records, split)} → {output}",
    )
    if len(results) and (least := results.scores.min()) > UNSURE:
        _say(
            world,
            f"note: no score is below {least:.2g}, and AP counts the unsure ones too; detkit's own"
            " come with `predict score_thresh=0.05`",
        )
    return _finish(DetectionEvaluator(records, results), world, output, split, foreign=True)


def _whole(dataset: Mapping[str, Any]) -> str | None:
    """The split of ground truth that was named by its file and has none: all of it."""
    root = dataset.get("root")
    return ALL if root and in_home(root).suffix == ".json" and in_home(root).is_file() else None


def _checkpoint(settings: Any, world: World) -> Figures:
    """Runs a model over the data and scores what it finds."""
    model, meta = restore.load_model(settings.checkpoint, world.device)
    config = meta["config"]
    file = checkpoint.find(settings.checkpoint)
    dataset = settings.dataset or stored.part(config, "dataset", file)
    split = settings.split or split_name(dataset, "val", model.task)
    records = open_dataset(dataset, split, task=model.task)
    output = _output(settings, split)
    if world.main:
        _check_free(output, predictions=model.task == "detect")
    dtype = resolve(settings.precision, world.device)
    _say(
        world,
        f"evaluating {config['model']['name']} ({config['backbone']['name']}, "
        f"{settings.checkpoint}) on {_data(records, split)}, "
        f"{world.device} in {describe(dtype, world.device)} → {output}",
    )
    evaluator = measure(
        prepare(model, world.device, settings.precision),
        records,
        stored.transform_of(meta, settings.checkpoint),
        names=meta["names"],
        world=world,
        precision=settings.precision,
        batch_size=settings.batch_size,
        workers=settings.workers,
    )
    return _finish(evaluator, world, output, split)


def measure(
    model: Model,
    records: Records,
    transform: Transform,
    *,
    names: Sequence[str],
    world: World,
    precision: str = "auto",
    batch_size: int = 1,
    workers: int = 0,
) -> Evaluator:
    """The evaluator of the model's task, having seen each image of the records once.

    Args:
        model: on `world.device`, the same in every process.
        transform: that of inference, from the checkpoint.
        names: the model's classes, brought to those of the records.
        world: each process takes its share of the images, and all get the whole result.
        batch_size: images at once in this process.
    Raises:
        DetkitError: classes that the other side lacks.
    """
    label_of = match_classes(names, records.names, model.task)
    dataset = Dataset(records, transform, needs=frozenset())
    batches = evaluation_batches(
        dataset,
        batch_size=batch_size,
        workers=workers,
        rank=world.rank,
        world=world.size,
        pin_memory=world.device.type == "cuda",
    )
    evaluator = evaluators[model.task](records)
    found = predictions(model, batches, device=world.device, precision=precision, names=names)
    quiet = None if world.main else True
    training = model.training
    model.eval()
    for frames, predicted in tqdm(
        found, total=len(batches), unit="batch", disable=quiet, leave=False
    ):
        evaluator.add(frames, [relabelled(p, label_of, records.names) for p in predicted])
    model.train(training)
    evaluator.merge(distributed.gather(evaluator.state(), world))
    return evaluator


def match_classes(
    theirs: Sequence[str],
    ours: Sequence[str],
    task: str,
    sides: tuple[str, str] = ("The model has", "the data have"),
    remedy: str = "evaluate on data with the model's class names, rename the data's classes, or"
    " train from this checkpoint with weights=.",
) -> torch.Tensor:
    """Label in the data of each class of a model, by name; −1 for one that the data lack.

    A detector may know classes more or fewer than the data; a class for each pixel leaves no such
    choice, so there both have to have the same, in any order.

    Args:
        sides: how an error begins to list the classes of each.
    Raises:
        DetkitError: neither side has all the other's classes.
    """
    given, wanted = set(theirs), set(ours)
    if not (given == wanted or (task == "detect" and (given < wanted or wanted < given))):
        raise DetkitError(
            f"The class lists do not match. {sides[0]} {', '.join(theirs)}; "
            f"{sides[1]} {', '.join(ours)}.",
            remedy=remedy,
        )
    label = {name: k for k, name in enumerate(ours)}
    return torch.tensor([label.get(name, -1) for name in theirs])


def relabelled(prediction: Prediction, label_of: torch.Tensor, names: Sequence[str]) -> Prediction:
    """The same with the labels of the data; without the classes that the data lack."""
    if isinstance(prediction, Detections):
        labels = label_of[prediction.labels]
        known = replace(prediction, labels=labels, names=tuple(names))
        return known[labels >= 0]
    return replace(prediction, logits=prediction.logits[label_of.argsort()], names=tuple(names))


def _data(records: Records, split: str) -> str:
    return f"{len(records):,} images of {split} ({records.source})"


def _output(settings: Any, split: str) -> Path:
    """Where the results go: `output`, else `evaluation/SPLIT` in the run folder."""
    if settings.output:
        return in_home(settings.output)
    folder = checkpoint.find(settings.checkpoint).parent
    run = folder.parent if folder.name in ("best", "last") else folder
    return run / "evaluation" / re.sub(r"[^\w.+-]+", "_", split).strip("_")


def _check_free(output: Path, predictions: bool = False) -> None:
    """Makes the folder.

    Args:
        predictions: they will be written, too.
    Raises:
        DetkitError: it cannot be made, or a file in it that `evaluate` has not written would be
            replaced.
    """
    make_folder(output, "output")
    results, found = output / "results.json", output / "predictions.json"
    foreign = [results] if results.exists() and not ours.is_results(results) else []
    if predictions and found.exists():
        # predict's come with a table
        foreign += [found] if not results.exists() or (output / "predictions.csv").exists() else []
    if foreign:
        raise DetkitError(
            "The results would replace this file, which is not evaluate's.",
            file=foreign[0],
            remedy="choose another folder with output=DIR.",
        )


def _say(world: World, text: str) -> None:
    if world.main:
        print(text, flush=True)


def _finish(
    evaluator: Evaluator, world: World, output: Path, split: str, foreign: bool = False
) -> Figures:
    """Writes and tells the result, and the last line; and what was found, unless it was given."""
    for note in evaluator.records.notes:
        _say(world, f"note: {note}")
    figures = report(evaluator, world, output, split, foreign)
    if world.main and isinstance(evaluator, DetectionEvaluator) and not foreign:
        found = evaluator.results()
        files.write_coco(found, evaluator.records, output / "predictions.json")
    told, file = headline(figures, evaluator.headline), output / "results.json"
    _say(world, f"done: {told} on {split}.  See {file}")
    return figures


def report(
    evaluator: Evaluator, world: World, output: Path, split: str, foreign: bool = False
) -> Figures:
    """Writes `results.json`, prints the table, and why the result is next to nothing if it is."""
    figures: Figures = {}
    if world.main:
        records, figures, why = evaluator.records, evaluator.result(), None
        if isinstance(evaluator, DetectionEvaluator):
            why = diagnose(records, evaluator.results(), figures["coco/AP50"], foreign)
        figures |= {"split": split, "data": records.source, "diagnosis": why}
        write_json(output / "results.json", figures)
        print(f"\n{evaluator.table(figures)}\n")
        if why:
            print(why)
    return distributed.share(figures, world)


def headline(figures: Figures, key: str) -> str:
    """The figures of the last line: the one that chooses checkpoints, and its companions."""
    keys = {"voc/mAP": " (area)", "coco/AP50": "", "coco/AP": ""}
    shown = keys if key in keys else {key: ""}
    values = ((key, figures[key], more) for key, more in shown.items())
    return ", ".join(f"{k} {'–' if v is None else format(v, '.3f')}{more}" for k, v, more in values)
