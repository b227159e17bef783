"""The config groups: which choices there are, and which settings each of them takes."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path
from typing import Any, Protocol

from detkit import errors
from detkit.errors import DetkitError

_REGISTRIES = {
    "model": ("detkit.models.model", "models"),
    "backbone": ("detkit.backbones.build", None),
    "dataset": ("detkit.data.formats", "formats"),
    "transforms": ("detkit.data.transforms", "transforms"),
    "optimizer": ("detkit.training.optimization", "optimizers"),
    "schedule": ("detkit.training.optimization", "schedules"),
}
GROUPS = _REGISTRIES.keys()
FITTED = ("optimizer", "schedule")  # auto is what fits a run's length, see training.fitted

# What the commands ask of a data set that lies in a folder, and what they say to its reader.
_DATASET = {
    "root": str | None,
    "train_split": str | None,
    "val_split": str | None,
}
_BOXED = {  # and where there are boxes
    "crop_context": float | None,
    "least_side": int | None,
    "labels_root": str | None,
    "more_objects": str | None,
}
DRAWN = "shapes"  # the data set that needs no folder


class Parts(Protocol):
    """A registry, or a module that answers like one."""

    def names(self) -> list[str]: ...
    def settings(self, name: str) -> dict[str, inspect.Parameter]: ...
    def part(self, name: str) -> Any: ...


def registry(group: str) -> Parts:
    """The registry that a group's names come from."""
    module, attribute = _REGISTRIES[group]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def parameters(group: str, name: str) -> dict[str, tuple[Any, Any]]:
    """Type and default of each setting that a choice takes, from its builder's signature.

    `dataset=auto` is whichever format the folder turns out to be, so it takes what any of them
    takes, and hands on what is not null.
    """
    if name not in (known := choices(group)):
        raise errors.unknown(group, name, known)
    if name == "auto" and group in FITTED:
        return {}
    in_a_folder = group == "dataset" and name != DRAWN
    parts = registry(group)
    if in_a_folder and name == "auto":
        formats = [parts.settings(one) for one in parts.names() if one != DRAWN]
        own = {key: (p.annotation | None, None) for one in formats for key, p in one.items()}
    else:
        own = {key: (p.annotation, p.default) for key, p in parts.settings(name).items()}
    common = (_DATASET | (_BOXED if "bad_boxes" in own else {})) if in_a_folder else {}
    return {key: (hint, None) for key, hint in common.items()} | own


def choices(group: str) -> list[str]:
    """The names that a group's `name` may have."""
    automatic = group == "dataset" or group in FITTED
    return sorted(registry(group).names() + (["auto"] if automatic else []))


def descriptions(builder: Any) -> dict[str, str]:
    """What a builder's docstring says under `Args:` of each setting, on one line.

    A class also has what the classes say that it extends.
    """
    text = inspect.getdoc(builder) or ""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    bases = builder.__bases__ if isinstance(builder, type) else ()
    found = {key: said for base in bases for key, said in descriptions(base).items()}
    for keys, said in re.findall(
        r"^ {4}(\w[\w, ]*): (.*?)(?=^ {4}\w|\Z)",
        section[1] if section else "",
        re.DOTALL | re.MULTILINE,
    ):
        for key in keys.split(","):
            found[key.strip()] = " ".join(said.split())
    return found


def import_plugins(names: list[str]) -> None:
    """Imports the user's modules, whose decorators register parts; the current folder counts."""
    if names and "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for name in names:
        if not name or name.startswith(".") or "/" in name:
            raise DetkitError(
                f"plugins: {name!r} is no module's name.",
                remedy="name modules as an import would: plugins=[my_parts].",
            )
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):  # something that it imports
                raise _faulty(name, error) from error
            stem = name.removesuffix(".py")
            remedy = f"start in the folder that holds {name}.py, or install it."
            if stem != name:
                remedy = f"name the module, not its file: plugins=[{stem}]."
            raise DetkitError(f"plugins: no module {name!r}.", remedy=remedy) from None
        except DetkitError:
            raise
        except (Exception, SystemExit) as error:  # one that ends the program is no part
            raise _faulty(name, error) from error


def _faulty(name: str, error: BaseException) -> DetkitError:
    """The error of a plugin that cannot be imported, with the line of its own that is at fault."""
    spec = importlib.util.find_spec(name.split(".")[0])
    origin = Path((spec and spec.origin) or name)
    theirs = origin.parent if origin.name == "__init__.py" else origin
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if Path(call.filename).is_relative_to(theirs)] or calls
    file, line = own[-1].filename, own[-1].lineno
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno
    said = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
    return DetkitError(
        f"The plugin {name} cannot be imported: {said}",
        file=file,
        record=f"line {line}",
        remedy="correct it; CONTRIBUTING.md shows what a part of one's own imports.",
    )
