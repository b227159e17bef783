"""What of a trained model may be set otherwise at inference: suppression, and size of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from detkit.data.transforms import transforms
from detkit.errors import DetkitError
from detkit.models.heads.selection import Selection
from detkit.models.model import Model


def reselect(model: Model, nms_iou: float | None, detections: int | None) -> None:
    """Gives a model other rules for what it keeps of its boxes; None leaves one as it is.

    Raises:
        DetkitError: it has no such rules, or a value is out of range.
    """
    given = {"nms_iou": nms_iou, "detections": detections}
    changed = {key: value for key, value in given.items() if value is not None}
    if not changed:
        return
    if nms_iou is not None and not 0 <= nms_iou <= 1:
        raise DetkitError(f"nms_iou is {nms_iou}.", remedy="give an overlap of 0 … 1.")
    if detections is not None and (not isinstance(detections, int) or detections < 1):
        raise DetkitError(f"detections is {detections!r}.", remedy="give 1 or more.")
    rules = [m for m in model.modules() if isinstance(getattr(m, "selection", None), Selection)]
    if not rules:
        raise DetkitError(
            f"{type(model).__name__} has no {next(iter(changed))}.",
            remedy=f"leave {' and '.join(changed)} out: it makes no boxes that suppress others.",
        )
    if "detections" in changed:
        changed["at_most"] = changed.pop("detections")
    for module in rules:
        module.selection = replace(module.selection, **changed)  # type: ignore[type-var]


def overlapping(meta: Mapping[str, Any], nms_iou: float | None) -> dict[str, Any]:
    """A checkpoint's meta data with another `nms_iou`, for an NMS over all classes; None: as is."""
    if nms_iou is None:
        return dict(meta)
    config = meta["config"]
    return {**meta, "config": {**config, "model": {**config["model"], "nms_iou": nms_iou}}}


def resized(meta: Mapping[str, Any], short_side: int | None) -> dict[str, Any]:
    """A checkpoint's meta data with another size of its pictures; the longer side goes along.

    Of pictures on a square it is the square's side.

    Raises:
        DetkitError: the size is fixed.
    """
    if short_side is None:
        return dict(meta)
    given = meta["config"]["transforms"]
    known = transforms.settings(given["name"])
    values = {key: given.get(key, p.default) for key, p in known.items()}
    if given["name"] == "square" and values["short_side"] is None and values["long_side"]:
        before, changed = values["long_side"], {}  # the square's side
    elif values.get("short_side"):
        before, changed = values["short_side"], {"short_side": short_side}
    else:
        raise DetkitError(
            f"The pictures of {meta['config']['model']['name']} have a fixed size"
            f" (transforms={given['name']}).",
            remedy="leave short_side out, or train with another size.",
        )
    if short_side < 1:
        raise DetkitError(f"short_side is {short_side}.", remedy="give so many pixels.")
    if (longest := values.get("long_side")) is not None:
        changed["long_side"] = max(1, round(longest * short_side / before))
    config = {**meta["config"], "transforms": {**given, **changed}}
    return {**meta, "config": config}
