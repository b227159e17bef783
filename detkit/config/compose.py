"""Hydra, kept in one room: from the command line to typed settings, and Hydra's own ways to run.

Hydra's compose API answers the ordinary call, so no folder of Hydra's appears; arguments with a
flag (`--cfg job`, `--multirun`, …) or a setting of Hydra's go through Hydra's main.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import detkit
from detkit import foreign
from detkit.config import arguments, groups
from detkit.config.mistakes import mistake, parsed
from detkit.config.settings import TrainSettings, typed
from detkit.config.stored import config_of, part_of, plugin_needed
from detkit.config.sweep import Sweep
from detkit.errors import DetkitError
from detkit.folders import date

_PACKAGE = Path(detkit.__file__).resolve().parent
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())
# where a verb writes
FOLDER = {
    "train": "run_dir",
    "evaluate": "output",
    "predict": "output",
    "explain": "output",
    "export": "output",
    "propose": "output",
}
CHOICES = {  # the groups of each verb
    "train": [*groups.GROUPS],
    "evaluate": ["dataset"],
    "compare": ["dataset"],
    "predict": ["model", "backbone", "transforms"],
    "explain": ["model", "backbone", "transforms"],
    "propose": ["dataset"],
    "anchors": ["dataset"],
}
SIGNATURE = "signature"  # the group of what builders' signatures say
STORED = "of_checkpoint"  # how configs and choices that come from a checkpoint are called
HYDRAS_FLAGS = {
    *("--hydra-help", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r", "--multirun"),
    *("-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--experimental-rerun", "--info", "-i"),
}
_REFUSALS = (HydraException, OmegaConfBaseException, ValueError, TypeError)


def home(verb: str) -> Path:
    """The folder of the verb's primary config: one of its own if its settings are no groups."""
    return CONF / verb if (CONF / verb).is_dir() else CONF


def compose(verb: str, argv: Sequence[str]) -> Any:
    """The settings of `detkit VERB argv…`: TrainSettings, EvaluateSettings or PredictSettings.

    Args:
        verb: `train`, `evaluate` or `predict`.
        argv: `key=value` arguments, file names unquoted.
    Raises:
        DetkitError: an unknown setting or choice, a value of the wrong type, an argument of another
            form.
    """
    name, overrides = prepare(verb, argv)
    return _settings(verb, resolved(verb, name, overrides), argv)


def resolved(verb: str, name: str, overrides: Sequence[str], hydras: bool = False) -> DictConfig:
    """What Hydra makes of the overrides; with its own node `hydra` in it if `hydras`."""
    with hydra.initialize_config_dir(str(home(verb)), version_base="1.3"):
        try:
            return hydra.compose(name, list(overrides), return_hydra_config=hydras)
        except _REFUSALS as error:
            raise mistake(verb, name, overrides, error) from error


def prepare(verb: str, argv: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the primary config and the overrides, once every choice is known to Hydra."""
    overrides = [arguments.quoted(argument) for argument in argv]
    plugins: list[str] = []
    for place, override in enumerate(parsed(verb, overrides)):
        if _is_table(override):  # whose keys are names, not settings that there are
            overrides[place] = f"++{overrides[place]}"
        if override.key_or_group == "plugins":
            modules = override.value()
            if not isinstance(modules, list):
                right = "[]" if modules is None else f"[{modules}]"
                raise DetkitError("plugins is a list.", remedy=f"write plugins={right}.")
            plugins = list(map(str, modules))
    groups.import_plugins(plugins)
    _store_choices(CHOICES.get(verb, []))
    given = arguments.given(argv)
    if verb == "train" and given.get("resume", "null") != "null":
        config = config_of(given["resume"], "last", plugins)
        modules = config.get("plugins", [])
        if missing := [name for name in modules if name not in plugins]:
            raise plugin_needed(missing[0], modules, given["resume"])
        for group in (*groups.GROUPS, "training"):
            part_of(config, group, given["resume"], "last")
        config = _with_new_settings(config)
        config["row"] = None  # named anew: no run says which files are written outside of it
        ConfigStore.instance().store(STORED, _literal(config))
        return STORED, overrides
    experiment = f"{given.get('experiment')}_{given.get('model')}"  # that of this very model
    if (CONF / "experiment" / f"{experiment}.yaml").is_file():
        chosen = f"experiment={experiment}"
        overrides = [chosen if one.startswith("experiment=") else one for one in overrides]
    return verb, [*_implied(verb, given), *overrides]


def _with_new_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored run's settings; those that came into being after it have their defaults."""
    own = foreign.read_yaml(CONF / "train.yaml")
    defaults = {key: value for key, value in own.items() if key != "defaults"}
    return {**defaults, **config, "training": {**own["training"], **config["training"]}}


def _is_table(override: Override) -> bool:
    """Whether it is such as `optimizer.rates={backbone:0.1}`."""
    added = override.is_add() or override.is_force_add()
    plain = not (added or override.is_delete() or override.is_sweep_override())
    inside = "." in override.key_or_group
    return plain and inside and isinstance(override.value(), dict)


def _implied(verb: str, given: Mapping[str, str]) -> list[str]:
    """What goes without saying: the shapes without a data set, a checkpoint's own parts with it."""
    if CHOICES.get(verb) == ["dataset"] and "dataset" not in given:
        elsewhere = {"dataset.root", "dataset.annotations"} & given.keys()
        own = _stored_groups(given.get("checkpoint", "null"), ["dataset"]) if not elsewhere else []
        return own or ["dataset=auto"] * any(key.startswith("dataset.") for key in given)
    if verb != "train":
        return []
    implied = []
    if not {"model", "backbone", "experiment"} & given.keys():
        recipe = [part for part in ("transforms", "optimizer", "schedule") if part not in given]
        parts = ["model", "backbone", *recipe]
        implied = _stored_groups(given.get("weights", "null"), parts)
    drawn = {f"dataset.{key}" for key in groups.parameters("dataset", groups.DRAWN)}
    if not {key for key in given if key.startswith(("dataset", "experiment"))} - drawn:
        experiment = f"shapes_{given.get('model', 'faster_rcnn')}"
        there = not implied and (CONF / "experiment" / f"{experiment}.yaml").exists()
        implied.append(f"experiment={experiment}" if there else "dataset=shapes")
    chosen = {
        key.partition(".")[0] for key in (*given, *(one.partition("=")[0] for one in implied))
    }
    if not chosen & {*groups.FITTED, "experiment"}:  # a recipe of somebody's stays as it is
        implied += [f"{group}=auto" for group in groups.FITTED]
    return implied


def _stored_groups(path: str, names: Sequence[str]) -> list[str]:
    """Overrides that choose a checkpoint's own parts; none where there is no checkpoint."""
    if path == "null" or not (config := config_of(path, "best")):
        return []
    for name in names:
        node = part_of(config, name, path) | ({"weights": "none"} if name == "backbone" else {})
        ConfigStore.instance().store(STORED, _literal(node), group=name)
    return [f"{name}={STORED}" for name in names]


def _literal(value: Any) -> Any:
    """Plain values such that OmegaConf takes every text in them as it stands."""
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_literal(item) for item in value]
    return arguments.literal(value) if isinstance(value, str) else value


def _store_choices(names: Sequence[str]) -> None:
    """Makes a choice of every registered part that has no file of its own under `conf/`.

    A part's own file takes its settings with `/signature/model/NAME@_here_`, and says what is left.
    """
    store = ConfigStore.instance()
    for group in groups.GROUPS:
        store.repo.pop(group, None)  # of another verb in this process, whose groups differ
    for group in names:
        for name in groups.registry(group).names():
            node = _signature(group, name)
            store.store(name, node, group=f"{SIGNATURE}/{group}")
            if not (CONF / group / f"{name}.yaml").exists():
                store.store(name, node, group=group)


def _signature(group: str, name: str) -> Any:
    """All settings of a choice with the defaults of its builder's signature."""
    own = groups.parameters(group, name).items()
    return _literal({"name": name, **{key: default for key, (_, default) in own}})


def _settings(verb: str, config: DictConfig, argv: Sequence[str]) -> Any:
    try:
        values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException as error:
        raise DetkitError(
            str(error).splitlines()[0],
            remedy="${…} stands for another setting's value; write one that there is.",
        ) from error
    if isinstance(modules := values.get("plugins"), list):
        groups.import_plugins(modules)
    given = arguments.given(argv)
    for group in groups.GROUPS & given.keys():
        if isinstance(values.get(group), dict) and "name" in values[group]:
            # an experiment's settings of a part that the command line put another in place of
            own = ("name", *groups.parameters(group, values[group]["name"]))
            kept = {k: v for k, v in values[group].items() if k in own or f"{group}.{k}" in given}
            values[group] = kept
    for key in arguments.TABLES & values.keys():
        if isinstance(text := values[key], str) and text.startswith("{"):
            values[key] = arguments.table(key, text)
    return typed(verb, values)


def launch(verb: str, argv: Sequence[str], command: Callable[[Any], Any]) -> None:
    """Runs the command: once, or as often and where Hydra's flags say."""
    argv = arguments.searched(argv)
    overrides = [a for a in argv if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    flags = [a for a in argv if a not in overrides]
    if not any(a.startswith("-") for a in flags) and not any(map(_is_hydras, overrides)):
        settings = compose(verb, argv)
        use_threads(getattr(settings, "threads", None))
        result = command(settings)
        if isinstance(result, Mapping) and result.get("stopped"):
            raise SystemExit(130)  # what comes after it in a shell should not take it for whole
        return
    for flag in flags:
        if flag.startswith("-") and flag.partition("=")[0] not in HYDRAS_FLAGS:
            raise _no_flag(verb, flag.partition("=")[0], overrides)
    name, prepared = prepare(verb, overrides)
    if {"-m", "--multirun"} & set(flags):
        folder = arguments.given(overrides).get(FOLDER.get(verb, ""), "null")
        if folder == "null":
            folder = f"runs/{date()}_sweep"
        prepared = [f"hydra.sweep.dir={arguments.quote(folder)}", *prepared]
    quiet = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra.sweep.subdir=${hydra.job.num}"]
    quiet += ["hydra/job_logging=none", f"hydra.job.name={verb}"]
    sweep = Sweep()

    def job(config: DictConfig) -> Any:
        hydras = HydraConfig.get()
        given = list(hydras.overrides.task)
        settings = _settings(verb, config, given)
        several = hydras.mode == RunMode.MULTIRUN
        if verb in FOLDER and several:  # one folder a job
            settings = replace(settings, **{FOLDER[verb]: hydras.runtime.output_dir})
        if verb == "train" and several:
            settings = sweep.lean(settings, given)
        use_threads(getattr(settings, "threads", None))
        result = command(settings)
        if verb != "train" or not result:
            return result
        figure = _figure(settings)
        if several:
            sweep.add(Path(hydras.sweep.dir), figure, result, given)
        return result[figure]  # to a sweeper that looks for the best settings

    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through, for __main__ to tell
    sys.argv = [sys.argv[0], *flags, *quiet, *prepared]
    try:
        hydra.main(config_path=str(home(verb)), config_name=name, version_base="1.3")(job)()
    except _REFUSALS as error:
        with hydra.initialize_config_dir(str(home(verb)), version_base="1.3"):
            raise mistake(verb, name, prepared, error) from error
    sweep.tell()


def use_threads(number: int | None) -> None:
    """Lets PyTorch and OpenCV compute on so many of the CPU's cores; None leaves their choice."""
    if number is not None:
        import cv2
        import torch

        torch.set_num_threads(number)
        cv2.setNumThreads(number)


def _no_flag(verb: str, flag: str, overrides: Sequence[str]) -> DetkitError:
    """The error of `--epochs 3`, with the setting that was probably meant."""
    key = flag.lstrip("-").replace("-", "_")
    try:
        compose(verb, [*overrides, f"{key}=null"])
    except DetkitError as error:
        if "No setting" in error.problem:
            return error
    return DetkitError(f"No flag {flag}.", remedy=f"a setting is written {key}=VALUE.")


def _figure(settings: TrainSettings) -> str:
    """The name of the one figure that chooses a run's checkpoint."""
    from detkit.inference.tasks import tasks
    from detkit.models.model import models

    task = tasks[models.part(settings.model["name"]).task]
    return settings.training.best_by or task.evaluator.headline


def _is_hydras(argument: str) -> bool:
    return re.match(r"[+~]*hydra[./](?!searchpath)", argument) is not None
