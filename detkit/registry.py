"""Named parts: one decorator adds one; the folder they live in is scanned, so no list is kept."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from detkit.errors import DetkitError, unknown

T = TypeVar("T")
Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One name.

    Attributes:
        part: the class or function that was decorated.
        fixed: arguments that belong to the name and are no settings.
        defaults: settings whose default differs from the signature's.
    """

    part: Callable[..., T]
    fixed: Mapping[str, Any]
    defaults: Mapping[str, Any]


class Registry(Generic[T]):
    """Builders by name.

    Args:
        kind: what the parts are, for messages ("backbone").
        package: the package whose modules register them; imported at the first question.
        context: keyword arguments that the program gives, which are no settings.
    """

    def __init__(self, kind: str, package: str, context: Collection[str] = ()) -> None:
        self.kind = kind
        self.package = package
        self.context = frozenset(context)
        self._entries: dict[str, Entry[T]] = {}
        self._scanned = False

    def register(
        self, name: str, defaults: Mapping[str, Any] | None = None, **fixed: Any
    ) -> Callable[[Builder], Builder]:
        """Decorator: `name` builds what is decorated.

        Args:
            defaults: settings that begin at another value under this name.
            fixed: arguments that make this name what it is; nobody can set them.
        """

        def add(part: Builder) -> Builder:
            if name in self._entries:
                raise DetkitError(
                    f"Two {self.kind}s are called {name!r}.",
                    record=f"{part.__module__}.{part.__qualname__}",
                    remedy="register the second one under another name.",
                )
            known = parameters_of(part)
            for key in (*fixed, *(defaults or {})):
                if key not in known:
                    raise unknown(f"argument of the {self.kind} {name}:", key, known)
            self._entries[name] = Entry(part, fixed, defaults or {})
            return part

        return add

    def names(self) -> list[str]:
        self._scan()
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        self._scan()
        return name in self._entries

    def entry(self, name: str) -> Entry[T]:
        """
        Raises:
            DetkitError: there is no such name.
        """
        self._scan()
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def part(self, name: str) -> Any:
        """The class or function of that name, to ask what stands on it."""
        return self.entry(name).part

    def __getitem__(self, name: str) -> Callable[..., T]:
        """The builder of that name, its own arguments bound."""
        entry = self.entry(name)
        return functools.partial(entry.part, **entry.fixed, **entry.defaults)

    def settings(self, name: str) -> dict[str, inspect.Parameter]:
        """The keyword arguments of that name which a user can set, with their defaults."""
        entry = self.entry(name)
        return {
            key: parameter.replace(default=entry.defaults.get(key, parameter.default))
            for key, parameter in parameters_of(entry.part).items()
            if key not in entry.fixed
            and key not in self.context
            and parameter.default is not inspect.Parameter.empty
        }

    def complete(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of a name: what is fixed, the defaults, and over them the settings."""
        known = self.settings(name)
        defaults = {key: parameter.default for key, parameter in known.items()}
        return defaults | _named(settings) | dict(self.entry(name).fixed)

    def build(self, name: str, settings: Mapping[str, Any], *arguments: Any, **given: Any) -> T:
        """The part of that name.

        Args:
            settings: a user's; a `name` among them is passed over.
            arguments, given: the program's own.
        Raises:
            DetkitError: no such name or setting.
        """
        self.check(name, settings)
        return self[name](*arguments, **{**_named(settings), **given})

    def check(self, name: str, settings: Mapping[str, Any]) -> None:
        """Raise the error of the first setting that the name does not have."""
        known = self.settings(name)
        for key in _named(settings):
            if key not in known:
                raise unknown(f"setting of the {self.kind} {name}:", key, known)

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True  # before the imports, which may ask
        try:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__, f"{self.package}."):
                importlib.import_module(module.name)
        except BaseException:
            self._scanned = False
            raise


def parameters_of(part: Any) -> dict[str, inspect.Parameter]:
    """The arguments of a builder; a class that takes `**settings` has those of the one it extends.

    So a model that adds a little to another names only what it adds.
    """
    own = dict(inspect.signature(part, eval_str=True).parameters)
    others = [key for key, p in own.items() if p.kind is inspect.Parameter.VAR_KEYWORD]
    if not others or not isinstance(part, type):
        return own
    return {**parameters_of(part.__mro__[1]), **{k: p for k, p in own.items() if k not in others}}


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "name"}
