"""What a training run learns from and is measured on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from detkit.config.settings import TrainSettings
from detkit.data import contents
from detkit.data.balance import pixel_counts
from detkit.data.classes import joined, placed
from detkit.data.crops import CROWDS
from detkit.data.formats import LABELS, Needs
from detkit.data.loading import PROPOSALS, Dataset, Propose
from detkit.data.open import is_validation, open_dataset, split_name
from detkit.data.records import Records
from detkit.data.transforms import Transform
from detkit.data.transforms import build as build_transform
from detkit.errors import DetkitError, unknown
from detkit.folders import in_home
from detkit.inference.measure import match_classes
from detkit.inference.tasks import tasks
from detkit.interop.hierarchy import named_as, places_in, read_classes
from detkit.models.model import models
from detkit.restore import classes_of
from detkit.structures import Classes
from detkit.training.run_folder import Saved

MASKS_READ = 200  # of each split, before a run begins


@dataclass(frozen=True)
class Data:
    """The data of a run.

    Attributes:
        train_split, val_split: what the two are called in the data set.
        records, val: the pictures to learn from, and those to measure on.
        classes: what the model tells apart: those of `records`, whose labels are places among them.
        dataset: `records`, transformed as in training.
        transform: that of inference.
        chooses: whether `val` is a validation split, by which a score may be chosen.
        fingerprints: of `records` (`data`) and `val` (`val_data`), for the checkpoint.
    """

    train_split: str
    val_split: str
    records: Records
    val: Records
    classes: Classes
    dataset: Dataset
    transform: Transform
    fingerprints: dict[str, str]
    chooses: bool = True

    def proposed_by(self, proposer: Propose | None) -> Data:
        """With where the proposals of `dataset` come from."""
        return replace(self, dataset=replace(self.dataset, proposer=proposer))


def open_data(settings: TrainSettings, saved: Saved | None) -> Data:
    """Opens both splits and checks that they belong to each other and to the run.

    Args:
        saved: the run to go on with, if there is one.
    Raises:
        DetkitError: data that cannot be read, splits of other classes, data other than those that
            the run began with, or a `training.best_by` that they do not give.
    """
    part = models.part(settings.model["name"])
    task, needs = tasks[part.task], part.needs - {PROPOSALS}  # which no data set has
    train, val = (split_name(settings.dataset, which, needs) for which in ("train", "val"))
    records, measured = (open_dataset(settings.dataset, s, needs=needs) for s in (train, val))
    own = len(records.names)
    if (root := settings.dataset.get("labels_root")) is not None:
        records = joined(records, _labelled(root))
    if records.image_labels is not None and "image_labels" not in needs | part.also:
        raise DetkitError(
            f"{settings.model['name']} learns nothing of images of which only the class is known.",
            record=records.source,
            remedy="leave dataset.labels_root and dataset.unboxed out, or choose model=yolo9000.",
        )
    match_classes(
        records.names,
        measured.names,
        task.prediction.every_class,
        sides=(f"{train} has", f"{val} has"),
        remedy="give both splits the same class names, or choose others with dataset.train_split "
        "and dataset.val_split.",
    )
    learnt_from = set(_places(records))
    if twice := sum(place in learnt_from for place in _places(measured)):
        share = f"{twice:,} of the {len(measured):,} images of {val}"
        note = f"{share} are also trained on; name another list with dataset.val_split"
        measured = replace(measured, notes=(*measured.notes, note))
    check_learnable(records, needs)
    notes = _notes(records, measured, needs)
    records = replace(records, notes=(*records.notes, *notes))
    fingerprints = {"data": records.fingerprint(), "val_data": measured.fingerprint()}
    for split, (key, found) in zip((train, val), fingerprints.items(), strict=True):
        if saved and found != saved.meta.get(key, found):  # 0.1.0 kept none of val
            raise DetkitError(
                f"The data of {split} are not those that the run began with.",
                file=records.root,
                remedy="restore them, or start a new run from this one's weights with weights=.",
            )
    if saved:
        contents.check(saved.folder, (records, measured))
    classes, records = _classes_of(settings, records, own, saved)
    best_by = settings.training.best_by
    if best_by is not None:
        figures = [key for key in task.evaluator(measured).result() if "/" in key]
        if best_by not in figures:
            raise unknown("metric", best_by, figures)
    learnt = Dataset(
        records,
        build_transform(settings.transforms, train=True),
        seed=settings.seed,
        needs=needs,
        channels=settings.backbone.get("in_channels"),
    )
    transform = build_transform(settings.transforms, train=False)
    chooses = is_validation(settings.dataset, val) and not twice
    return Data(train, val, records, measured, classes, learnt, transform, fingerprints, chooses)


def _labelled(root: str) -> Records:
    """Folders of classes beside the data with boxes: their images to learn from."""
    if not in_home(root).is_dir():
        raise DetkitError(
            "There is no such folder.", file=root, remedy="correct dataset.labels_root."
        )
    chosen = {"name": "image_folder", "root": root}
    split = split_name(chosen, "train", LABELS, unsplit="all")
    return open_dataset(chosen, split, needs=LABELS)


def _classes_of(
    settings: TrainSettings, records: Records, own: int, saved: Saved | None
) -> tuple[Classes, Records]:
    """The classes of the data, or of the tree that the model has over them; the records' places.

    Args:
        own: how many of the records' classes are those of the data with boxes, which a map is of.
    """
    tree, mapped = (settings.model.get(key) for key in ("tree", "tree_map"))
    if tree is None:
        return Classes.of(records.names, records.category_ids), records
    classes = classes_of(saved.meta) if saved else read_classes(tree)
    if mapped is not None and not saved:  # a saved run has the data's names in it
        boxed = records.names[:own]
        classes = named_as(classes, boxed, places_in(classes, boxed, mapped))
    places = places_in(classes, records.names)
    return classes, placed(records, classes, places)


def check_learnable(records: Records, needs: Needs) -> None:
    """
    Raises:
        DetkitError: no object to learn from, where a model learns from objects alone.
    """
    if "boxes" not in needs or records.image_labels is not None or (~records.crowd).any():
        return
    if count := len(records.crowd):
        raise DetkitError(
            f"There is nothing to learn from: all {count:,} objects are crowds (iscrowd is 1).",
            file=records.root,
            remedy=CROWDS,
        )
    raise DetkitError(
        f"There is nothing to learn from: none of the {len(records):,} images has an object.",
        file=records.root,
        record=records.source,
        remedy="choose another split with dataset.train_split, or add the objects.",
    )


def _notes(records: Records, measured: Records, needs: Needs) -> list[str]:
    """What somebody may not expect of the objects, or the classes of images, to learn from."""
    if "pixels" in needs and records.render_pixels is None:
        return _absent(records, "learn from") + _absent(measured, "be measured on")
    if not needs & {"boxes", "image_labels"}:
        return []
    notes = []
    for of, part in (("learn from", records), ("measure", measured)):
        crowds = int(part.crowd.sum())
        if crowds * 2 > len(part.crowd):  # COCO's own has one in a hundred
            share = f"{crowds:,} of the {len(part.crowd):,} objects to {of}"
            notes.append(f"{share} are crowds (iscrowd is 1) and do not count; {CROWDS}")
    empty = int((np.diff(records.offsets) == 0).sum()) if "boxes" in needs else 0
    if empty * 2 > len(records):
        notes.append(f"{empty:,} of the {len(records):,} images to learn from have no objects")
    learnt, asked = _classes(records), _classes(measured)
    if unseen := sorted(asked - learnt):
        notes.append(f"classes to be measured, but in no image to learn from: {', '.join(unseen)}")
    if "image_labels" not in needs:
        return notes
    if unmeasured := sorted(learnt - asked):
        notes.append(f"classes to learn, but in no image to measure: {', '.join(unmeasured)}")
    if absent := [name for name in records.names if name not in learnt | asked]:
        notes.append(f"classes without any image: {', '.join(absent)}")
    unknown_ones = int((_image_labels(records) < 0).sum())
    if unknown_ones:
        notes.append(f"the class of {unknown_ones:,} of the {len(records):,} images is unknown")
    if len(records.names) == 1:
        notes.append(f"there is but one class, {records.names[0]}: nothing to tell it from")
    return notes


def _absent(records: Records, purpose: str) -> list[str]:
    """A note about classes that no mask of a split has; the first look at its masks' values."""
    counts = pixel_counts(records, MASKS_READ)
    absent = [name for label, name in enumerate(records.names) if not counts[label]]
    if not absent:
        return []
    seen = "the" if len(records) <= MASKS_READ else f"{MASKS_READ} of the"
    masks = f"none of {seen} {len(records):,} masks to {purpose}"
    return [f"classes in {masks}: {', '.join(absent)}"]


def _classes(records: Records) -> set[str]:
    """The names of the classes that occur, of objects and of images."""
    labels = np.concatenate([records.labels, _image_labels(records)])
    return {records.names[label] for label in np.unique(labels[labels >= 0])}


def _image_labels(records: Records) -> np.ndarray:
    """(I,) or empty."""
    return np.zeros(0, np.int64) if records.image_labels is None else records.image_labels


def _places(records: Records) -> Iterator[str]:
    """The file of each image, and its page; several images may be parts of one."""
    files = (os.path.join(records.root, file) for file in records.files)  # noqa: PTH118
    return (f"{file}\0{records.page(i)}" for i, file in enumerate(files))
