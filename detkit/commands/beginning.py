"""The first lines of a run, its records, and `data.jpg`: what a user may want to stop it for."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from detkit.backbones.darknet_cfg import DEFAULT
from detkit.backbones.darknet_sections import cfg_text
from detkit.commands import telling
from detkit.data.anchors import sizes_of
from detkit.data.records import Records
from detkit.data.transforms import Transform
from detkit.evaluation.text import number
from detkit.inference.tasks import tasks
from detkit.models.anchors import anchor_sizes
from detkit.models.model import models
from detkit.ops.precision import describe
from detkit.plots import canvas
from detkit.plots import data as plot
from detkit.training import recipe, run_folder, transfer
from detkit.training.optimization import at_most_a_quarter, optimizers, schedules
from detkit.training.run_folder import Saved
from detkit.training.state import same_random_states

if TYPE_CHECKING:
    from detkit.commands.session import Session

LARGER = 3  # times its own sides: a picture that is enlarged by more is worth a note
MANY = 0.2  # of the objects: so many that fit no anchor are worth a warning


def record(session: Session, saved: Saved | None) -> None:
    """config.yaml, classes.json, run.json, and the first lines."""
    data, say = session.data, session.journal.say
    telling.write_record(
        session.folder,
        session.settings,
        {data.train_split: data.records, data.val_split: data.val},
        {"trunk": session.state.model.backbone.weights_report, "checkpoint": session.transferred},
        versions=session.versions,
        step=session.state.step,
        resumed=saved is not None,
    )
    stages = recipe.stage_names([interval.stage for interval in session.recipe])
    size = session.plan, session.world
    say(telling.first_line(session.state, session.settings, data.records, *size, stages))
    objects = objects_of(session)
    say(recipe_line(session))
    if session.why:
        say(session.why)
    if sizes := sizes_line(session, objects):
        say(sizes)
    if other := other_size(session):
        say(other)
    if enlarged := enlarged_line(session):
        say(enlarged)
    if room := telling.room_line(session.state):
        say(room)
    if session.fitted is not None:
        say(session.fitted)
    if session.options.head_first:
        say(transfer.line(session.state.model, session.recipe))
    if rates := session.settings.optimizer.get("rates"):
        factors = ", ".join(f"{part} × {factor:g}" for part, factor in rates.items())
        say(f"learning rates: {factors}")
    changes = run_folder.changes(asdict(session.settings), saved.meta["config"]) if saved else []
    for change in changes:
        say(f"changed: {change}")
    for split, part in (("train", data.records), ("val", data.val)):
        say(f"{split}: {part.source}")
        for note in part.notes:
            say(f"note: {note}")
    if session.state.step == session.plan.steps and session.state.stage >= len(session.recipe) - 1:
        say("note: all its steps are made; a larger training.epochs or max_steps makes it go on")
    if session.transferred:
        say(telling.weights_line(session.transferred))
        if same := telling.taken_over(session.settings):
            say(f"note: as in {session.settings.weights}: {same}")
    start = not session.transferred and session.state.model.backbone.weights_report is None
    if start and session.state.step == 0 and session.settings.backbone.get("frozen_stages"):
        say("note: backbone.frozen_stages keeps random weights as they are")
    if tasks[session.state.model.task].scored and not data.chooses:
        say(
            f"note: {data.val_split} is no validation split, so no best score is chosen on it; name"
            " one with dataset.val_split"
        )
    if not saved:
        _draw(session, objects)


def recipe_line(session: Session) -> str:
    """Optimiser, learning rate and warm-up, batch and picture size, precision, seed."""
    settings, options, plan = session.settings, session.options, session.plan
    optimizer = optimizers.complete(settings.optimizer["name"], settings.optimizer)
    schedule = schedules.complete(settings.schedule["name"], settings.schedule)
    steps = next(i.last - i.first for i in session.recipe if i.stage.solve is None)
    warmup = at_most_a_quarter(schedule.get("warmup_steps", 0), steps)
    parts = [f"{settings.optimizer['name']} with learning rate {optimizer.get('lr', 0):g}"]
    parts[0] += f", {settings.schedule['name']}, warm-up {number(warmup, 'step')}"
    each = number(session.batch, "picture")
    if session.batch != options.batch_size:
        each += f" ({options.batch_size} × {session.batch // options.batch_size})"
    height, width = picture_size(session.data.records, session.data.transform)
    parts.append(f"{each} a step, most of {width}×{height}")
    if options.ema is not None:
        parts.append(f"weights averaged ({options.ema:g})")
    parts += [describe(plan.dtype, session.world.device), f"seed {settings.seed}"]
    return "; ".join(parts)


def picture_size(records: Records, transform: Transform) -> tuple[int, int]:
    """(height, width) of the network's picture that most of the files come to."""
    height, width = file_size(records)
    if isinstance(square := transform.square, tuple):
        return square
    return (square, square) if square else transform.sizes(max(height, 1), max(width, 1))


def file_size(records: Records) -> tuple[int, int]:
    """(height, width) that most of the files have."""
    shapes, counts = np.unique(records.sizes, axis=0, return_counts=True)
    height, width = shapes[counts.argmax()].tolist()
    return height, width


def enlarged_line(session: Session) -> str:
    """What suits pictures that are much smaller than the square of a classifier; else empty."""
    if not {"side", "resize"} <= {*session.settings.transforms}:
        return ""
    data = session.data
    own, shown = file_size(data.records), picture_size(data.records, data.transform)
    side = max(*own, session.state.model.backbone.least_side)
    if not min(own) or min(shown) <= LARGER * side:
        return ""
    return (
        f"note: most pictures have {own[1]}×{own[0]} pixels and are enlarged to"
        f" {shown[1]}×{shown[0]}; transforms.side={side} transforms.resize=null shows them as they"
        " are, in a fraction of the time (transforms=digits: 28 pixels, no mirror images)"
    )


def other_size(session: Session) -> str:
    """A note where a Darknet description is for pictures of another size; else empty."""
    net = getattr(session.state.model.backbone, "net", {})
    size = picture_size(session.data.records, session.data.transform)
    height, width = map(str, size)
    ours = session.settings.backbone.get("text") == cfg_text(DEFAULT)  # for any size
    if ours or (net.get("height", height), net.get("width", width)) == (height, width):
        return ""
    made = {side: net.get(side, "416") for side in ("width", "height")}
    return (
        f"note: the .cfg, and so its anchors, is for pictures of {made['width']}×{made['height']},"
        f" not of {width}×{height}; transforms=darknet transforms.width={made['width']}"
        f" transforms.height={made['height']} makes them so"
    )


def objects_of(session: Session) -> plot.Objects:
    """What there is to learn, beside what the model has to catch it with."""
    data, model = session.data, session.state.model
    size = picture_size(data.records, data.transform)
    sized = "boxes" in data.dataset.needs and len(data.records.labels) > 0
    strides = list(getattr(model.backbone, "strides", {}).values())
    with same_random_states(session.world.device):
        counts, noun = plot.counted(_dataset(session), _keys(session), len(data.classes))
    return plot.Objects(
        counts,
        noun,
        sizes_of(data.records, data.transform) if sized else None,
        anchor_sizes(model, size) if sized else None,
        getattr(model, "strides", strides) if sized else [],  # YOLOv1's cells are not its map's
    )


def sizes_line(session: Session, objects: plot.Objects) -> str:
    """How the objects' sizes lie to the anchors, and a warning where too many fit none."""
    misfits = objects.misfits()
    if misfits is None:
        return ""
    assert objects.sizes is not None
    sides = np.sqrt(objects.sizes.prod(1))
    low, middle, high = np.percentile(sides, (1, 50, 99))
    line = (
        f"{number(len(sides), 'object')}, sides from {low:.0f} to {high:.0f} pixels of the"
        f" network's picture, half of them below {middle:.0f}"
    )
    if objects.anchors is not None:
        own = np.sqrt(objects.anchors.prod(1))
        line += f"; anchors from {own.min():.0f} to {own.max():.0f}: {misfits:.0%} fit none"
    else:
        line += f"; {misfits:.0%} are smaller than a cell ({min(objects.strides)} pixels)"
    if misfits < MANY:
        return line
    known = models.settings(session.settings.model["name"])
    remedies = {
        "anchors": "model.anchors=auto finds anchors of their sizes",
        "anchor_sizes": "model.anchor_sizes=auto finds sizes that fit",
        "aspect_ratios": "model.scales=auto finds scales for their sizes",  # SSD's
    }
    ways = [way for key, way in remedies.items() if key in known]
    if middle < min(own.min() if objects.anchors is not None else np.inf, 32):
        ways.append("larger pictures make them larger (transforms.short_side, long_side)")
    remedy = f". {'; '.join(ways)}" if ways else ""
    return f"{line}\nwarning: {misfits:.0%} of the objects will hardly be found{remedy}"


def _dataset(session: Session) -> Any:
    """That of training without its proposals, which take seconds."""
    return replace(session.data.dataset, proposer=None)


def _keys(session: Session) -> list[tuple[int, ...]]:
    first = next(i for i in session.recipe if i.stage.solve is None and i.end > i.start)
    return plot.first_keys(session.batches(first).keys)


def _draw(session: Session, objects: plot.Objects) -> None:
    file = session.folder / "data.jpg"
    with canvas.attempted(file, session.journal.say), same_random_states(session.world.device):
        names = session.data.classes.names
        plot.draw(_dataset(session), _keys(session), objects, names, file)
        session.journal.say(f"what it learns from: {file}")
