"""What Hydra refuses, said in the user's terms: which argument, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from detkit import errors, foreign
from detkit.config import words
from detkit.errors import DetkitError

ALIKE = 0.7  # of two names, to take one for the other: imgsz is no weights
PACKAGE = "# @package _global_"


def parsed(verb: str, arguments: Sequence[str]) -> list[Override]:
    """The arguments by Hydra's grammar.

    Raises:
        DetkitError: the first one that is not of it.
    """
    parser = OverridesParser.create()
    overrides = []
    for argument in arguments:
        try:
            overrides.append(parser.parse_override(argument))
        except HydraException:
            raise DetkitError(
                f"{argument!r} is not an argument of the form key=value.",
                remedy=f"see the settings with detkit {verb} --help; a text with spaces, commas or "
                "brackets goes in quotes within the shell's: key='\"a, b\"'.",
            ) from None
    return overrides


def mistake(verb: str, name: str, arguments: Sequence[str], error: Exception) -> DetkitError:
    """Why Hydra refused to compose; to be called while Hydra is initialised.

    Args:
        name: of the primary config.
        arguments: the overrides that it refused.
        error: what it said.
    """
    overrides = parsed(verb, arguments)
    if "Ambiguous value" in str(error):
        several = next(o.input_line for o in overrides if o.is_sweep_override())
        return DetkitError(
            f"{several} names several values.", remedy="add -m for a run with each of them."
        )
    hydras = [o for o in overrides if o.key_or_group.partition(".")[0] == "hydra"]
    choosing = [o for o in overrides if _options(o.key_or_group, hydras)]
    for override in choosing:
        known = _options(override.key_or_group, hydras)
        if (
            not override.is_delete()
            and not isinstance(override.value(), dict)
            and not _choices(override)
        ):
            return DetkitError(
                f"{override.key_or_group} has no name.",
                remedy=f"leave it out, or choose one of: {', '.join(known)}.",
            )
        for choice in _choices(override):
            if choice not in known:
                return errors.unknown(override.key_or_group, choice, known)
            if override.key_or_group == "experiment" and (file := _headless(choice, hydras)):
                return DetkitError(
                    "The experiment lacks the line that puts its settings in their place.",
                    file=file,
                    record="line 1",
                    remedy=f"begin it with: {PACKAGE}",
                )
    plain = hydra.compose(name, [str(o.input_line) for o in hydras], return_hydra_config=True)
    for override in choosing:
        if override.key_or_group not in plain.hydra.runtime.choices:
            own = [key for key in _keys(OmegaConf.to_container(plain), "") if key[:5] != "hydra"]
            # the settings are a stored run's
            if override.key_or_group in (*own, "experiment"):
                raise DetkitError(
                    f"A resumed run keeps its {override.key_or_group}.",
                    remedy="leave it out; to train with another one start a new run with weights=.",
                )
            return unknown_setting(verb, override.key_or_group, own)
    why = f" ({str(error.__cause__).splitlines()[0]}.)" if error.__cause__ else ""
    said = str(error).splitlines()[0]
    remedy = f"see detkit {verb} --help."
    if "Could not find '" in said:  # what an experiment of the user's chooses
        remedy = f"if it comes from a module of your own, add plugins=[MODULE]; {remedy}"
    last = DetkitError(said + why, remedy=remedy)
    try:
        base = hydra.compose(name, [str(o.input_line) for o in (*hydras, *choosing)])
    except Exception:  # the choices do not go together: Hydra's own words are the best there are
        return last
    keys = list(_keys(OmegaConf.to_container(base), ""))
    for override in overrides:
        valued = override not in hydras and override not in choosing
        if valued and not override.is_add() and override.key_or_group not in keys:
            return unknown_setting(verb, override.key_or_group, keys)
    return last


def _options(group: str, hydras: Sequence[Override]) -> list[str]:
    """The choices of a group, those in folders of the user's included; none if it is no group."""
    theirs = [file.stem for folder in _folders(hydras) for file in (folder / group).glob("*.yaml")]
    return sorted({*GlobalHydra.instance().config_loader().get_group_options(group), *theirs})


def _folders(hydras: Sequence[Override]) -> list[Path]:
    """Those of the user's own configs."""
    places = [o.value() for o in hydras if o.key_or_group == "hydra.searchpath"]
    return [Path(str(url).removeprefix("file://")) for urls in places for url in cast(list, urls)]


def _headless(experiment: str, hydras: Sequence[Override]) -> Path | None:
    """The user's file of that name, if Hydra would take it for settings below `experiment`."""
    for folder in _folders(hydras):
        file = folder / "experiment" / f"{experiment}.yaml"
        if file.is_file() and PACKAGE not in foreign.glance(file):
            return file
    return None


def unknown_setting(verb: str, key: str, known: Sequence[str]) -> DetkitError:
    """The error of a setting that does not exist, with the one that was probably meant."""
    remedy = f"see all of them: detkit {verb} --help"
    if own := words.here(verb, key):
        return DetkitError(f"No setting {key!r}. Here it is {own}.", remedy=remedy)
    parent, _, last = key.rpartition(".")
    beside = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == parent}
    initials = "".join(word[:1] for word in last.split("_")) if "_" in last else last
    names = {last, initials}  # lr and learning_rate are optimizer.lr
    near = [beside[one] for one in names & beside.keys()]
    near += [one for one in known if one.rpartition(".")[2] in names]
    if near:
        return DetkitError(f"No setting {key!r}. Did you mean {near[0]}?", remedy=remedy)
    if meant := _group_meant(key, known):
        return DetkitError(f"No setting {key!r}. Did you mean {meant}?", remedy=remedy)
    ends = {one.rpartition(".")[2]: one for one in reversed(known)} | beside
    close = [ends[one] for one in difflib.get_close_matches(last, ends, n=1, cutoff=ALIKE)]
    guess = f" Did you mean {close[0]}?" if close else ""
    return DetkitError(f"No setting {key!r}.{guess}", remedy=remedy)


def _group_meant(key: str, known: Sequence[str]) -> str | None:
    """`optimizer.lr` for `optimiser.lr`: the key with the group that is nearest to its own."""
    group, _, rest = key.partition(".")
    groups = {one.partition(".")[0] for one in known}
    if not rest or group in groups:
        return None
    near = difflib.get_close_matches(group, groups, n=1, cutoff=ALIKE)
    return f"{near[0]}.{rest}" if near else None


def misspelt(verb: str, argv: Sequence[str], folder: Path) -> None:
    """Raises the error of a setting that cannot be, before anything large is imported.

    What a group's choice takes is not known yet, so only keys of no group are looked at, those of a
    group that does not exist among them, and of these only what other toolkits have, or what is
    almost a setting's name.

    Args:
        folder: of the verb's primary config.
    """
    own = foreign.read_yaml(folder / f"{verb}.yaml")
    known = list(_keys({k: v for k, v in own.items() if k != "defaults"}, ""))
    known += [name for entry in own.get("defaults", []) for name in _named(entry)]
    groups = {name.partition(".")[0] for name in known}
    for argument in argv:
        key = argument.lstrip("+~-").partition("=")[0].replace("-", "_")
        group, _, last = key.partition(".")
        if (
            "=" not in argument
            or argument[0] == "-"
            or key in known
            or group in ("hydra", "optimizer", "schedule")
        ):
            continue
        plain = not last or key.isupper() or group == "training" or group not in groups
        if not plain or (not key.isupper() and not key.replace(".", "_").isidentifier()):
            continue
        error = unknown_setting(verb, key, known)
        if error.problem != f"No setting {key!r}.":
            raise error


def _named(entry: Any) -> list[str]:
    """The group of an entry of the defaults list."""
    return [str(one) for one in entry] if isinstance(entry, Mapping) else []


def _choices(override: Override) -> list[str]:
    value = override.value()
    if override.is_sweep_override():
        return [part.partition("=")[2] or part for part in override.sweep_string_iterator()]
    if isinstance(value, list):
        return [str(one) for one in value]
    return [value] if isinstance(value, str) else []


def _keys(config: Any, prefix: str) -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield prefix + str(key)
            yield from _keys(value, f"{prefix}{key}.")
