"""The config in a checkpoint's `meta.json`, checked as the command line checks its settings.

A checkpoint may be a stranger's, or damaged: what it says is data until it was looked at here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detkit import checkpoint
from detkit.backbones import build as backbones
from detkit.checkpoint import damaged
from detkit.data.transforms import Transform, transforms
from detkit.data.transforms import build as build_transform
from detkit.errors import DetkitError, UnknownName
from detkit.evaluation.thresholds import Point, is_point
from detkit.models.model import models
from detkit.values import checked

PARTS: dict[str, Callable[[str], dict[str, inspect.Parameter]]] = {
    "model": models.settings,
    "backbone": backbones.settings,
    "transforms": transforms.settings,
}


def read_meta(file: Path) -> dict[str, Any]:
    """The meta data of a `model.safetensors`, whose config names a model and a backbone.

    Raises:
        DetkitError: it is missing or damaged, or a part is of a plugin that was not imported.
    """
    meta = checkpoint.read_meta(file)
    for name in ("model", "backbone"):
        _check(meta["config"], name, file)
    return meta


def transform_of(meta: Mapping[str, Any], path: str | Path) -> Transform:
    """What prepares pictures for the model of a checkpoint.

    Args:
        path: of the checkpoint, for messages.
    """
    file, config = checkpoint.find(path), meta["config"]
    _check(config, "transforms", file)
    try:
        return build_transform(config["transforms"], train=False)
    except DetkitError as error:
        raise damaged(file, f"In its config: {error.problem}") from error


def point_of(meta: Mapping[str, Any], path: str | Path) -> Point | None:
    """The scores that were best on the validation split, where the checkpoint has them.

    Raises:
        DetkitError: they are none.
    """
    point = meta.get("operating_point")
    if point is not None and not is_point(point, meta["names"]):
        raise damaged(checkpoint.find(path), "Its operating_point holds no scores of its classes.")
    return point


def nms_iou(asked: bool, meta: Mapping[str, Any]) -> float | None:
    """The overlap from which another NMS drops boxes: that of the model's own.

    Args:
        asked: whether there is to be one; None is returned where not.
    Raises:
        DetkitError: the model has no NMS.
    """
    settings = meta["config"]["model"]
    if not asked:
        return None
    if (iou := models.complete(settings["name"], settings).get("nms_iou")) is None:
        raise DetkitError(
            f"{settings['name']} finds no boxes that could overlap.",
            record="agnostic_nms",
            remedy="leave it out.",
        )
    return float(iou)


def _check(config: Mapping[str, Any], name: str, file: Path) -> None:
    values = part(config, name, file)
    try:
        known = PARTS[name](values["name"])
        for key, value in values.items():
            if key == "name":
                continue
            if key not in known:
                raise DetkitError(f"There is no setting {name}.{key}.")
            if known[key].annotation is not inspect.Parameter.empty:
                checked(f"{name}.{key}", value, known[key].annotation)
    except UnknownName as error:
        raise of_plugin(error, config, file) from error
    except DetkitError as error:
        raise damaged(file, f"In its config: {error.problem}") from error


def part(config: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """The settings of one part: a dict with the name of a registered builder."""
    values = config.get(name)
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        raise damaged(file, f"Its config names no {name}.")
    return values


def of_plugin(error: DetkitError, config: Mapping[str, Any], file: Path) -> DetkitError:
    """The error of a part that is not known: the run may have had it from somebody's own module."""
    modules = config.get("plugins")
    if not isinstance(modules, list) or not modules:
        return damaged(file, f"In its config: {error.problem}")
    return DetkitError(
        f"{error.problem.split('. ')[0]}. The run was trained with plugins, whose code would be"
        " executed.",
        file=file,
        remedy=f"if you trust them, add plugins=[{','.join(map(str, modules))}] (in Python, import"
        " them first).",
    )
