"""`detkit predict`: draws what a checkpoint finds in images, videos or a camera's pictures."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detkit import distributed
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.evaluation.text import number
from detkit.folders import dated, held, in_home, make_folder
from detkit.inference.predictor import Predictor, load
from detkit.inference.published import published
from detkit.inference.sources import Source
from detkit.inference.tables import merge
from detkit.inference.tasks import tasks
from detkit.inference.video import written_as
from detkit.inference.write import ENDINGS, Writer, check_free, is_ours
from detkit.inference.write_yolo import WithYoloText, untouched_labels
from detkit.ops.precision import describe, resolve
from detkit.predictions import Detections
from detkit.training.signals import stop_signals

OF_CHECKPOINT = ("classes", "nms_iou", "detections", "short_side")  # its own where they are null
Output = Writer | WithYoloText
EXTRAS = ("probabilities", "polygons")  # what a writer leaves only where it is asked for
SHOWN = 10  # faults that are told in full


def predict(settings: Any) -> dict[str, Any]:
    """Writes drawn copies and tables into `settings.output`; Ctrl-C ends it with whole files.

    Args:
        settings: `PredictSettings`, see conf/predict.yaml.
    Returns:
        Counts `pictures` and `objects` (or masks), the `faults` as texts, `stopped` before
        its end, and `output`.
    Raises:
        DetkitError: no checkpoint, no source, or not one picture that can be read.
    """
    if (settings.checkpoint is None) == (settings.model is None):
        raise DetkitError(
            "There are two things to predict with."
            if settings.checkpoint
            else "There is nothing to predict with.",
            remedy="give checkpoint=PATH, or for ImageNet's classes model=classifier"
            " backbone=NAME backbone.weights=FILE, one of them.",
        )
    world = distributed.start(settings.device)
    try:
        with ExitStack() as stack:
            return _predict(settings, world, stack)
    finally:
        distributed.stop()


def _predict(settings: Any, world: World, stack: ExitStack) -> dict[str, Any]:
    source = Source(settings.source, ENDINGS)
    if settings.output:
        check_free(in_home(settings.output), source.items)
    predictor = _predictor(settings, world)
    if settings.yolo_text:
        _check_yolo_text(predictor, settings)
    if settings.tiles is not None:
        predictor.in_tiles(settings.tiles)
    if predictor.channels not in (1, 3):  # bands
        source = Source(settings.source, ENDINGS, predictor.channels)
    _extras(predictor, settings)  # no folder for what cannot be
    output = _folder(settings, world, stack)
    if world.main:
        print(_first_line(predictor, source, output), flush=True)
    writer, pictures, stopped = _run(predictor, source, output, settings, world)
    counts = distributed.gather((pictures, writer.found if writer else 0), world)
    faults = [f for part in distributed.gather(source.faults, world) for f in part]
    pictures, found = (sum(column) for column in zip(*counts, strict=True))
    stopped = any(distributed.gather(stopped, world))
    if not pictures and not stopped:
        with suppress(OSError):
            output.rmdir()  # if nothing else is there
        nothing = DetkitError(
            "No picture came.",
            file=settings.source,
            remedy="look whether another program can play it.",
        )
        raise faults[0] if faults else nothing
    writer = writer or _writer(predictor, output, settings, world)
    _join(writer, source, output, world)
    if world.main:
        task = tasks[predictor.model.task]
        if task.noun and pictures and not found:
            least = predictor.thresholds.overall
            print(f"Nothing scored {least:g} or more: try a lower score_thresh.")
        seen = number(pictures, "frame" if all(i.video for i in source.items) else "picture")
        leaves = ", ".join([writer.leaves, *_extras(predictor, settings)])
        if settings.video and any(item.video for item in source.items):
            print(f"videos are {written_as()}")
        _tell(faults, seen, found, task.noun, f"{output}: {leaves}", stopped)
    return {
        "pictures": pictures,
        "found": found,
        "faults": [str(fault) for fault in faults],
        "stopped": stopped and not source.endless,
        "output": str(output),
    }


def _predictor(settings: Any, world: World) -> Predictor:
    """Of a checkpoint, or of a published file."""
    how = str(world.device), settings.precision, settings.score_thresh
    of_checkpoint = {key: getattr(settings, key) for key in OF_CHECKPOINT}
    if settings.checkpoint is not None:
        return load(
            settings.checkpoint,
            *how,
            cfg=settings.cfg,
            names=settings.names,
            letterbox=settings.letterbox,
            truncated_svd=settings.truncated_svd,
            agnostic_nms=settings.agnostic_nms,
            **of_checkpoint,
        )
    if given := [key for key, value in of_checkpoint.items() if value is not None]:
        raise DetkitError(
            f"A published network of ImageNet's classes has no {given[0]}.",
            remedy=f"leave {given[0]} out.",
        )
    if settings.agnostic_nms:
        raise DetkitError(
            "A network of ImageNet's classes finds no boxes.",
            record="agnostic_nms",
            remedy="leave it out, or give the checkpoint of a detector.",
        )
    parts = settings.model, settings.backbone, settings.transforms
    return published(*parts, *how, allow_download=settings.allow_download)


def _run(
    predictor: Predictor, source: Source, output: Path, settings: Any, world: World
) -> tuple[Output | None, int, bool]:
    """This process's share; the files are whole however it ends. No writer if nothing was read."""
    writer, pictures = None, 0
    stream = source.pictures(world.rank, world.size)
    total = source.count(world.rank, world.size)
    bar = tqdm(total=total, unit="img", disable=None if world.main else True, dynamic_ncols=True)
    with stop_signals() as stop, bar:
        try:
            for batch, found in predictor.batches(stream, settings.batch_size):
                writer = writer or _writer(predictor, output, settings, world)
                for picture, prediction in zip(batch, found, strict=True):
                    writer.add(picture, prediction)
                pictures += len(batch)
                bar.update(len(batch))
                if stop.asked:
                    break
        finally:
            stream.close()
            if writer:
                writer.close()
    return writer, pictures, stop.asked


def _folder(settings: Any, world: World, stack: ExitStack) -> Path:
    """Where the results go, which no other process writes to meanwhile."""
    output = None
    if world.main:
        output = in_home(settings.output) if settings.output else dated("predictions", "output")
        make_folder(output, "output")
        stack.enter_context(held(output))
        if is_ours(output):
            print("note: the tables of an earlier run in that folder are replaced", flush=True)
        if settings.yolo_text:
            for label in untouched_labels(output):
                label.unlink()
    return distributed.share(output, world)


def _writer(predictor: Predictor, output: Path, settings: Any, world: World) -> Output:
    kind = tasks[predictor.model.task].writer
    part = _part(world.rank) if world.size > 1 else ""
    how = {"part": part, "videos": settings.video, **_extras(predictor, settings)}
    writer = kind(output, predictor.names, predictor.category_ids, **how)
    return WithYoloText(writer, output, predictor.names, part) if settings.yolo_text else writer


def _extras(predictor: Predictor, settings: Any) -> dict[str, bool]:
    """What is asked of the writer beyond the rest.

    Raises:
        DetkitError: the model gives no such thing.
    """
    asked = {key: True for key in EXTRAS if getattr(settings, key)}
    given = inspect.signature(tasks[predictor.model.task].writer).parameters
    if lacking := [key for key in asked if key not in given]:
        raise DetkitError(
            f"{predictor.meta['config']['model']['name']} gives no {lacking[0]}.",
            record=lacking[0],
            remedy=f"leave {lacking[0]}= out; models of pixels (model=unet) have them.",
        )
    return asked


def _check_yolo_text(predictor: Predictor, settings: Any) -> None:
    if tasks[predictor.model.task].prediction is not Detections:
        raise DetkitError(
            f"{predictor.meta['config']['model']['name']} finds no objects to write as YOLO text.",
            record="yolo_text",
            remedy="leave yolo_text out.",
        )
    if settings.output:
        untouched_labels(in_home(settings.output))


def _part(rank: int) -> str:
    return f"rank{rank}"


def _join(writer: Output, source: Source, output: Path, world: World) -> None:
    writer.close()  # of a process whose share was empty; closing twice does no harm
    distributed.barrier(world)
    if world.size > 1 and world.main:
        merge(output, writer.tables, [_part(rank) for rank in range(world.size)], source.items)
    distributed.barrier(world)


def _first_line(predictor: Predictor, source: Source, output: Path) -> str:
    config, items = predictor.meta["config"], source.items
    images = sum(not item.video for item in items)
    kinds = [number(images, "image")] if images else []
    kinds += [number(len(items) - images, "video")] if images < len(items) else []
    dtype = resolve(predictor.precision, predictor.device)
    return (
        f"predicting with {config['model']['name']} ({config['backbone']['name']}, "
        f"{number(len(predictor.names), 'class')}) on {' and '.join(kinds)}, "
        f"{predictor.device} in {describe(dtype, predictor.device)}{_least(predictor)} → {output}"
    )


def _least(predictor: Predictor) -> str:
    """From which score on, and why."""
    if not tasks[predictor.model.task].scored:
        return ""
    kept = f", of {', '.join(predictor.classes)} alone" if predictor.classes else ""
    return f"; score from {predictor.thresholds}{kept}"


def _tell(
    faults: Sequence[DetkitError], seen: str, found: int, noun: str, output: str, stopped: bool
) -> None:
    """The warnings and the last line."""
    for fault in faults[:SHOWN]:
        print(f"warning: {fault}")
    if len(faults) > SHOWN:
        names = ", ".join(str(fault.file) for fault in faults[SHOWN:])
        print(f"warning: and {len(faults) - SHOWN} more: {names}")
    what = f"{number(found, noun)} in " if noun else ""
    left_out = f", {number(len(faults), 'fault')} (above)" if faults else ""
    print(f"{'stopped' if stopped else 'done'}: {what}{seen}{left_out}.  See {output}")
