"""`detkit train`: from a folder of pictures to a trained, measured model in a run folder."""

from __future__ import annotations

import random
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detkit import checkpoint, restore
from detkit.backbones.norms import match_norms
from detkit.commands import telling
from detkit.commands.evaluate import headline, match_classes, measure, report
from detkit.commands.opening import open_data
from detkit.commands.recording import recorded
from detkit.config.settings import TrainSettings
from detkit.data.balance import class_weights
from detkit.data.loading import Dataset
from detkit.data.order import epoch_length, training_batches
from detkit.errors import DetkitError
from detkit.folders import held
from detkit.inference.predictor import load
from detkit.inference.run import prepare
from detkit.inference.sheet import draw_sheet
from detkit.models.build import build
from detkit.models.model import Model, models
from detkit.ops.precision import layout, resolve
from detkit.training import distributed, run_folder
from detkit.training.distributed import World
from detkit.training.journal import Journal
from detkit.training.loop import Hooks, Plan, fit
from detkit.training.optimization import EMA, build_optimizer, build_schedule
from detkit.training.run_folder import Saved
from detkit.training.signals import Interrupted
from detkit.training.state import State
from detkit.training.validation import validation_losses


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
            return Run(settings, world, stack).train()
    finally:
        distributed.stop()


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


class Run:
    """What one run is made of: data → plan → state → folder → journal.

    Args:
        stack: what is held until the run has ended.
    """

    def __init__(self, settings: TrainSettings, world: World, stack: ExitStack) -> None:
        self.world, self.options = world, settings.training
        self.batch = self.options.batch_size * self.options.accumulate * world.size
        saved = None
        if settings.resume:
            if world.main:
                stack.enter_context(held(run_folder.home(settings.resume)))
            distributed.barrier(world)  # the run may have been saving until now
            saved = run_folder.read(settings.resume, asdict(settings), self.batch)
        self.data = open_data(settings, saved)
        epoch = epoch_length(self.data.records, self.options.repeat_thresh)
        dtype = resolve(self.options.precision, world.device)
        self.plan = Plan.of(self.options, epoch, self.batch, dtype)
        if saved and saved.plain["step"] > self.plan.steps:
            raise DetkitError(
                f"The run has made {saved.plain['step']:,} steps, which is more than"
                f" {self.plan.steps:,}.",
                file=saved.folder,
                remedy="set training.epochs or training.max_steps higher, or evaluate the run.",
            )
        self.schedule = build_schedule(settings.schedule)
        self.transferred: dict[str, Any] | None = None
        self.state = self._state(settings, saved)
        # no mistake before it
        self.folder = saved.folder if saved else self._new_folder(settings, stack)
        self.settings = replace(settings, run_dir=str(self.folder), resume=None)
        self.changes = run_folder.changes(asdict(settings), saved.meta["config"]) if saved else []
        self.versions = run_folder.versions()
        self.journal = Journal(
            self.folder if world.main else None,
            self.state.step,
            self.plan.steps,
            saved.plain["journal"] if saved else 0,
        )
        self._record()

    def _new_folder(self, settings: TrainSettings, stack: ExitStack) -> Path:
        dataset = settings.dataset["name"]
        if dataset == "auto":
            dataset = Path(self.data.records.root).resolve().name
        make = (settings.run_dir, settings.model["name"], dataset)
        folder = run_folder.create(*make, stack) if self.world.main else None
        return distributed.share(folder, self.world)

    def _state(self, settings: TrainSettings, saved: Saved | None) -> State:
        """Model, optimiser and the rest, as they start or as they were saved."""
        world = self.world
        seed_everything(settings.seed)
        names = self.data.records.names
        model = build(
            self._model_settings(settings.model),
            {**settings.backbone, "weights": "none"} if saved else settings.backbone,
            len(names),
            settings.allow_download,
        )
        if saved:
            match_norms(model, {k.removeprefix("model/"): v for k, v in saved.packed.items()})
        elif settings.weights:
            norm = settings.backbone.get("norm", "auto")
            self.transferred = restore.transfer(model, settings.weights, names, norm)
        model.to(world.device).to(memory_format=layout(self.plan.dtype, world.device))
        state = State(
            model,
            build_optimizer(settings.optimizer, model),
            torch.amp.GradScaler(world.device.type, enabled=self.plan.dtype == torch.float16),
            EMA(model, self.options.ema) if self.options.ema is not None else None,
        )
        if world.size > 1:  # each process draws its own samples
            torch.manual_seed(settings.seed + world.rank)
        if saved:
            state.restore(saved.shown, saved.packed, saved.plain, world)
        return state

    def _model_settings(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        weights = self.options.class_weights
        if weights is None:
            return settings
        if settings.get("class_weights") is not None:
            raise DetkitError(
                "Both training.class_weights and model.class_weights are given.",
                remedy="set one of them to null; auto is training.class_weights'.",
            )
        if "class_weights" not in models.settings(settings["name"]):
            raise DetkitError(
                f"{settings['name']} has no class weights.",
                remedy="set training.class_weights=null.",
            )
        if weights == "auto":
            of = "pixels" if "pixels" in self.data.dataset.needs else "boxes"
            weights = class_weights(self.data.records, of=of).tolist()
        return {**settings, "class_weights": weights}

    def _record(self) -> None:
        """config.yaml, classes.json, run.json, and the first line."""
        if not self.world.main:
            return
        data = self.data
        telling.write_record(
            self.folder,
            self.settings,
            {data.train_split: data.records, data.val_split: data.val},
            {"trunk": self.state.model.backbone.weights_report, "checkpoint": self.transferred},
            versions=self.versions,
            step=self.state.step,
        )
        say = self.journal.say
        say(telling.first_line(self.state, self.settings, data.records, self.plan, self.world))
        for change in self.changes:
            say(f"changed: {change}")
        for split, part in (("train", data.records), ("val", data.val)):
            say(f"{split}: {part.source}")
            for note in part.notes:
                say(f"note: {note}")
        if self.state.step == self.plan.steps:
            say(
                "note: all its steps are made; a larger training.epochs or max_steps makes it go on"
            )
        if self.transferred:
            say(telling.weights_line(self.transferred))
            if same := telling.taken_over(self.settings):
                say(f"note: as in {self.settings.weights}: {same}")
        random = not self.transferred and self.state.model.backbone.weights_report is None
        if random and self.state.step == 0 and self.settings.backbone.get("frozen_stages"):
            say("note: backbone.frozen_stages keeps random weights as they are")

    def train(self) -> dict[str, Any]:
        """The whole run."""
        options, plan, world = self.options, self.plan, self.world
        batches = training_batches(
            self.data.dataset,
            batch_size=options.batch_size,
            steps=plan.steps * plan.accumulate,
            start=self.state.step * plan.accumulate,
            seed=self.settings.seed,
            workers=options.workers,
            rank=world.rank,
            world=world.size,
            repeat_thresh=options.repeat_thresh,
            pin_memory=world.device.type == "cuda",
        )
        hooks = Hooks(self._validate, self._save)
        try:
            fit(self.state, batches, self.schedule, plan, hooks, self.journal, self.folder, world)
        except Interrupted:
            again = f"{telling.script('train')} resume={shlex.quote(str(self.folder))}"
            self.journal.say(
                f"stopped after step {self.state.step:,} of {plan.steps:,}.  Go on with: {again}"
            )
            raise SystemExit(130) from None
        finally:
            self.journal.close()
        return self._finish()

    def _validate(self, state: State) -> None:
        """Measures the shown weights; writes `best/` when they are the best so far."""
        data = self.data
        distributed.align(state.shown, self.world)
        evaluator = self._measure(prepare(state.shown, self.world.device, self.options.precision))
        figures = distributed.share(evaluator.result() if self.world.main else None, self.world)
        more = {}
        if self.options.val_losses:
            more = validation_losses(
                state.shown,
                Dataset(data.val, data.transform, needs=data.dataset.needs),
                match_classes(data.val.names, data.records.names, data.task),
                dtype=self.plan.dtype,
                batch_size=self.options.batch_size,
                workers=self.options.workers,
                world=self.world,
            )
        key = self.options.best_by or evaluator.headline
        value = -1.0 if figures[key] is None else float(figures[key])
        # without a countable object all are alike: the latest is trained longest
        better = state.best is None or value > state.best or figures[key] is None
        epoch = self.plan.epochs(state.step)
        numbers = {k: v for k, v in figures.items() if v is None or isinstance(v, (int, float))}
        self.journal.write(state.step, {"epoch": epoch, **more, **numbers})
        loss = f", val_loss {more['val_loss']:.3f}" if more else ""
        best = " (best so far)" if better else ""
        told = f"{headline(figures, key)}{loss}{best}"
        self.journal.say(f"epoch {round(epoch, 2):g}, step {state.step:,}: {told}")
        if better:
            state.best = value
            if self.world.main:
                meta = self._meta(state, numbers)
                checkpoint.save(self.folder / "best", state.shown.state_dict(), meta)

    def _measure(self, model: Model) -> Any:
        return measure(
            model,
            self.data.val,
            self.data.transform,
            names=self.data.records.names,
            world=self.world,
            precision=self.options.precision,
            batch_size=self.options.batch_size,
            workers=self.options.workers,
        )

    def _save(self, state: State) -> None:
        """Writes `last/`."""
        packed, plain = state.pack(self.world)
        if self.world.main:
            plain |= {"journal": self.journal.size, "batch": self.batch}
            shown = state.shown.state_dict()
            checkpoint.save(self.folder / "last", shown, self._meta(state, {}), (packed, plain))

    def _meta(self, state: State, metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "config": asdict(self.settings),
            "names": list(self.data.records.names),
            "category_ids": [int(i) for i in self.data.records.category_ids],
            **self.data.fingerprints,
            "versions": self.versions,
            "seed": self.settings.seed,
            "step": state.step,
            "epoch": self.plan.epochs(state.step),
            "metrics": dict(metrics),
        }

    def _finish(self) -> dict[str, Any]:
        """Measures `best/` as anyone else would load it; results.json, predictions.jpg."""
        distributed.barrier(self.world)
        device, precision = self.world.device, self.options.precision
        predictor = load(self.folder, str(device), precision)
        epoch = f"{round(predictor.meta['epoch'], 2):g}"
        self.journal.say(f"the best checkpoint, of epoch {epoch}, on {self.data.val_split}:")
        evaluator = self._measure(prepare(predictor.model, device, precision))
        figures = report(evaluator, self.world, self.folder, self.data.val_split)
        if self.world.main:
            sheet = self.folder / "predictions.jpg"
            drawn = draw_sheet(predictor, self.data.val, sheet)
            modules = self.settings.plugins
            plugins = f" plugins=[{','.join(modules)}]" if modules else ""
            self.journal.say(
                f"done: {headline(figures, evaluator.headline)} on {self.data.val_split}, best "
                f"after epoch {epoch}.  See {sheet if drawn else self.folder};"
                f"  next: {telling.script('predict')} checkpoint={shlex.quote(str(self.folder))} "
                f"source=my.jpg{plugins}"
            )
        return {**figures, "run_dir": str(self.folder)}
