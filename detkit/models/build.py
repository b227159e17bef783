"""A model on its backbone, from two plain dicts: the config groups `model` and `backbone`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detkit.backbones.build import build as build_backbone
from detkit.errors import unknown
from detkit.models.model import Model, models


def build(
    model: Mapping[str, Any],
    backbone: Mapping[str, Any],
    num_classes: int,
    allow_download: bool = False,
) -> Model:
    """
    Args:
        model: `name` and settings of a registered model.
        backbone: `name` (with `_fpn` behind it for the neck) and settings of a registered backbone.
        num_classes: K, without the background.
        allow_download: whether `weights: imagenet` may fetch a file.
    Raises:
        DetkitError: an unknown name, setting or level, or weights that do not load.
    """
    builder = models[model["name"]]
    known = models.settings(model["name"])
    for key in model:
        if key != "name" and key not in known:
            raise unknown(f"setting of the model {model['name']}:", key, known)
    wants = builder.wants(fpn=backbone["name"].endswith("_fpn"))  # type: ignore[attr-defined]
    settings = {key: value for key, value in backbone.items() if key not in ("name", "levels")}
    body = build_backbone(
        backbone["name"],
        levels=backbone.get("levels") or wants.levels,
        tail=wants.tail,
        strict=backbone.get("levels") is not None,
        allow_download=allow_download,
        **settings,
    )
    return builder(body, num_classes, **{k: v for k, v in model.items() if k != "name"})
