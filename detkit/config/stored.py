"""The settings that a checkpoint was trained with, before Hydra takes them for configuration.

A checkpoint may be a stranger's. Hydra instantiates what stands under `hydra` and follows what
stands under `defaults`; so of a stored config only settings that there are get through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.config.settings import check_stored
from detkit.errors import DetkitError, UnknownName

CONFIGURES = re.compile(r"hydra|defaults|_\w*_")  # keys that mean something to Hydra, in any place


def config_of(path: str, prefer: str, plugins: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a checkpoint, each of the type that it has on the command line.

    Args:
        path: what `resume=`, `weights=` or `checkpoint=` said.
        prefer: `best` or `last`.
        plugins: the modules that the user named, which are imported.
    Returns:
        The settings as they are stored; empty for weights without such a record.
    Raises:
        DetkitError: no checkpoint there, a damaged one, or one of a plugin that nobody named.
    """
    from detkit import checkpoint  # and with it torch: not for a --help

    file = checkpoint.find(path, prefer)
    if prefer == "best" and not (file.parent / "meta.json").exists():
        return {}
    config = checkpoint.read_meta(file)["config"]
    if odd := next((key for key in _keys(config) if CONFIGURES.fullmatch(key)), None):
        raise checkpoint.damaged(file, f"Its config holds {odd!r}, which is no setting.")
    modules = config.get("plugins", [])
    if isinstance(modules, list) and all(isinstance(module, str) for module in modules):
        try:
            check_stored(config)
        except UnknownName as error:
            if missing := [module for module in modules if module not in plugins]:
                raise plugin_needed(missing[0], modules, file) from error
            raise checkpoint.damaged(file, f"In its config: {error.problem}") from error
        except DetkitError as error:
            raise checkpoint.damaged(file, f"In its config: {error.problem}") from error
        return config
    raise checkpoint.damaged(file, "Its config holds no list of plugins.")


def part_of(
    config: Mapping[str, Any], name: str, path: str, prefer: str = "best"
) -> dict[str, Any]:
    """One group of the settings that `config_of` gave."""
    from detkit import checkpoint

    if not isinstance(config.get(name), dict):
        raise checkpoint.damaged(checkpoint.find(path, prefer), f"Its config names no {name}.")
    return config[name]


def plugin_needed(name: str, modules: Sequence[str], run: str | Path) -> DetkitError:
    """A run may be a stranger's: what it would import, and so execute, is named by the user."""
    return DetkitError(
        f"The run was trained with the plugin {name!r}, whose code would be executed.",
        file=run,
        remedy=f"if you trust it, add plugins=[{','.join(modules)}].",
    )


def _keys(values: Any) -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield str(key)
            yield from _keys(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _keys(value)
