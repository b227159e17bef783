"""One file per way to store a data set.

A format is a function `read(root, split, *, needs, images, …settings) -> Records`, registered by
its name. Beside it in the same module stand `recognises(root, needs) -> reason | None`,
`existing_splits(root, needs) -> list[str]` and `LOOKS_FOR`, the layout in a few words. Its keyword
settings are the keys of `conf/dataset/NAME.yaml`.
"""

from __future__ import annotations

import inspect
from typing import Any

from detkit.data.records import Records
from detkit.registry import Registry

formats: Registry[Records] = Registry(
    "dataset format", "detkit.data.formats", context=["needs", "images"]
)

Needs = frozenset[str]  # what a model learns from, see `Model.needs`
BOXES, PIXELS = frozenset({"boxes"}), frozenset({"pixels"})
LABELS = frozenset({"image_labels"})


def beside(name: str, what: str) -> Any:
    """What stands in the module that registered the format (`recognises` …), or None."""
    return getattr(inspect.getmodule(formats.part(name)), what, None)
