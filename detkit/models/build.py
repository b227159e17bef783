"""A model on its backbone, from two plain dicts: the config groups `model` and `backbone`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detkit.backbones import build as backbones
from detkit.models.model import Model, models
from detkit.structures import Classes


def build(
    model: Mapping[str, Any],
    backbone: Mapping[str, Any],
    classes: Classes,
    allow_download: bool = False,
) -> Model:
    """
    Args:
        model: `name` and settings of a registered model.
        backbone: `name` (with `_fpn` behind it for the neck) and settings of a registered backbone.
        classes: K of them, without the background.
        allow_download: whether `weights: imagenet` may fetch a file.
    Raises:
        DetkitError: an unknown name, setting or level, or weights that do not load.
    """
    name = model["name"]
    models.check(name, model)
    _, fpn = backbones.split(backbone["name"])
    wants = models.part(name).wants(fpn, models.complete(name, model))
    settings = {key: value for key, value in backbone.items() if key not in ("name", "levels")}
    if "classes" in backbones.settings(backbone["name"]) and settings.get("classes") is None:
        settings["classes"] = len(classes)  # of the network's own outputs
    body, tail = backbones.build(
        backbone["name"],
        levels=backbone.get("levels") or wants.levels,
        tail=wants.tail,
        strict=backbone.get("levels") is not None,
        allow_download=allow_download,
        logits=len(classes) if wants.logits else None,
        padded=wants.padded,
        **settings,
    )
    return models.build(name, model, body, classes, **({"tail": tail} if wants.tail else {}))
