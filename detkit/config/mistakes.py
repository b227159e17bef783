"""What Hydra refuses, said in the user's terms: which argument, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from detkit import errors
from detkit.errors import DetkitError


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
    loader = GlobalHydra.instance().config_loader()
    of_groups = [o for o in overrides if loader.get_group_options(o.key_or_group)]
    for override in of_groups:
        known = loader.get_group_options(override.key_or_group)
        for choice in _choices(override):
            if choice not in known:
                return errors.unknown(override.key_or_group, choice, known)
    try:
        base = hydra.compose(name, [str(o.input_line) for o in of_groups])
        keys = list(_keys(OmegaConf.to_container(base), ""))
    except Exception:  # the choices do not go together: Hydra's own words are the best there are
        return DetkitError(str(error).splitlines()[0], remedy=f"see detkit {verb} --help.")
    for override in overrides:
        if (
            override not in of_groups
            and not override.is_add()
            and override.key_or_group not in keys
        ):
            return unknown_setting(verb, override.key_or_group, keys)
    return DetkitError(str(error).splitlines()[0], remedy=f"see detkit {verb} --help.")


def unknown_setting(verb: str, key: str, known: Sequence[str]) -> DetkitError:
    """The error of a setting that does not exist, with the one that was probably meant."""
    remedy = f"see all of them: detkit {verb} --help"
    parent, _, last = key.rpartition(".")
    near = [one for one in known if one.rpartition(".")[2] == last]  # lr is optimizer.lr
    if not near:
        beside = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == parent}
        near = [beside[one] for one in difflib.get_close_matches(last, beside, n=1)]
    if near:
        return DetkitError(f"No setting {key!r}. Did you mean {near[0]}?", remedy=remedy)
    return errors.unknown("setting", key, known, remedy)


def _choices(override: Override) -> Iterable[str]:
    value = override.value()
    if override.is_sweep_override():
        return [part.partition("=")[2] or part for part in override.sweep_string_iterator()]
    return [value] if isinstance(value, str) else []


def _keys(config: Any, prefix: str) -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield prefix + str(key)
            yield from _keys(value, f"{prefix}{key}.")
