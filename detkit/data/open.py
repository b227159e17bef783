"""`open_dataset`: from the settings of the group `dataset` to the Records of one split."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detkit.data import splits, strangers
from detkit.data.crops import crops_of
from detkit.data.formats import BOXES, LABELS, Needs, beside, formats
from detkit.data.records import Records
from detkit.data.single import ONE_OBJECT, single_of
from detkit.errors import DetkitError, unknown
from detkit.folders import in_home

CROPS = ("crop_context", "least_side")  # settings of objects that are cut out
PARTS = {"train": "~rest", "val": "~fifth"}  # of the only split, by the hash of the file names
MORE = "more_objects"  # and of images for a localizer
OTHERS = {  # what else the folder may be for, and which models want that
    "pixels": "a model of pixels (model=unet)",
    "boxes": "a model of boxes (model=faster_rcnn)",
    "image_labels": "a classifier (model=classifier)",
}


def open_dataset(
    settings: Mapping[str, Any], split: str, *, needs: Needs = BOXES, images: bool = True
) -> Records:
    """Read one split of a data set.

    Args:
        settings: `name` (a format, or `auto`: the folder says which), `root`, and the format's own;
            `crop_context` and `least_side` for `crops_of`, which makes images of objects for a
            model that needs `image_labels` alone, `more_objects` for `single_of`, where it needs
            `one_object`. `train_split` and `val_split` are for
            `split_name`, and not looked at.
        split: what the format calls a split; `SPLIT~fifth` is a fifth of it, `SPLIT~rest` the rest.
        needs: of the model (`Model.needs`): what is read (boxes, masks, classes of pixels …).
        images: whether the pictures must be there (not, where results are scored).
    Returns:
        the Records; `source` says what was read and how it was recognised.
    Raises:
        DetkitError: no such folder or split, not one format that fits, or a fault in the data.
    """
    name, reason, arguments = _chosen(settings, needs)
    accepted = inspect.signature(formats[name]).parameters
    context = {"needs": needs, "images": images, "root": None}
    arguments = {k: v for k, v in context.items() if k in accepted} | arguments
    if strange := [key for key in arguments if key not in accepted]:
        raise unknown(f"setting of dataset={name}", strange[0], accepted)
    part = next((part for part, end in PARTS.items() if split.endswith(end)), None)
    whole = split.removesuffix(PARTS[part]) if part else split
    records = formats[name](split=whole, **arguments)
    if part:
        records = _by_hash(records, part, whole)
    if "masks" in needs and not records.has_masks:
        raise DetkitError(
            f"The data set has no instance masks ({records.source}).",
            file=records.root,
            remedy="give the objects' outlines (COCO's polygons or run lengths, YOLO's polygons),"
            " or choose a model of boxes (model=faster_rcnn).",
        )
    how = f"{records.source} (recognised: {reason})" if reason else records.source
    root = arguments.get("root")  # drawn data have none
    notes = _left_out(root) if isinstance(root, Path) else []
    records = replace(records, source=how, notes=(*records.notes, *notes))
    cut = {key: value for key in CROPS if (value := settings.get(key)) is not None}
    if ONE_OBJECT in needs:
        records = single_of(records, settings.get(MORE) or "drop")
    elif settings.get(MORE) is not None:
        raise DetkitError(
            f"dataset.{MORE} is for a model of one object (model=localizer).",
            record=records.source,
            remedy="set it to null.",
        )
    if needs == LABELS and records.image_labels is None:
        return crops_of(records, **cut)
    if cut:
        raise DetkitError(
            f"dataset.{next(iter(cut))} is for objects that are cut out, and these are not.",
            record=records.source,
            remedy="set it to null; a classifier (model=classifier) cuts objects out of data with"
            " boxes.",
        )
    return records


def _by_hash(records: Records, split: str, only: str) -> Records:
    """A fifth of the only split's images, or the others."""
    files = list(records.files)
    why = f"{only} is the only split"
    chosen, how = splits.by_hash(files, split, Path(records.root), None, records.image_labels, why)
    return replace(records.subset(chosen), source=f"{records.source}, {how}")


def _left_out(root: Path) -> list[str]:
    """Notes: folders with predict's table, where own pictures may have lain, and odd pictures."""
    drawn = [folder for folder in splits.outputs(root) if not (folder / "run.json").exists()]
    told = "left out {}/: with predictions.csv of predict in it, its pictures are drawn copies"
    notes = [told.format(splits.below(root, folder)) for folder in drawn]
    names = [name for folder in splits.folders(root) for name in splits.names_in(folder)]
    unread = [name for name in names if Path(name).suffix.lower() in splits.UNREAD]
    if unread:
        kinds = ", ".join(sorted({Path(name).suffix.lower() for name in unread}))
        notes.append(
            f"left out {len(unread):,} pictures of kinds that are not read ({kinds}); convert them"
            " to PNG or JPEG"
        )
    return notes


BESIDE_PICTURES = ("Annotations", "SegmentationClass")  # of VOC's JPEGImages


def split_name(
    settings: Mapping[str, Any], which: str, needs: Needs = BOXES, unsplit: str | None = None
) -> str:
    """The split that `train` or `val` stands for: the setting, else what the data set has.

    Without a setting `val` is `val` (or `valid`), else `test`; `train` is never another one. Where
    there is but one split, `val` is a fifth of it (`train~fifth`) and `train` the rest.

    Args:
        unsplit: what to take of a data set without splits.
    """
    if named := settings.get(f"{which}_split"):
        return str(named)
    name, _, arguments = _chosen(settings, needs)
    existing_splits = beside(name, "existing_splits")
    if existing_splits is None:
        return which
    existing = existing_splits(arguments["root"], needs)
    if not existing and unsplit:
        return unsplit
    chosen = settings.get("train_split") or settings.get("val_split")
    measured_on = any(splits.find(word, existing) for word in ("val", "test"))
    if len(existing) == 1 and not measured_on and not chosen and not unsplit:
        return f"{existing[0]}{PARTS[which]}"
    wanted = ("val", "test") if which == "val" else (which,)
    return next((s for w in wanted if (s := splits.find(w, existing))), which)


def is_validation(settings: Mapping[str, Any], split: str) -> bool:
    """Whether a split is there to choose by: it was named so, or is called so."""
    return settings.get("val_split") == split or splits.find("val", [split]) is not None


def _chosen(settings: Mapping[str, Any], needs: Needs) -> tuple[str, str, dict[str, Any]]:
    """The format, why it was chosen (empty if it was named), and its arguments."""
    left_out = ("name", "train_split", "val_split", "labels_root", *CROPS, MORE)
    arguments = {k: v for k, v in settings.items() if k not in left_out and v is not None}
    name = str(settings.get("name") or "auto")
    if name == "auto" or beside(name, "recognises"):  # drawn data have no folder
        arguments["root"] = _root(arguments)
    if name != "auto":
        return name, "", arguments
    return *recognise(arguments["root"], needs), arguments


def _root(arguments: Mapping[str, Any]) -> Path:
    given = arguments.get("root") or arguments.get("annotations")
    if not given:
        raise DetkitError("The data set has no root.", remedy="set dataset.root to its folder.")
    root = in_home(given)
    if not root.exists():
        raise DetkitError("There is no such folder.", file=root, remedy="correct dataset.root.")
    if root.name == "JPEGImages" and any((root.parent / name).is_dir() for name in BESIDE_PICTURES):
        root = root.parent
    if root.is_dir() and not any(root.iterdir()):
        raise DetkitError("The folder is empty.", file=root, remedy="correct dataset.root.")
    return root


def recognise(root: Path, needs: Needs = BOXES) -> tuple[str, str]:
    """The format of a folder, and why.

    Raises:
        DetkitError: none fits, or more than one does.
    """
    asked = {name: ask for name in formats.names() if (ask := beside(name, "recognises"))}
    reasons: dict[str, str] = {}
    faults: dict[str, DetkitError] = {}
    for name, ask in asked.items():
        try:
            if reason := ask(root, needs):
                reasons[name] = reason
        except DetkitError as fault:  # not readable as this format, perhaps as another
            faults[name] = fault
    if len(reasons) == 1:
        return next(iter(reasons.items()))
    if reasons:
        seen = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise DetkitError(
            f"This could be more than one format ({seen}).",
            file=root,
            remedy=f"choose with dataset={next(iter(reasons))} (dataset={', '.join(reasons)}).",
        )
    but = {name: f" (but {str(fault).splitlines()[0]})" for name, fault in faults.items()}
    looked = "".join(
        f"\n    {name}: {beside(name, 'LOOKS_FOR')}{but.get(name, '')}" for name in asked
    )
    stranger = strangers.near(root)
    nearly = f" ({stranger[0]}, which is not read)" if stranger else ""
    raise DetkitError(
        f"No data set with {' and '.join(sorted(needs - {ONE_OBJECT}))} was recognised"
        f" here{nearly}."
        f" Looked for:{looked}",
        file=root,
        remedy=next((f.remedy for f in faults.values() if not _of_folder(f)), None)  # nearly that
        or _for_another_task(asked, root, needs)
        or next((f.remedy for f in faults.values()), None)
        or (f"{stranger[1]}." if stranger else None)
        or "set dataset.root to the data set's own folder, or name its format (dataset=…).",
    )


def _of_folder(fault: DetkitError) -> bool:
    """Whether it is how pictures lie in a folder, not a file that says what the data are."""
    return fault.file is not None and Path(fault.file).is_dir()


def _for_another_task(asked: Mapping[str, Any], root: Path, needs: Needs) -> str | None:
    """What to do about masks where boxes were looked for, and the reverse."""
    for other, models in OTHERS.items():
        for name, ask in asked.items():
            try:
                if needs != {other} and (reason := ask(root, frozenset({other}))):
                    return f"choose {models}: {reason} ({name})."
            except DetkitError:  # a fault in data that this task does not ask for
                continue
    return None
