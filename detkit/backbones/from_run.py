"""A trained model's checkpoint as the weights file of its backbone: a classifier's for a detector.

`backbone.weights=RUN` takes them; what is a model's own (heads, a pyramid) stays behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from detkit import checkpoint
from detkit.backbones.backbone import Normalization, Trunk
from detkit.backbones.report import WeightsReport
from detkit.errors import DetkitError

MEAN_STD = "mean_std"  # every model of ours has it
BACKBONE, BODY, TAIL = "backbone.", "backbone.body.", "tail."
OTHER = "model."  # in front of the tensors that no backbone has


def is_run(tensors: Mapping[str, Tensor]) -> bool:
    """Whether they are a whole model's of ours."""
    mean_std = tensors.get(MEAN_STD)
    shaped = mean_std is not None and mean_std.ndim == 4 and len(mean_std) == 2
    return shaped and any(key.startswith(BACKBONE) for key in tensors)


def of_run(tensors: Mapping[str, Tensor], logits: str) -> dict[str, Tensor]:
    """The tensors of a whole model under the names that its network's own file would give them.

    Args:
        tensors: of any model here: `backbone.…`, with a pyramid `backbone.body.…`, and what stands
            behind the last level as `tail.…`, in whatever part that is (`head.extractor.tail.…`).
        logits: what such a file calls the last layer (`Trunk.logits`).
    Returns:
        The others, too, with `OTHER` in front.
    """
    pyramid = any(key.startswith(BODY) for key in tensors)
    named = {}
    for key, value in tensors.items():
        name = place(key, pyramid)
        if name is None:
            name = OTHER + key
        elif name.startswith(f"{TAIL}logits."):
            name = f"{logits}.{name.removeprefix(f'{TAIL}logits.')}"
        named[name.removeprefix(TAIL)] = value
    return named


def filled(names: Sequence[str], report: WeightsReport | None) -> set[str]:
    """Of the names of a model's parameters those that its backbone's weights file filled."""
    if report is None:
        return set()
    pyramid = any(name.startswith(BODY) for name in names)
    places = {name: place(name, pyramid) for name in names}
    return {n for n, where in places.items() if where is not None and where not in report.missing}


def place(key: str, pyramid: bool) -> str | None:
    """Where a model's tensor is in its backbone: its name there, with `tail.` in front behind the
    last level; None for one of another part.

    Args:
        key: in the model's state dict.
        pyramid: whether the backbone has an FPN; then a tail is no network's own.
    """
    trunk = BODY if pyramid else BACKBONE
    front, tail, behind = key.rpartition(TAIL)
    if key.startswith(trunk):
        return key.removeprefix(trunk)
    if tail and not pyramid and (not front or front.endswith(".")):
        return TAIL + behind
    return None


def normalization_of(tensors: Mapping[str, Tensor]) -> Normalization:
    """What the model expects of its images."""
    mean, std = tensors[MEAN_STD].flatten(1).tolist()
    return Normalization(tuple(mean), tuple(std))


def check_settings(trunk: Trunk, file: Path) -> None:
    """
    Raises:
        DetkitError: the run's backbone was built with another value of a setting that no tensor's
            shape shows (where a stride is, how a border is padded).
    """
    if not file.with_name("meta.json").exists():
        return
    settings = checkpoint.read_meta(file)["config"].get("backbone", {})
    for key, value in settings.items():
        if isinstance(value, bool) and getattr(trunk, key, value) != value:
            right = str(value).lower()
            raise DetkitError(
                f"That run's backbone was built with {key}={right}.",
                file=file,
                remedy=f"set backbone.{key}={right}.",
            )
