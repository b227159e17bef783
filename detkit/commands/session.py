"""What one training run is made of: data → plan → recipe → state → folder → journal."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detkit import checkpoint, distributed, restore
from detkit.backbones import build as backbones
from detkit.backbones.norms import match_norms
from detkit.commands import beginning
from detkit.commands.forecasting import forecast
from detkit.commands.opening import open_data
from detkit.commands.own_boxes import of_own_boxes
from detkit.commands.proposing import propose_first
from detkit.config.settings import TrainSettings
from detkit.data.balance import class_weights
from detkit.data.loading import Batches, Dataset
from detkit.data.order import epoch_length, training_batches
from detkit.distributed import World
from detkit.errors import DetkitError
from detkit.folders import held
from detkit.models.build import build
from detkit.models.model import Model, models
from detkit.models.stages import Stage
from detkit.ops.precision import layout, resolve
from detkit.training import recipe, run_folder, transfer
from detkit.training.fitted import fitted
from detkit.training.journal import Journal
from detkit.training.loop import Plan
from detkit.training.optimization import build_optimizer, build_schedule
from detkit.training.recipe import Beginning, Interval
from detkit.training.run_folder import Saved
from detkit.training.state import State


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


class Session:
    """A run that is ready to make its next step.

    Args:
        stack: what is held until the run has ended.

    Attributes:
        data, plan, schedule, state, folder, journal: see their classes.
        recipe: the stages with their steps.
        why: the optimiser and the schedule were chosen as they are; empty if they were given.
        begin: gives the state what a stage of descent begins with.
    """

    def __init__(self, settings: TrainSettings, world: World, stack: ExitStack) -> None:
        self.world, self.options = world, settings.training
        self.batch = self.options.batch_size * self.options.accumulate * world.size
        saved = self._saved(settings, stack) if settings.resume else None
        self.data = open_data(settings, saved)
        backbone = self._backbone(settings.backbone)
        model_settings, self.fitted = of_own_boxes(
            settings.model, backbone, self.data, settings.seed
        )
        settings = replace(settings, backbone=backbone, model=model_settings)
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
        optimizer, schedule, self.why = fitted(
            settings.optimizer, settings.schedule, self.plan.steps, self.batch
        )
        settings = replace(settings, optimizer=optimizer, schedule=schedule)
        self.schedule = build_schedule(settings.schedule)
        self.transferred: dict[str, Any] | None = None
        model = self._model(settings, saved)
        share, kept = self.options.head_first, saved.plain.get("ends") if saved else None
        first = transfer.first_of(saved.plain) if saved and share else None
        stages = transfer.stages_of(model, share, self.transferred, first)
        self.recipe = recipe.intervals(stages, self.plan.steps, self.batch, kept)
        self._check_complete(saved)
        self._check_patience()
        self.data = self.data.proposed_by(model.proposer)
        self.begin = self._beginning(settings, model)
        self.state = self._state(model, settings.seed, saved)
        self._check_sizes(model)
        # no mistake before it
        self.folder = saved.folder if saved else self._new_folder(settings, stack)
        self.begin = replace(self.begin, start=self.folder / recipe.FOLDER / recipe.START)
        self.settings = replace(settings, run_dir=str(self.folder), resume=None)
        self.journal = Journal(
            self.folder if world.main else None,
            self.state.step,
            self.plan.steps,
            saved.plain["journal"] if saved else 0,
        )
        self._keep_start(saved)
        self.versions = run_folder.versions()
        if world.main:
            beginning.record(self, saved)
        if model.proposer is not None and not saved:
            propose_first(self.data, model.proposer, self.options.workers, self.journal, world)
            size = self.options.batch_size
            forecast(self.data, model, self.recipe, self.plan, size, self.journal, world)

    def _saved(self, settings: TrainSettings, stack: ExitStack) -> Saved:
        assert settings.resume is not None
        if self.world.main:
            stack.enter_context(held(run_folder.home(settings.resume)))
        distributed.barrier(self.world)  # the run may have been saving until now
        return run_folder.read(settings.resume, asdict(settings), self.batch)

    def _check_sizes(self, model: Model) -> None:
        """No pictures that the model does not take, of any side of a step."""
        records, transforms = self.data.records, self.data.dataset.transform.variants.values()
        for transform in (self.data.transform, *transforms):
            model.check_size(*beginning.picture_size(records, transform))

    def _new_folder(self, settings: TrainSettings, stack: ExitStack) -> Path:
        dataset = settings.dataset["name"]
        if dataset == "auto":
            dataset = Path(self.data.records.root).resolve().name
        make = (settings.run_dir, settings.model["name"], dataset)
        folder = run_folder.create(*make, stack) if self.world.main else None
        return distributed.share(folder, self.world)

    def _backbone(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """With what the data say, and without a file beside it, so that a checkpoint is whole."""
        records = self.data.records
        given = {}
        if settings.get("in_channels") is None and "in_channels" in backbones.settings(
            settings["name"]
        ):
            given = {"in_channels": records.channels}
        return dict(backbones.self_contained({**settings, **given}))

    def _model(self, settings: TrainSettings, saved: Saved | None) -> Model:
        """As it starts, or as it was built when the run was saved."""
        seed_everything(settings.seed)
        records = self.data.records
        part = self._model_settings(settings.model)
        trunk = {**settings.backbone, "weights": "none"} if saved else settings.backbone
        classes = self.data.classes
        if saved:
            file = checkpoint.find(saved.folder, "last")
            restore.check_size({"model": part, "backbone": trunk}, classes, file)
        model = build(part, trunk, classes, settings.allow_download)
        if saved:
            match_norms(model, {k.removeprefix("model/"): v for k, v in saved.packed.items()})
        elif settings.weights:
            norm = settings.backbone.get("norm", "auto")
            self.transferred = restore.transfer(model, settings.weights, records.names, norm)
        device = self.world.device
        return model.to(device).to(memory_format=layout(self.plan.dtype, device))

    def _beginning(self, settings: TrainSettings, model: Model) -> Beginning:
        device, half = self.world.device.type, self.plan.dtype == torch.float16
        return Beginning(
            optimizer=lambda model: build_optimizer(settings.optimizer, model),
            scaler=lambda: torch.amp.GradScaler(device, enabled=half),
            ema=self.options.ema,
            trainable=frozenset(n for n, p in model.named_parameters() if p.requires_grad),
            start=Path(),
        )

    def _state(self, model: Model, seed: int, saved: Saved | None) -> State:
        """What the run goes on from: its start, or what was saved."""
        state = State(model, None, self.begin.scaler())
        number = saved.plain.get("stage", 0) if saved else 0
        within = saved is not None and saved.plain["step"] > self._start_of(number)
        if within or (not saved and self.recipe[0].stage.solve is None):
            self.begin(state, self.recipe[number], resumed=True)
        if self.world.size > 1:  # each process draws its own samples
            torch.manual_seed(seed + self.world.rank)
        if saved:
            names = [interval.stage.name for interval in self.recipe]
            recipe.check_solved(saved.plain.get("solved", {}), saved.folder, names)
            state.restore(saved.shown, saved.packed, saved.plain, self.world)
        return state

    def _check_complete(self, saved: Saved | None) -> None:
        """Raise where more steps are asked of a run whose stages of descent have ended."""
        descents = [i.number for i in self.recipe if i.stage.solve is None]
        if (
            saved
            and saved.plain.get("stage", 0) > descents[-1]
            and (saved.plain["step"] < self.plan.steps)
        ):
            raise DetkitError(
                "The run has solved what comes after its last step, so it makes no more steps.",
                file=saved.folder,
                remedy="leave training.epochs and training.max_steps as they were, or start a new"
                " run from its weights with weights=.",
            )

    def _check_patience(self) -> None:
        """Raise where a run would wait for figures that its last stage does not give."""
        last = self.recipe[-1].stage
        if self.options.patience and (last.solve is not None or not last.measured):
            raise DetkitError(
                f"The recipe ends with the stage {last.name}, which has no figures to wait for.",
                record="training.patience",
                remedy="leave it out: the stages have their fixed shares of the steps.",
            )

    def _start_of(self, number: int) -> int:
        return self.recipe[number].start if number < len(self.recipe) else self.plan.steps

    def _keep_start(self, saved: Saved | None) -> None:
        """Keeps the weights that the run starts with, where a stage will go back to them."""
        if saved or not any(interval.stage.restarts for interval in self.recipe):
            return
        kept = {}
        if self.world.main:
            self.begin.start.parent.mkdir()
            checkpoint.write_tensors(self.begin.start, self.state.model.state_dict())
            kept = {recipe.START: recipe.digest_of_file(self.begin.start)}
        self.state.solved = distributed.share(kept, self.world)

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
            weights = class_weights(self.data.records, self.data.dataset.needs).tolist()
        return {**settings, "class_weights": weights}

    def batches(self, interval: Interval) -> Batches:
        """The training batches of a stage, from the state's step on."""
        accumulate = self.plan.accumulate
        return training_batches(
            self._dataset(interval.stage),
            batch_size=self.options.batch_size,
            steps=interval.end * accumulate,
            start=self.state.step * accumulate,
            seed=self.settings.seed,
            workers=self.options.workers,
            rank=self.world.rank,
            world=self.world.size,
            repeat_thresh=self.options.repeat_thresh,
            accumulate=accumulate,
            pin_memory=self.world.device.type == "cuda",
        )

    def _dataset(self, stage: Stage) -> Dataset:
        """What a stage learns from."""
        data = self.data.dataset
        proposer = data.proposer
        if stage.proposals is not None:
            proposer = recipe.proposals_of(self.folder, stage.proposals)
        return replace(data, needs=stage.needs or data.needs, proposer=proposer)

    def solve(self, interval: Interval) -> None:
        """Carries out a solved stage, and saves."""
        stage = interval.stage
        dataset = replace(self._dataset(stage), transform=self.data.transform)
        size = self.options.batch_size
        recipe.solve(
            self.state, interval, dataset, self.folder, self.settings.seed, size, self.world
        )
        self.state.due = stage.measured
        self.save(self.state)

    def save(self, state: State) -> None:
        """Writes `last/`."""
        packed, plain = state.pack(self.world)
        if self.world.main:
            plain |= {"journal": self.journal.size, "batch": self.batch}
            plain["ends"] = [interval.end for interval in self.recipe]
            if self.options.head_first:
                plain["first"] = list(self.recipe[0].stage.trains)
            shown = state.shown.state_dict()
            checkpoint.save(self.folder / "last", shown, self.meta(state, {}), (packed, plain))

    def meta(self, state: State, metrics: Mapping[str, Any]) -> dict[str, Any]:
        classes = state.model.class_list
        number = min(state.stage, len(self.recipe) - 1)
        stage = {"stage": self.recipe[number].stage.name} if len(self.recipe) > 1 else {}
        return {
            "config": asdict(self.settings),
            "names": list(classes.names),
            "category_ids": list(classes.category_ids),
            **({} if classes.parents is None else {"parents": list(classes.parents)}),
            **self.data.fingerprints,
            "versions": self.versions,
            "seed": self.settings.seed,
            "step": state.step,
            "epoch": self.plan.epochs(state.step),
            **stage,
            "metrics": dict(metrics),
        }
