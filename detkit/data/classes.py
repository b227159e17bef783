"""Records under other class lists: places in a tree, a model's longer one, two data sets' one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detkit.data.records import Records, Strings
from detkit.errors import DetkitError
from detkit.structures import Classes


def placed(records: Records, classes: Classes, places: np.ndarray) -> Records:
    """The same objects and images under a longer list of classes.

    Args:
        places: (M,) int64, the new label of each of the records' classes.
    """
    known = records.image_labels
    if known is not None and len(places):
        known = np.where(known < 0, -1, places[np.maximum(known, 0)])
    return replace(
        records,
        names=classes.names,
        category_ids=np.array(classes.category_ids, np.int64),
        labels=places[records.labels],
        image_labels=known,
    )


def topmost(records: Records, classes: Classes) -> Records:
    """The same objects, each of the class at the top of the tree that its own belongs to.

    Raises:
        DetkitError: there is no tree, or a class is not in it.
    """
    if classes.parents is None:
        raise DetkitError(
            "The model's classes are no tree.", record="topmost", remedy="leave topmost out."
        )
    if lacking := [name for name in records.names if name not in classes.names]:
        raise DetkitError(
            f"The model's tree lacks the class {lacking[0]}.",
            record="topmost",
            remedy="evaluate on data whose classes are in the tree.",
        )
    tops = classes.topmost
    places = [tops[classes.names.index(name)] for name in records.names]
    return placed(records, classes, np.array(places, np.int64))


def widened(records: Records, names: Sequence[str]) -> Records:
    """The same with the classes that a model knows more, which no image has, behind their own."""
    more = [name for name in names if name not in records.names]
    own = placed(records, _longer(records, more), np.arange(len(records.names)))
    note = f"classes of the model that the data lack, where its answer is wrong: {', '.join(more)}"
    return replace(own, notes=(*records.notes, note))


def _longer(records: Records, more: Sequence[str]) -> Classes:
    """Their classes, and others behind them."""
    ids = records.category_ids.tolist()
    first = max(ids, default=0) + 1
    return Classes((*records.names, *more), (*ids, *range(first, first + len(more))))


def joined(boxed: Records, labelled: Records) -> Records:
    """Images with boxes and, behind them, images of which only the class is known.

    The classes of the second that the first lacks come behind its own.

    Raises:
        DetkitError: drawn images, or of other channels.
    """
    if boxed.render is not None:
        raise DetkitError(
            "Drawn images have no folder that others could lie beside.",
            record="dataset.labels_root",
            remedy="leave it out; dataset.unboxed withholds boxes of drawn objects.",
        )
    if boxed.channels != labelled.channels:
        raise DetkitError(
            f"These pictures have {labelled.channels} channels, those with boxes {boxed.channels}.",
            file=labelled.root,
            remedy="convert one of the two.",
        )
    more = [name for name in labelled.names if name not in boxed.names]
    classes = _longer(boxed, more)
    own = placed(boxed, classes, np.arange(len(boxed.names)))
    places = np.array([classes.names.index(name) for name in labelled.names], np.int64)
    other = placed(labelled, classes, places)
    assert other.image_labels is not None
    count, objects = len(labelled), int(own.offsets[-1])
    unknown = own.image_labels if own.image_labels is not None else np.full(len(own), -1, np.int64)
    return replace(
        own,
        source=f"{boxed.source}; beside them {count:,} of a class alone: {labelled.source}",
        files=Strings.of([*boxed.files, *_whole(labelled)]),
        image_ids=Strings.of([*boxed.image_ids, *_whole(labelled)]),
        integer_ids=False,
        sizes=np.concatenate([own.sizes, other.sizes]),
        offsets=np.concatenate([own.offsets, np.full(count, objects, np.int64)]),
        image_labels=np.concatenate([unknown, other.image_labels]),
        notes=(*boxed.notes, *labelled.notes),
    )


def _whole(records: Records) -> Sequence[str]:
    """Paths that another root before them leaves as they are."""
    root = Path(records.root).resolve()
    return [str(root / file) for file in records.files]
