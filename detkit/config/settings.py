"""The settings of each verb as plain dataclasses, checked against their types.

The defaults stand in `conf/*.yaml`, with a line about each; here are the types alone. The config
groups are plain dicts `{"name": …, **keywords}`, checked against the signature of the registered
builder that they go to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Interval, Len

from detkit.config.groups import parameters
from detkit.config.mistakes import unknown_setting
from detkit.errors import DetkitError
from detkit.ranges import Count, Natural, Positive, Share
from detkit.values import absent, checked

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Seed = Annotated[int, Interval(ge=0, lt=2**32)]  # what NumPy takes
Group = dict[str, Any]
ScoreThresh = Share | Literal["per_class"] | dict[str, Share] | None


@dataclass(frozen=True)
class TrainingSettings:
    """The loop's own: see `conf/train.yaml`."""

    epochs: Count
    max_steps: Count | None
    batch_size: Count
    accumulate: Count
    precision: Precision
    clip_norm: Positive | None
    ema: float | None
    workers: Natural
    checkpoint_every: Count | None
    evaluate_every: Count
    keep_last: bool
    patience: Count | None
    log_every: Count
    best_by: str | None
    val_losses: bool
    repeat_thresh: float | None
    class_weights: Literal["auto"] | list[Positive] | None
    head_first: Share | None = None  # which older runs do not say


@dataclass(frozen=True)
class TrainSettings:
    """Of `detkit train`: see `conf/train.yaml`."""

    model: Group
    backbone: Group
    dataset: Group
    transforms: Group
    optimizer: Group
    schedule: Group
    training: TrainingSettings
    seed: Seed
    device: str
    run_dir: str | None
    resume: str | None
    weights: str | None
    allow_download: bool
    threads: Count | None
    plugins: list[str]
    row: str | None


@dataclass(frozen=True)
class EvaluateSettings:
    """Of `detkit evaluate`: see `conf/evaluate.yaml`."""

    checkpoint: str | None
    predictions: str | None
    cfg: str | None
    names: str | None
    letterbox: bool | None
    dataset: Group | None
    split: str | None
    score_thresh: ScoreThresh
    membrane: str | None
    membrane_thresh: Share
    output: str | None
    truncated_svd: list[Count] | None
    device: str
    precision: Precision
    batch_size: Count
    workers: Natural
    agnostic_nms: bool
    topmost: bool
    threads: Count | None
    plugins: list[str]
    row: str | None


@dataclass(frozen=True)
class CompareSettings:
    """Of `detkit compare`: see `conf/compare.yaml`."""

    checkpoints: list[str]
    dataset: Group | None
    split: str | None
    output: str | None
    device: str
    precision: Precision
    batch_size: Count
    workers: Natural
    threads: Count | None
    plugins: list[str]


@dataclass(frozen=True)
class PredictSettings:
    """Of `detkit predict`: see `conf/predict.yaml`."""

    checkpoint: str | None
    model: Group | None
    backbone: Group | None
    transforms: Group | None
    source: str
    cfg: str | None
    names: str | None
    letterbox: bool | None
    output: str | None
    truncated_svd: list[Count] | None
    device: str
    precision: Precision
    score_thresh: ScoreThresh
    classes: list[str] | None
    nms_iou: Share | None
    agnostic_nms: bool
    detections: Count | None
    short_side: Count | None
    tiles: Count | None
    probabilities: bool
    polygons: bool
    batch_size: Count
    video: bool
    yolo_text: bool
    allow_download: bool
    threads: Count | None
    plugins: list[str]


@dataclass(frozen=True)
class ExplainSettings:
    """Of `detkit explain`: see `conf/explain.yaml`."""

    checkpoint: str | None
    model: Group | None
    backbone: Group | None
    transforms: Group | None
    source: str | None
    output: str | None
    layers: list[str] | str
    answer: Count | None
    boxes: list[Annotated[list[float], Len(4, 4)]] | None
    score_thresh: Share | None
    regions: Count
    filter: list[list[float]] | None
    numbers: list[list[float]] | None
    allow_download: bool
    threads: Count | None
    plugins: list[str]


@dataclass(frozen=True)
class ExportSettings:
    """Of `detkit export`: see `conf/export.yaml`."""

    checkpoint: str
    format: Literal["darknet"]
    output: str | None
    threads: Count | None
    plugins: list[str]


@dataclass(frozen=True)
class ProposeSettings:
    """Of `detkit propose`: see `conf/propose.yaml`."""

    dataset: Group | None
    split: str | None
    proposer: str
    mode: Literal["single", "fast", "quality"]
    seed: Seed
    folder: str | None
    path: str | None
    at_most: Count | None
    format: Literal["npz", "json"]
    output: str | None
    workers: Natural
    threads: Count | None
    plugins: list[str]


@dataclass(frozen=True)
class AnchorsSettings:
    """Of `detkit anchors`: see `conf/anchors.yaml`."""

    dataset: Group | None
    split: str | None
    numbers: list[Count]
    short_side: Count | None
    long_side: Count | None
    letterbox: bool
    seed: Seed
    threads: Count | None
    plugins: list[str]


@dataclass(frozen=True)
class BenchmarkSettings:
    """Of `detkit benchmark`: see `conf/benchmark/benchmark.yaml`."""

    model: str
    rows: list[str]
    precisions: list[Precision]
    batch_size: Count
    height: Count
    width: Count
    repeats: Count
    threads: Count | None
    root: str | None
    boxes: Count
    pictures: Count
    proposals: Count
    warp: Count
    backbone: str
    workers: Count
    checkpoint: str | None
    opencv: str | None
    device: str
    output: str | None
    row: str | None


Settings = (
    TrainSettings
    | EvaluateSettings
    | CompareSettings
    | PredictSettings
    | ExplainSettings
    | ExportSettings
    | ProposeSettings
    | AnchorsSettings
    | BenchmarkSettings
)
VERBS: dict[str, type[Settings]] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "compare": CompareSettings,
    "predict": PredictSettings,
    "explain": ExplainSettings,
    "export": ExportSettings,
    "propose": ProposeSettings,
    "anchors": AnchorsSettings,
    "benchmark": BenchmarkSettings,
}


def typed(verb: str, values: Mapping[str, Any]) -> Any:
    """The verb's settings from plain values.

    Raises:
        DetkitError: a setting that does not exist, is missing or of another type.
    """
    return VERBS[verb](**_values(VERBS[verb], values, "", verb))


def check_stored(values: Mapping[str, Any]) -> None:
    """Checks settings of `train` from a checkpoint, of which an older one may lack some.

    Raises:
        DetkitError: a setting that does not exist, or is of another type.
    """
    _values(TrainSettings, values, "", "train", whole=False)


def _values(
    cls: type, values: Mapping[str, Any], prefix: str, verb: str, whole: bool = True
) -> dict[str, Any]:
    """The checked arguments of a dataclass; of those alone that there are, unless it is `whole`."""
    hints = get_type_hints(cls, include_extras=True)
    if not isinstance(values, Mapping):
        key = prefix.rstrip(".")
        raise DetkitError(f"{key} is a group of settings.", remedy=f"set one: {key}.KEY=….")
    known(values, hints, prefix, verb)
    found: dict[str, Any] = {}
    for field in fields(cls):
        key, hint = prefix + field.name, hints[field.name]
        if field.name not in values and (not whole or field.default is not MISSING):
            continue
        if field.name not in values:
            raise absent(key)
        value = values[field.name]
        if is_dataclass(hint):
            inner = _values(hint, value, f"{key}.", verb, whole)  # type: ignore[arg-type]
            found[field.name] = hint(**inner) if whole else inner  # type: ignore[operator]
        elif hint in (Group, Group | None) and value is not None:
            found[field.name] = _group(key, value, verb)
        else:
            found[field.name] = checked(key, value, hint)
    return found


def _group(group: str, values: Any, verb: str) -> Group:
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise DetkitError(f"{group} has no name.", remedy=f"choose one with {group}=NAME.")
    own = parameters(group, values["name"])
    hints = {"name": str, **{key: hint for key, (hint, _) in own.items()}}
    known(values, hints, f"{group}.", verb)
    return {key: checked(f"{group}.{key}", value, hints[key]) for key, value in values.items()}


def known(keys: Iterable[str], names: Iterable[str], prefix: str, verb: str) -> None:
    """Raises the error of the first key that is none of the names, with the nearest one."""
    full = [prefix + name for name in names]
    for key in keys:
        if prefix + key not in full:
            raise unknown_setting(verb, prefix + key, full)
