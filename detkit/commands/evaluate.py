"""`detkit evaluate`: measures a checkpoint, or anyone's predictions, on a data set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit import checkpoint, distributed, ours, restore, stored
from detkit.commands.recording import recorded
from detkit.commands.validating import draw_figures
from detkit.data.classes import topmost, widened
from detkit.data.open import is_validation, open_dataset, split_name
from detkit.data.records import Records
from detkit.data.splits import ALL
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.evaluation import files
from detkit.evaluation.evaluate import DetectionEvaluator, Evaluator, Figures, InstanceEvaluator
from detkit.evaluation.operating import Operating, line
from detkit.evaluation.text import number
from detkit.evaluation.thresholds import Thresholds, thresholds_of
from detkit.folders import dated, in_home, make_folder
from detkit.inference.measure import headline, measure, report
from detkit.inference.run import prepare
from detkit.inference.tasks import Measure, tasks
from detkit.models.heads.truncated import truncate
from detkit.ops.precision import describe, resolve

MASKS = frozenset({"boxes", "masks"})
UNSURE = 0.1  # a curve of precision and recall ends with detections that score less


@recorded
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
    for name in ("agnostic_nms", "topmost"):
        if getattr(settings, name):
            raise DetkitError(
                f"{name} is of a model's predictions, which are to be made.",
                record=name,
                remedy="leave it out, or give checkpoint=PATH.",
            )
    folder = path if path.is_dir() else path.parent
    of_predict = ours.is_table(folder / "predictions.csv")
    tables = [folder / "predictions.csv", folder / "predictions.json"]
    if of_predict and not any(map(ours.has_boxes, tables)):
        raise DetkitError(
            "These are predictions of pixels or of whole pictures; only objects are measured from"
            " files.",
            file=path,
            remedy="measure the model itself: detkit evaluate checkpoint=RUN dataset.root=PATH.",
        )
    if settings.dataset is None:
        raise _no_ground_truth()
    split = settings.split or split_name(settings.dataset, "val", unsplit=_whole(settings.dataset))
    records = open_dataset(settings.dataset, split, images=False)
    _asked(settings, records, {})
    results = files.read(path, records)
    chosen = thresholds_of(settings.score_thresh, None, records.names)
    least = float(results.scores.min()) if len(results) else 0.0
    if least > UNSURE and settings.score_thresh is None and of_predict:
        # predict leaves what scores enough alone
        chosen = Thresholds(least, {}, "the least that predict left in the file")
    output = None
    if world.main:
        output = in_home(settings.output) if settings.output else dated("evaluation", "output")
        _check_free(output, plotted=tasks["detect"].plotted)
    output = distributed.share(output, world)
    _say(
        world,
        f"evaluating {number(len(results), 'detection')} of {path} on {_data(records, split)}"
        f" → {output}",
    )
    if least > UNSURE:
        _say(
            world,
            f"note: no score is below {least:.2g}, and AP counts the unsure ones too; detkit's own"
            " come with `predict score_thresh=0.05`",
        )
    validates = is_validation(settings.dataset, split)
    operating = Operating(chosen, split if validates else None)
    evaluator: Evaluator = DetectionEvaluator(records, results, operating)
    if results.masks is not None:
        try:
            masked = open_dataset(settings.dataset, split, needs=MASKS, images=False)
            evaluator = InstanceEvaluator(masked, files.read(path, masked), operating)
        except DetkitError as fault:
            _say(world, f"note: boxes alone are measured, not the masks. {fault}")
    return _finish(evaluator, "detect", world, output, split, foreign=True)


def _no_ground_truth() -> DetkitError:
    return DetkitError("There is no ground truth.", remedy="set dataset.root to the data set.")


def _whole(dataset: Mapping[str, Any]) -> str | None:
    """The split of ground truth that was named by its file and has none: all of it."""
    root = dataset.get("root")
    return ALL if root and in_home(root).suffix == ".json" and in_home(root).is_file() else None


def _checkpoint(settings: Any, world: World) -> Figures:
    """Runs a model over the data and scores what it finds."""
    beside = restore.Beside(settings.cfg, settings.names, settings.letterbox)
    model, meta = restore.load_model(settings.checkpoint, world.device, beside=beside)
    truncate(model, settings.truncated_svd or ())
    config = meta["config"]
    file = checkpoint.find(settings.checkpoint)
    if settings.dataset is None and restore.is_foreign(file):
        raise _no_ground_truth()
    dataset = settings.dataset or stored.part(config, "dataset", file)
    split = settings.split or split_name(dataset, "val", model.needs)
    records = open_dataset(dataset, split, needs=model.needs)
    point = stored.point_of(meta, file)
    chosen = thresholds_of(settings.score_thresh, point, meta["names"])
    fingerprint = records.fingerprint()  # of the very pictures that the run was measured on
    validates = is_validation(dataset, split) and meta.get("val_data", fingerprint) == fingerprint
    if settings.topmost:
        records, validates = topmost(records, model.class_list), False
    task = tasks[model.task]
    if task.prediction.every_class and {*records.names} < {*meta["names"]}:
        records = widened(records, meta["names"])
    output = _output(settings, f"{split}_topmost" if settings.topmost else split)
    if world.main:
        _check_free(output, task.evaluator.written, task.plotted)
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
        operating=Operating(chosen, split if validates else None),
        agnostic_nms=stored.nms_iou(settings.agnostic_nms, meta),
        topmost=stored.nms_iou(settings.topmost, meta),
        evaluator=_asked(settings, records, task.measures),
    )
    return _finish(evaluator, model.task, world, output, split)


def _asked(settings: Any, records: Records, measures: Mapping[str, Measure]) -> Evaluator | None:
    """The measure that a setting asks for in place of the task's own, where one does.

    Args:
        measures: those that there are.
    Raises:
        DetkitError: there is no such measure.
    """
    for key in sorted({key for task in tasks.values() for key in task.measures}):
        if getattr(settings, key) is None:
            continue
        if key not in measures:
            having = [name for name, task in tasks.items() if key in task.measures]
            raise DetkitError(
                f"{key}= is for models of the task {' or '.join(having)}.",
                file=settings.checkpoint or settings.predictions,
                remedy=f"leave {key}= out, or evaluate a checkpoint of such a model.",
            )
        return measures[key](records, settings)
    return None


def _data(records: Records, split: str) -> str:
    return f"{number(len(records), 'image')} of {split} ({records.source})"


def _output(settings: Any, split: str) -> Path:
    """Where the results go: `output`, else `evaluation/SPLIT` in the run folder."""
    if settings.output:
        return in_home(settings.output)
    folder = checkpoint.find(settings.checkpoint).parent
    run = folder.parent if folder.name in ("best", "last") else folder
    return run / "evaluation" / re.sub(r"[^\w.+-]+", "_", split).strip("_")


def _check_free(output: Path, written: Sequence[str] = (), plotted: Sequence[str] = ()) -> None:
    """Makes the folder.

    Args:
        written: names of the files that come beside `results.json`.
        plotted: of pictures and their numbers, which are known by a sign in them.
    Raises:
        DetkitError: it cannot be made, or a file in it that `evaluate` has not written would be
            replaced.
    """
    make_folder(output, "output")
    results = output / "results.json"
    foreign = [results] if results.exists() and not ours.is_results(results) else []
    # predict's come with a table
    theirs = not results.exists() or ours.is_of_given(results)
    if theirs or (output / "predictions.csv").exists():
        foreign += [output / name for name in written if (output / name).exists()]
    pictures = [output / name for name in plotted if name not in written]
    foreign += [p for p in pictures if p.exists() and not (ours.is_drawn(p) or ours.is_numbers(p))]
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
    evaluator: Evaluator,
    task: str,
    world: World,
    output: Path,
    split: str,
    foreign: bool = False,
) -> Figures:
    """Writes and tells the result, and the last line; and what was found, unless it was given."""
    for note in evaluator.records.notes:
        _say(world, f"note: {note}")
    figures = report(evaluator, world, output, split, foreign)
    if world.main and not foreign:
        evaluator.save(output)
    if world.main:
        draw_figures(evaluator, task, output, print)
    told, file = headline(evaluator, figures), output / "results.json"
    _say(world, f"done: {told} on {split}.{line(figures)}  See {file}")
    return figures
