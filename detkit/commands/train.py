"""`detkit train`: from a folder of pictures to a trained, measured model in a run folder."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from detkit import checkpoint, distributed
from detkit.commands import telling
from detkit.commands.recording import recorded
from detkit.commands.session import Session
from detkit.commands.validating import draw_figures, measured, validate
from detkit.config.settings import TrainSettings
from detkit.evaluation import operating
from detkit.inference.measure import headline, report
from detkit.inference.predictor import load
from detkit.inference.run import prepare
from detkit.inference.sheet import draw_sheet
from detkit.training.journal import duration
from detkit.training.loop import Hooks, fit
from detkit.training.recipe import Interval
from detkit.training.signals import Interrupted, stop_signals
from detkit.training.state import same_random_states


@recorded
def train(settings: TrainSettings) -> dict[str, Any]:
    """Trains, and measures the best checkpoint.

    Args:
        settings: see conf/train.yaml.
    Returns:
        What `results.json` holds, and `run_dir`.
    Raises:
        DetkitError: a mistake in settings or data, or a loss that is not finite.
        SystemExit: with 130 after Ctrl-C, once the run is saved.
    """
    world = distributed.start(settings.device)
    try:
        with ExitStack() as stack:
            session = Session(settings, world, stack)
            try:
                for interval in session.recipe[session.state.stage :]:
                    carry_out(session, interval)
                measure_due(session)
            except Interrupted:
                state, again = session.state, shlex.quote(str(session.folder))
                session.journal.say(
                    f"stopped after step {state.step:,} of {session.plan.steps:,}.  Go on with: "
                    f"{telling.script('train')} resume={again}"
                )
                raise SystemExit(130) from None
            finally:
                session.journal.close()
            return finish(session)
    finally:
        distributed.stop()


def carry_out(session: Session, interval: Interval) -> None:
    """One stage of the recipe, from where the state is in it."""
    state, stage = session.state, interval.stage
    session.journal.stage = stage.name if len(session.recipe) > 1 else ""
    if stage.solve is not None:
        measure_due(session)
        session.journal.say(f"stage {stage.name}: solved on the training images")
        start = time.monotonic()
        with stop_signals() as stop, stop.at_once():
            session.solve(interval)
        session.journal.say(f"stage {stage.name}: {duration(time.monotonic() - start)}")
        measure_due(session)
        return
    if interval.end <= interval.start:  # a run too short for it
        return
    if state.optimizer is None or state.stage != interval.number:
        measure_due(session)
        session.begin(state, interval, resumed=False)
        state.since_best = 0
    last = interval is session.recipe[-1]
    fit(
        state,
        session.batches(interval),
        session.schedule,
        session.plan,
        Hooks(partial(validate, session), session.save, session.options.patience if last else None),
        session.journal,
        session.folder,
        session.world,
        interval,
    )


def measure_due(session: Session) -> None:
    """Measures what was saved, where that is still to be done."""
    if session.state.due:
        with same_random_states(session.world.device), stop_signals() as stop, stop.at_once():
            validate(session, session.state)
        session.state.due = False


def finish(session: Session) -> dict[str, Any]:
    """Measures `best/` as anyone else would load it; results.json, predictions.jpg."""
    world, data, folder = session.world, session.data, session.folder
    distributed.barrier(world)
    device, precision = world.device, session.options.precision
    predictor = load(folder, str(device), precision)
    epoch = f"{round(predictor.meta['epoch'], 2):g}"
    session.journal.say(f"the best checkpoint, of epoch {epoch}, on {data.val_split}:")
    model = prepare(predictor.model, device, precision)
    evaluator = measured(session, model, predictor.thresholds)
    figures = report(evaluator, world, folder, data.val_split)
    if world.main:
        draw_figures(evaluator, predictor.model.task, folder, session.journal.say)
        sheet = folder / "predictions.jpg"
        drawn = draw_sheet(predictor, data.val, sheet)
        modules = session.settings.plugins
        plugins = f" plugins=[{','.join(modules)}]" if modules else ""
        session.journal.say(
            f"done: {headline(evaluator, figures)} on {data.val_split}, best "
            f"after epoch {epoch}.{operating.line(figures)}  See {sheet if drawn else folder};"
            f"  next: {telling.script('predict')} checkpoint={shlex.quote(str(folder))} "
            f"source=my.jpg{plugins}"
        )
        if not session.options.keep_last:
            checkpoint.drop(folder / "last")
            session.journal.say("last/ is removed (training.keep_last): this run does not go on")
    return {**figures, "run_dir": str(folder)}
