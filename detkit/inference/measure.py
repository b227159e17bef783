"""A model on a data set: what it finds in each image, counted by its task's evaluator, reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from detkit import distributed
from detkit.atomic import write_json
from detkit.data.loading import Dataset
from detkit.data.order import evaluation_batches
from detkit.data.records import Records
from detkit.data.transforms import Transform
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.evaluation.evaluate import Evaluator, Figures
from detkit.evaluation.operating import DEFAULTS, Operating
from detkit.inference.run import predictions
from detkit.inference.tasks import tasks
from detkit.models.model import Model
from detkit.ours import GIVEN

SHOWN = {"voc/mAP": " (area)"}  # what a figure's name does not say


def dataset_of(model: Model, records: Records, transform: Transform) -> Dataset:
    """The images of the records as the model gets them, without what it would learn from."""
    return Dataset(
        records,
        transform,
        needs=frozenset(),
        channels=model.mean_std.shape[1],
        proposer=model.proposer,
    )


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
    operating: Operating = DEFAULTS,
    agnostic_nms: float | None = None,
    evaluator: Evaluator | None = None,
    topmost: float | None = None,
) -> Evaluator:
    """The evaluator of the model's task, having seen each image of the records once.

    Args:
        model: on `world.device`, the same in every process.
        transform: that of inference, from the checkpoint.
        names: the model's classes, brought to those of the records.
        world: each process takes its share of the images, and all get the whole result.
        batch_size: images at once in this process.
        operating: from which scores on detections count, and whether a best one is chosen.
        agnostic_nms: as for `inference.run.predictions`.
        evaluator: of the records; None: the task's own.
        topmost: each object counts as one of the class at the top of the model's tree, as those of
            the records do already; of two that overlap by more than this the less sure one goes.
    Raises:
        DetkitError: classes that the other side lacks.
    """
    task = tasks[model.task]
    label_of = match_classes(names, records.names, task.prediction.every_class)
    if topmost is not None:
        label_of = label_of[torch.tensor(model.class_list.topmost)]
    batches = evaluation_batches(
        dataset_of(model, records, transform),
        batch_size=batch_size,
        workers=workers,
        rank=world.rank,
        world=world.size,
        pin_memory=world.device.type == "cuda",
    )
    evaluator = evaluator or task.measured(records, operating)
    how: dict[str, Any] = {"device": world.device, "precision": precision, "names": names}
    found = predictions(model, batches, **how, agnostic_nms=agnostic_nms)
    quiet = None if world.main else True
    training = model.training
    model.eval()
    for frames, predicted in tqdm(
        found, total=len(batches), unit="batch", disable=quiet, leave=False
    ):
        matched = [p.relabelled(label_of, records.names) for p in predicted]
        if topmost is not None:
            matched = [p.separate(topmost, per_class=True) for p in matched]
        evaluator.add(frames, matched)
    model.train(training)
    evaluator.merge(distributed.gather(evaluator.state(), world))
    return evaluator


def match_classes(
    theirs: Sequence[str],
    ours: Sequence[str],
    every_class: bool,
    sides: tuple[str, str] = ("The model has", "the data have"),
    remedy: str = "evaluate on data with the model's class names, rename the data's classes, or"
    " train from this checkpoint with weights=.",
) -> torch.Tensor:
    """Label in the data of each class of a model, by name; −1 for one that the data lack.

    A detector may know classes more or fewer than the data; a class for each pixel leaves no such
    choice, so there both have to have the same, in any order.

    Args:
        every_class: whether both have to have the same ones (`Prediction.every_class`).
        sides: how an error begins to list the classes of each.
    Raises:
        DetkitError: neither side has all the other's classes.
    """
    given, wanted = set(theirs), set(ours)
    if given != wanted and (every_class or not (given < wanted or wanted < given)):
        raise DetkitError(
            f"The class lists do not match. {sides[0]} {', '.join(theirs)}; "
            f"{sides[1]} {', '.join(ours)}.",
            remedy=remedy,
        )
    label = {name: k for k, name in enumerate(ours)}
    return torch.tensor([label.get(name, -1) for name in theirs])


def report(
    evaluator: Evaluator, world: World, output: Path, split: str, foreign: bool = False
) -> Figures:
    """Writes `results.json`, prints the table, and why the result is next to nothing if it is."""
    figures: Figures = {}
    if world.main:
        figures = evaluator.result()
        why = evaluator.diagnose(figures, foreign)
        figures |= {"split": split, "data": evaluator.records.source, "diagnosis": why}
        # whose predictions lie beside it: with `foreign` not ours
        write_json(output / "results.json", {**figures, GIVEN: True} if foreign else figures)
        print(f"\n{evaluator.table(figures)}\n")
        if why:
            print(why)
    return distributed.share(figures, world)


def headline(evaluator: Any, figures: Figures, key: str | None = None) -> str:
    """The figures of the last line: the one that chooses checkpoints, and its companions.

    Args:
        evaluator: one, or its class.
        key: the figure that chooses, if not the evaluator's own.
    """
    own = (evaluator.headline, *evaluator.beside)
    shown = own if key is None or key in own else (key,)
    values = ((k, figures[k], SHOWN.get(k, "")) for k in shown)
    return ", ".join(f"{k} {'–' if v is None else format(v, '.3f')}{more}" for k, v, more in values)
