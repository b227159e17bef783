"""What a format's reader found, before anybody checked it: it still has the names for messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.data.records import Masks
from detkit.errors import DetkitError, unknown


@dataclass
class Draft:
    """I images and N objects as read, unchecked.

    Attributes:
        files, image_ids: of each image.
        annotation_files: what to name in messages, one per image.
        counts: objects of each image.
        boxes: (N, 4) float64 xyxy, continuous pixels.
        labels: (N,) 0 … K−1.
        numbers: (N,) what the file calls each object; `unit` is the word for it.
        sizes: (I, 2) height and width as the annotation states them, 0 where it does not.
        relative: boxes and polygons are fractions of the image's sides (YOLO).
        inclusive: the file's own coordinates are 1-based and inclusive (VOC), for messages.
        image_labels: (I,) the class of each whole image.
    """

    root: Path
    source: str
    names: Sequence[str]
    files: Sequence[str]
    image_ids: Sequence[str]
    annotation_files: Sequence[str]
    counts: Sequence[int] | NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    numbers: NDArray[np.int64]
    unit: str = "object"
    relative: bool = False
    inclusive: bool = False
    sizes: NDArray[np.int32] | None = None
    category_ids: Sequence[int] | None = None
    integer_ids: bool = False
    crowd: NDArray[np.bool_] | None = None
    difficult: NDArray[np.bool_] | None = None
    areas: NDArray[np.float64] | None = None
    instances: Masks | None = None
    pixel_files: Sequence[str] | None = None
    pixel_labels: NDArray[np.int16] | None = None
    pixel_colours: NDArray[np.uint8] | None = None
    image_labels: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    @property
    def owner(self) -> NDArray[np.int64]:
        """(N,) the image of each object."""
        return np.repeat(np.arange(len(self.files)), self.counts)

    def keep(self, chosen: NDArray[np.bool_], note: str) -> Draft:
        """All images with only the objects of a (N,) mask, and a note about the others."""
        flat = ("boxes", "labels", "numbers", "crowd", "difficult", "areas")
        masks = self.instances
        return replace(
            self,
            counts=np.bincount(self.owner[chosen], minlength=len(self.files)),
            instances=None if masks is None else masks.take(np.flatnonzero(chosen)),
            notes=(*self.notes, note),
            **{k: v[chosen] for k in flat if (v := getattr(self, k)) is not None},
        )

    def where(self, n: int) -> tuple[str, str]:
        """File and record of the nth object, in the file's own words."""
        record = f"{self.unit} {self.numbers[n]} ({self.names[self.labels[n]]})"
        return str(self.annotation_files[self.owner[n]]), record


def class_list(names: Sequence[str], classes: Sequence[str] | None) -> tuple[list[str], list[int]]:
    """The class list to use, and the label of each name found (−1: not wanted)."""
    chosen = list(names if classes is None else map(str, classes))
    twice = [name for name, n in Counter(chosen).items() if n > 1]
    if twice:
        raise DetkitError(
            f"The class {twice[0]!r} occurs twice.",
            remedy="name each class once (dataset.classes).",
        )
    place = {name: label for label, name in enumerate(chosen)}
    return chosen, [place.get(name, -1) for name in names]


def known_only(draft: Draft, unlisted: Sequence[str], unknown_classes: str) -> Draft:
    """The draft without its objects of label −1, or the error that names the first of them.

    Args:
        unlisted: the class name of each object of label −1.
        unknown_classes: `error` or `drop`.
    """
    if unknown_classes not in ("error", "drop"):
        choices = ("error", "drop")
        raise unknown("choice for dataset.unknown_classes", unknown_classes, choices)
    keep = draft.labels >= 0
    if keep.all():
        return draft
    owner = draft.owner
    if unknown_classes == "error":
        n = int(keep.argmin())
        fault = unknown("class", unlisted[0], draft.names)
        raise DetkitError(
            fault.problem,
            file=draft.annotation_files[owner[n]],
            record=f"{draft.unit} {draft.numbers[n]}",
            remedy="add it to dataset.classes, or leave such objects out with"
            f" dataset.unknown_classes=drop ({(~keep).sum():,} of {len(keep):,}).",
        )
    classes = ", ".join(f"{name} ({n:,})" for name, n in Counter(unlisted).most_common())
    return draft.keep(keep, f"left out objects of other classes: {classes}")


def absent_class(name: str, known: Iterable[str], file: Path) -> DetkitError:
    """The error for a wanted class that the data set's own list does not have."""
    fault = unknown("class", name, known)
    return DetkitError(fault.problem, file=file, remedy="correct dataset.classes.")


def pixel_draft(
    root: Path,
    source: str,
    names: Sequence[str],
    files: Sequence[str],
    masks: Sequence[str],
    labels: NDArray[np.int16],
    notes: tuple[str, ...] = (),
    colours: NDArray[np.uint8] | None = None,
) -> Draft:
    """A draft of index images: no objects, the file's stem as id."""
    return Draft(
        root=root,
        source=source,
        names=names,
        files=files,
        image_ids=[Path(file).stem for file in files],
        annotation_files=masks,
        counts=[0] * len(files),
        boxes=np.zeros((0, 4)),
        labels=np.zeros(0, np.int64),
        numbers=np.zeros(0, np.int64),
        pixel_files=masks,
        pixel_labels=labels,
        pixel_colours=colours,
        notes=notes,
    )
