"""Trees of classes from files: Darknet's .tree with its .names and .map, or YAML of one's own.

animal: [cat, dog]          a class that holds others, a list of those or again a mapping;
vehicle: {car: [taxi]}      null, or nothing, holds none
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detkit import foreign
from detkit.errors import DetkitError, unknown
from detkit.folders import in_home
from detkit.interop.darknet import ROOT, read_map, read_names, read_tree
from detkit.structures import Classes

FORMS = (".yaml", ".yml")


def read_classes(tree: str | Path | Mapping[str, Any]) -> Classes:
    """The classes of a tree, inner ones included.

    Names that a .names file has twice get the WordNet number behind them.

    Args:
        tree: a file, or what such a YAML file would hold.
    Raises:
        DetkitError: a file of another form, a class twice, a parent that is not there, a cycle, or
            names of another number.
    """
    if isinstance(tree, Mapping):
        return _nested(tree, None)
    path = in_home(tree)
    if path.suffix.lower() in FORMS:
        try:
            return _nested(foreign.read_yaml(path), path)
        except OSError as error:
            raise DetkitError(
                f"It cannot be read ({error.strerror or error}).",
                file=path,
                remedy="name a YAML file or Darknet's .tree with model.tree.",
            ) from error
    numbered = read_tree(path)
    names, beside = list(numbered.names), path.with_suffix(".names")
    if beside.is_file():
        told = read_names(beside)
        if len(told) != len(names):
            raise DetkitError(
                f"{len(told):,} names for a tree of {len(names):,} classes.",
                file=beside,
                remedy=f"put the names of {path.name} there, a line a class, or none.",
            )
        often, both = Counter(told), zip(told, numbered.names, strict=True)
        names = [name if often[name] == 1 else f"{name} ({number})" for name, number in both]
    return _classes(names, numbered.parents.tolist(), path)


def places_in(
    classes: Classes, names: Sequence[str], mapped: str | Path | None = None
) -> np.ndarray:
    """(M,) int64, the place in the tree of each class of some data.

    Args:
        names: M, of the data.
        mapped: Darknet's .map: the places, a line a class.
    Raises:
        DetkitError: a class that is not in the tree, or a map of another number of classes.
    """
    if mapped is not None:
        mapped = in_home(mapped)
        places = read_map(mapped, len(classes))
        if len(places) != len(names):
            raise DetkitError(
                f"{len(places):,} places for the data's {len(names):,} classes.",
                file=mapped,
                remedy="give a line a class, in the data's order, or model.tree_map=null.",
            )
        if twice := [place for place, times in Counter(places.tolist()).items() if times > 1]:
            raise DetkitError(
                f"Two classes lead to the place {twice[0]} ({classes.names[twice[0]]}).",
                file=mapped,
                remedy="give each class a place of its own.",
            )
        return places
    place = {name: i for i, name in enumerate(classes.names)}
    for name in names:
        if name not in place:
            error = unknown("class", name, place)
            raise DetkitError(
                f"The data's class {name} is not in the tree." + error.problem.partition(".")[2],
                record="model.tree",
                remedy="name it there, rename it in the data, or give places with model.tree_map.",
            )
    return np.array([place[name] for name in names], np.int64)


def named_as(classes: Classes, names: Sequence[str], places: np.ndarray) -> Classes:
    """The tree with some data's own names in their places, so that those are found by name.

    Another class of such a name gets its place behind it.
    """
    own = dict(zip(places.tolist(), names, strict=True))
    taken = set(names)
    others = [f"{n} ({i})" if n in taken else n for i, n in enumerate(classes.names)]
    return replace(classes, names=tuple(own.get(i, other) for i, other in enumerate(others)))


def _nested(tree: Any, path: Path | None) -> Classes:
    """Of nested mappings and lists, each class behind its parent in their order."""
    pairs = list(_below(tree, None, path))
    place = {name: i for i, (name, _) in enumerate(pairs)}
    parents = [ROOT if parent is None else place[parent] for _, parent in pairs]
    return _classes([name for name, _ in pairs], parents, path)


def _below(node: Any, parent: str | None, path: Path | None) -> Iterator[tuple[str, str | None]]:
    """(class, parent) of all below one."""
    if node is None:
        return
    if not isinstance(node, (Mapping, list)):
        raise _odd(path, repr(node))
    for name in node:
        if not isinstance(name, str) or not name:
            raise _odd(path, repr(name))
        yield name, parent
        if isinstance(node, Mapping):
            yield from _below(node[name], name, path)


def _classes(names: Sequence[str], parents: Sequence[int], path: Path | None) -> Classes:
    if not names:
        raise _odd(path, "nothing")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DetkitError(
            f"The class {twice[0]} is in the tree twice.",
            file=path,
            record=None if path else "model.tree",
            remedy="leave one of them out, or name it otherwise.",
        )
    return Classes(tuple(names), tuple(range(1, len(names) + 1)), tuple(parents))


def _odd(path: Path | None, found: str) -> DetkitError:
    return DetkitError(
        f"{found} stands where a class is expected.",
        file=path,
        record=None if path else "model.tree",
        remedy="write a class and those below it: animal: [cat, dog]; numbers as names in quotes.",
    )
