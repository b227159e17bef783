"""What a training run measures itself by, while it goes on and at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from detkit import checkpoint, distributed
from detkit.evaluation.evaluate import Evaluator
from detkit.evaluation.operating import DEFAULTS, Operating
from detkit.evaluation.thresholds import Thresholds
from detkit.inference.measure import headline, match_classes, measure
from detkit.inference.run import prepare
from detkit.inference.tasks import tasks
from detkit.models.model import Model
from detkit.plots import canvas, curves
from detkit.training.state import State
from detkit.training.validation import validation_losses

if TYPE_CHECKING:
    from detkit.commands.session import Session


def validate(session: Session, state: State) -> None:
    """Measures the shown weights; writes `best/` when they are the best so far, and the curves."""
    world, options = session.world, session.options
    distributed.align(state.shown, world)
    model = prepare(state.shown, world.device, options.precision)
    evaluator = measured(session, model, DEFAULTS.thresholds)
    figures = distributed.share(evaluator.result() if world.main else None, world)
    losses = _losses(session, state) if options.val_losses else {}
    key = options.best_by or evaluator.headline
    value = -1.0 if figures[key] is None else float(figures[key])
    # without a countable object all are alike: the latest is trained longest
    better = state.best is None or value > state.best or figures[key] is None
    state.since_best = 0 if better else state.since_best + 1
    epoch = session.plan.epochs(state.step)
    numbers = {k: v for k, v in figures.items() if v is None or isinstance(v, (int, float))}
    session.journal.write(state.step, {"epoch": epoch, **losses, **numbers})
    loss = f", val_loss {losses['val_loss']:.3f}" if losses else ""
    best = " (best so far)" if better else ""
    line = f"{headline(evaluator, figures, key)}{loss}{best}"
    session.journal.say(f"epoch {round(epoch, 2):g}, step {state.step:,}: {line}")
    if better:
        state.best = value
        if world.main:
            point = figures.get("operating_points", {}).get("best")
            if point:  # validation may have classes that the model does not know
                known = set(state.model.class_list.names)
                own = {name: v for name, v in point["classes"].items() if name in known}
                point = {**point, "classes": own}
            meta = session.meta(state, numbers) | ({"operating_point": point} if point else {})
            checkpoint.save(session.folder / "best", state.shown.state_dict(), meta)
    if world.main:
        file = session.folder / "curves.png"
        shown = dict.fromkeys((key, evaluator.headline, *evaluator.beside))
        with canvas.attempted(file, session.journal.say):
            curves.draw(session.folder / "metrics.jsonl", list(shown), file)


def _losses(session: Session, state: State) -> dict[str, float]:
    data, task = session.data, tasks[state.model.task]
    every = task.prediction.every_class
    return validation_losses(
        state.shown,
        replace(data.dataset, records=data.val, transform=data.transform, seed=0),
        match_classes(data.val.names, data.records.names, every),
        dtype=session.plan.dtype,
        batch_size=session.options.batch_size,
        workers=session.options.workers,
        world=session.world,
    )


def measured(session: Session, model: Model, thresholds: Thresholds) -> Evaluator:
    """What the model finds on the run's validation split.

    Args:
        thresholds: from which scores on detections count.
    """
    data, options = session.data, session.options
    return measure(
        model,
        data.val,
        data.transform,
        names=data.records.names,
        world=session.world,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        operating=Operating(thresholds, data.val_split if data.chooses else None),
    )


def draw_figures(evaluator: Evaluator, task: str, output: Any, say: Any) -> None:
    """The pictures of what an evaluator measured, where its task has some."""
    if (plots := tasks[task].plots) is not None:
        plots(evaluator, output, say)
