"""Named parts: one decorator adds one; the folder they live in is scanned, so no list is kept."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from detkit.errors import DetkitError, unknown

T = TypeVar("T")
Builder = TypeVar("Builder", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Builders by name.

    Args:
        kind: what the parts are, for messages ("backbone").
        package: the package whose modules register them; imported at the first question.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._builders: dict[str, Callable[..., T]] = {}
        self._scanned = False

    def register(self, name: str, **preset: Any) -> Callable[[Builder], Builder]:
        """Decorator: `name` builds what is decorated, with the `preset` arguments fixed."""

        def add(builder: Builder) -> Builder:
            if name in self._builders:
                raise DetkitError(
                    f"Two {self.kind}s are called {name!r}.",
                    record=f"{builder.__module__}.{builder.__qualname__}",
                    remedy="register the second one under another name.",
                )
            self._builders[name] = functools.partial(builder, **preset) if preset else builder
            return builder

        return add

    def names(self) -> list[str]:
        self._scan()
        return sorted(self._builders)

    def __contains__(self, name: str) -> bool:
        self._scan()
        return name in self._builders

    def __getitem__(self, name: str) -> Callable[..., T]:
        """The builder of that name, its preset arguments bound."""
        self._scan()
        if name not in self._builders:
            raise unknown(self.kind, name, self._builders)
        return self._builders[name]

    def settings(self, name: str) -> dict[str, inspect.Parameter]:
        """The keyword arguments of that name which still have a default to change."""
        builder = self[name]
        preset = builder.keywords if isinstance(builder, functools.partial) else {}
        parameters = inspect.signature(
            builder.func if isinstance(builder, functools.partial) else builder, eval_str=True
        ).parameters
        return {
            key: parameter
            for key, parameter in parameters.items()
            if key not in preset and parameter.default is not inspect.Parameter.empty
        }

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__, f"{self.package}."):
            importlib.import_module(module.name)
