"""The verbs from Python: `detkit.train(dataset="photos", epochs=20)` is `detkit train …`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from detkit.config.arguments import quote
from detkit.config.compose import compose, use_threads
from detkit.config.groups import GROUPS
from detkit.config.settings import TrainingSettings
from detkit.data import open as opening
from detkit.data.formats import BOXES, Needs
from detkit.data.records import Records
from detkit.errors import DetkitError


def train(**settings: Any) -> dict[str, Any]:
    """Trains a model, as `detkit train` does.

    Args:
        settings: those of the command line. What belongs together comes as a dict
            (`optimizer={"lr": 0.01}`), or with its whole name (`**{"optimizer.lr": 0.01}`); those
            of `training.` without it (`epochs=20`); `dataset` may be a folder.
    Returns:
        What `results.json` holds, and `run_dir`.
    Raises:
        DetkitError: a mistake in settings or data.
    """
    from detkit.commands.train import train as verb

    own = compose("train", arguments("train", settings))
    use_threads(own.threads)
    return verb(own)


def evaluate(**settings: Any) -> dict[str, Any]:
    """Measures a checkpoint, or anyone's predictions, as `detkit evaluate` does.

    Args:
        settings: as for `train`: `checkpoint="runs/…"`, `dataset="photos"`, `split="test"` ….
    Returns:
        The figures, as in `results.json`.
    Raises:
        DetkitError: a mistake in settings or data.
    """
    from detkit.commands.evaluate import evaluate as verb

    own = compose("evaluate", arguments("evaluate", settings))
    use_threads(own.threads)
    return verb(own)


def open_dataset(
    root: str | Path | Mapping[str, Any], split: str = "train", *, needs: Needs = BOXES
) -> Records:
    """The pictures of a split, and what is known of them.

    Args:
        root: the folder, or settings such as `{"name": "coco", "root": "photos"}`.
        split: a list of the data set.
        needs: what is read of it: `boxes`, `masks`, `pixels`, `image_labels`.
    Raises:
        DetkitError: no such folder or split, or a fault in the data.
    """
    given = {"root": str(root)} if isinstance(root, (str, Path)) else dict(root)
    return opening.open_dataset({"name": "auto", **given}, split, needs=needs)


def arguments(verb: str, settings: Mapping[str, Any]) -> list[str]:
    """`key=value`, as on the command line."""
    loop = {field.name for field in fields(TrainingSettings)} if verb == "train" else set()
    given: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if (
            key == "dataset"
            and isinstance(value, (str, Path))
            and Path(value).expanduser().exists()
        ):
            given.append(("dataset.root", value))
        elif isinstance(value, Mapping) and key in (*GROUPS, "training"):
            own = dict(value)
            if "name" in own:
                given.append((key, own.pop("name")))
            given += [(f"{key}.{part}", of_part) for part, of_part in own.items()]
        else:
            given.append((f"training.{key}" if key in loop else key, value))
    return [f"{key}={_text(key, value)}" for key, value in given]


def _item(key: str, value: Any) -> str:
    """Of a list: a text arrives whole, commas and all."""
    return quote(value) if isinstance(value, str) else _text(key, value)


def _text(key: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_text(key, v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(_item(key, item) for item in value) + "]"
    if isinstance(value, (str, Path, int, float)):
        return str(value)
    raise DetkitError(
        f"{key} is a {type(value).__name__}.",
        remedy="pass a number, a text, a list or a dict of these, or None.",
    )
