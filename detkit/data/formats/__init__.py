"""One file per way to store a data set.

A format is a function `read(root, split, *, task, images, …settings) -> Records`, registered by its
name, and beside it in the same module `recognises(root) -> reason | None` and
`splits(root, task) -> list[str]`. Its keyword settings are the keys of `conf/dataset/NAME.yaml`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from detkit.data.records import Records
from detkit.registry import Registry

formats: Registry[Records] = Registry("dataset format", "detkit.data.formats")


def beside(name: str, function: str) -> Callable[..., Any] | None:
    """`recognises` or `splits` of the module that registered the format, if it has one."""
    builder = formats[name]
    module = inspect.getmodule(getattr(builder, "func", builder))
    return getattr(module, function, None)
