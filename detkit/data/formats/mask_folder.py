"""Pictures and index masks: the value of a mask's pixel is its class, 255 does not count.

Layouts: a list of `picture mask` pairs per split (CamVid); `images/` + `masks/` (or `labels/`,
`gt/` …; where stems agree the pictures' folder may have any name), with or without split folders or
lists of names; `train/` + `trainannot/`. Masks are PNGs with the picture's stem, or the stem and
`_mask`, `_label`, `_gt` or `_seg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.data import checks, splits
from detkit.data import images as decoder
from detkit.data.draft import pixel_draft
from detkit.data.formats import formats
from detkit.data.records import Records
from detkit.errors import DetkitError
from detkit.folders import in_home
from detkit.structures import IGNORE

LOOKS_FOR = "folders images/ and masks/ (train/ and trainannot/ …), or lists of `picture mask`"
IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "labels", "label", "annotations", "annot", "gt")
SUFFIXES = ("", "_mask", "_label", "_gt", "_seg")
GAP = 4  # the highest value is so many times their count: they are no class indices
LOOKED_AT = 500  # masks whose values tell how many classes there are, when nobody names them

Pairs = list[tuple[Path, Path]]
Found = Sequence[tuple[Path | None, Path | None]]  # one of the two may be missing


@formats.register("mask_folder")
def read(
    root: Path,
    split: str,
    *,
    task: str = "segment_pixels",
    classes: Sequence[str] | None = None,
    values: Mapping[int, int] | None = None,
    ignore: int | None = None,
    bad_images: str = "error",
) -> Records:
    """Read one split.

    Args:
        root: the folder.
        split: a folder's name or a list; without any, a fifth is `val` by hash.
        task: here always `segment_pixels`.
        classes: the names by value from 0 on, an ignored one among them; by default classes.txt,
            else the numbers that the masks hold. With `values` by label.
        values: label by value in the file, where they differ; masks of 0 and 255 alone are read as
            0 and 1.
        ignore: the value of pixels that do not count, besides 255.
        bad_images: see `detkit.data.checks.finish`.
    """
    if task != "segment_pixels":
        raise DetkitError(
            f"Index masks have no objects for the task {task!r}.",
            file=root,
            remedy="choose a model of pixels (model=unet), or a data set with boxes.",
        )
    everything = _all_pairs(root)
    pairs, how = _pairs(root, split, everything)
    names = list(map(str, classes)) if classes else _listed_names(root)
    labels, names, told = _labels(root, everything, values, ignore, names)
    draft = pixel_draft(
        root,
        f"pictures and index masks, {how}",
        names,
        [splits.below(root, picture) for picture, _ in pairs],
        [splits.below(root, mask) for _, mask in pairs],
        labels,
        told,
    )
    draft.image_ids = splits.ids_of(root, [picture for picture, _ in pairs])
    return checks.finish(draft, images=True, bad_boxes="error", bad_images=bad_images)


def recognises(root: Path, task: str = "segment_pixels") -> str | None:
    """Why these are pictures and masks: the first pair. None if there is none."""
    if task != "segment_pixels" or not root.is_dir():
        return None
    for picture, mask in (pair for pairs in _all_pairs(root).values() for pair in pairs):
        if picture and mask:
            return f"{splits.below(root, mask)} is the mask of {splits.below(root, picture)}"
    return None


def existing_splits(root: Path, task: str = "segment_pixels") -> list[str]:
    """Splits by list or folder."""
    return sorted({word for word in _all_pairs(root) if word} | _name_lists(root).keys())


def _pairs(root: Path, split: str, groups: Mapping[str, Found]) -> tuple[Pairs, str]:
    """The pictures and masks of a split, and how they were found."""
    listed = next((p for p in (in_home(split), root / split) if splits.is_file(p)), None)
    word = splits.find(split, existing_splits(root))
    lists = _name_lists(root)
    if not listed and word not in lists:
        if word:
            return _complete(root, groups[word]), f"the split {word}"
        if any(groups):
            raise splits.missing(split, existing_splits(root), root)
        pairs = _complete(root, groups.get("", []))
        if not pairs:
            raise DetkitError(
                "No pictures with masks were found.",
                file=root,
                remedy=f"lay them out as {LOOKS_FOR} in train.txt.",
            )
        chosen, how = splits.by_hash([picture.stem for picture, _ in pairs], split, root)
        return [pairs[i] for i in chosen], how
    path = listed or lists[str(word)]
    if pairs := _pairs_of_list(root, path):
        return pairs, f"the list {path.name}"
    by_stem: dict[str, Pairs] = {}
    for picture, mask in (pair for group in groups.values() for pair in group):
        if picture and mask:
            by_stem.setdefault(picture.stem, []).append((picture, mask))
    lines = splits.read_list(path)
    return [_meant(line, by_stem, root, path) for line in lines], f"the list {path.name}"


def _meant(line: str, by_stem: Mapping[str, Pairs], root: Path, path: Path) -> tuple[Path, Path]:
    """The pair whose picture a line names: by its stem; of several, by the rest of the path."""
    wanted = Path(line.lstrip("/"))
    parts = (wanted.with_suffix("") if decoder.is_image(wanted) else wanted).parts
    near, fitting = by_stem.get(parts[-1], []) if parts else [], []
    for pair in near:
        whole = pair[0].with_suffix("").parts
        own = whole[len(root.parts) :]  # the line may begin above the data set, or below it
        fitting += [pair] * (whole[-len(parts) :] == parts or parts[-len(own) :] == own)
    if len(near) == 1 or len(fitting) == 1:
        return (fitting or near)[0]
    problem, remedy = "has no picture with a mask", "add both, or remove the line."
    if near:
        others = " or ".join(splits.below(root, picture) for picture, _ in (fitting or near)[:2])
        problem = f"could be {others}" if fitting else f"is not there, {others} is"
        remedy = "write the picture's path from the data set's folder."
    raise DetkitError(f"{line!r} is listed, but {problem}.", file=path, remedy=remedy)


def _all_pairs(root: Path) -> Mapping[str, Found]:
    """Pictures and masks by split; the split is empty where neither list nor folder names one."""
    texts = [root / name for name in splits.names_in(root) if name.endswith(".txt")]
    listed = {path.stem: pairs for path in texts if (pairs := _pairs_of_list(root, path))}
    if listed:
        return {word: list(pairs) for word, pairs in listed.items()}
    groups: dict[str, list[tuple[Path | None, Path | None]]] = {}
    for folder in splits.folders(root):
        partner = _mask_folder(root, folder)
        if partner and (pictures := splits.images_in(folder)):
            word = splits.word_of(folder, root) or ""
            groups.setdefault(word, []).extend(_matched(folder, pictures, partner))
    return groups


def _pairs_of_list(root: Path, path: Path) -> Pairs:
    """The pairs of a list; empty if its first line is not `picture mask`.

    Paths count from the root, or end like one below it (CamVid's own are `/SegNet/CamVid/train/…`).
    """
    pairs: Pairs = []
    try:
        lines = path.read_text("utf-8-sig", "replace").splitlines()
    except OSError as fault:
        raise splits.unreadable(path, fault) from fault
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        two = len(fields) == 2 and all(decoder.is_image(Path(field)) for field in fields)
        if not two and not pairs:
            return []
        if not two:
            raise DetkitError(
                f"{line!r} is not a picture and a mask.",
                file=path,
                record=f"line {number}",
                remedy="write `picture mask` on each line, without spaces in the names.",
            )
        pairs.append((_place(root, fields[0]), _place(root, fields[1])))
    return pairs


def _place(root: Path, name: str) -> Path:
    """A listed path: from the root, or the longest end of it that is there."""
    parts = Path(name.lstrip("/")).parts
    ends = [root.joinpath(*parts[i:]) for i in range(len(parts))]
    return next((path for path in [root / name, *ends] if path.is_file()), root / name)


def _mask_folder(root: Path, folder: Path) -> Path | None:
    """The folder of the masks of a folder of pictures, which may have any name if theirs fit."""
    beside = [folder.with_name(folder.name + end) for end in ("annot", "_masks", "_labels")]
    likely: list[Path] = []
    parts = folder.relative_to(root).parts
    for i, part in enumerate(parts):
        if part.lower() in MASKS:
            return None
        siblings = {f.name.lower(): f.name for f in root.joinpath(*parts[:i]).iterdir()}
        names = [siblings[mask] for mask in MASKS if mask in siblings]
        found = [root.joinpath(*parts[:i], name, *parts[i + 1 :]) for name in names]
        (beside if part.lower() in IMAGES else likely).extend(found)
    for path in filter(Path.is_dir, beside + likely):
        masks = splits.images_in(path)
        stems = {stem + end for stem in splits.images_in(folder) for end in SUFFIXES}
        if masks and (path in beside or not stems.isdisjoint(masks)):
            return path
    return None


def _matched(folder: Path, pictures: Mapping[str, str], partner: Path) -> Found:
    masks = splits.images_in(partner)
    pairs: list[tuple[Path | None, Path | None]] = []
    for stem, name in pictures.items():
        found = next((masks.pop(stem + end) for end in SUFFIXES if stem + end in masks), None)
        pairs.append((folder / name, partner / found if found else None))
    return pairs + [(None, partner / name) for name in masks.values()]


def _complete(root: Path, found: Found) -> Pairs:
    pairs: Pairs = []
    for picture, mask in found:
        if picture and mask:
            pairs.append((picture, mask))
            continue
        other = "mask" if picture else "picture"
        raise DetkitError(
            f"There is no {other} for it.",
            file=picture or mask,
            remedy=f"add the {other}, remove the file, or name the pairs in a list.",
        )
    return pairs


def _name_lists(root: Path) -> dict[str, Path]:
    """Lists of names (not of pairs) by split, in splits/ or beside the folders."""
    found: dict[str, Path] = {}
    for folder in (root, root / "splits"):
        for name in splits.names_in(folder):
            if name.endswith(".txt") and (folder != root or name[:-4] in splits.WORDS):
                found[name[:-4]] = folder / name
    return found


def _listed_names(root: Path) -> list[str]:
    """Class names from classes.txt, if it is there."""
    path = root / "classes.txt"
    return splits.class_names(path) if path.is_file() else []


def _labels(
    root: Path,
    groups: Mapping[str, Found],
    values: Mapping[int, int] | None,
    ignore: int | None,
    names: Sequence[str],
) -> tuple[NDArray[np.int16], list[str], tuple[str, ...]]:
    """(256,) label by value, the names of the labels, and what to tell."""
    told: tuple[str, ...] = ()
    if ignore is not None and not 0 <= ignore <= IGNORE:
        raise DetkitError(
            f"dataset.ignore is {ignore}, which no mask can hold.",
            file=root,
            remedy=f"set it to a value of 0 … {IGNORE}, or to null.",
        )
    if values is None:
        masks = [mask for group in groups.values() for _, mask in group if mask]
        most = LOOKED_AT // 20 if names else LOOKED_AT  # only: are there but 0 and 255?
        seen = _values(masks[:: len(masks) // most + 1])
        if seen == {0, IGNORE} and len(names) in (0, 2) and ignore is None:
            values, told = {0: 0, IGNORE: 1}, ("masks of 0 and 255: read as classes 0 and 1",)
        else:
            counted = seen - {IGNORE, ignore}
            highest = max(counted, default=0)
            if not names and counted and highest >= GAP * len(counted):
                raise _no_indices(root, sorted(seen - {ignore}))
            named = names or [str(number) for number in range(highest + 1)]
            numbers = [number for number in range(len(named)) if number != ignore]
            values = {number: label for label, number in enumerate(numbers)}
            names = [named[number] for number in numbers]
    used = [label for label in values.values() if label != IGNORE]
    names = list(names) or [str(label) for label in range(max(used, default=0) + 1)]
    allowed = np.full(256, -1, np.int16)
    allowed[[IGNORE] if ignore is None else [IGNORE, ignore]] = IGNORE
    for value, label in values.items():
        if not (0 <= value <= IGNORE and (0 <= label < len(names) or label == IGNORE)):
            raise DetkitError(
                f"dataset.values makes {value} the label {label}, of {len(names)} classes.",
                file=root,
                remedy=f"values are 0 … {IGNORE}, labels 0 … {len(names) - 1} (or {IGNORE}).",
            )
        allowed[value] = label
    return allowed, names, told


def _no_indices(root: Path, seen: Sequence[int]) -> DetkitError:
    """The error for masks of 0, 127 and 254, which would be taken for 255 classes."""
    setting = ", ".join(f"{value}: {label}" for label, value in enumerate(seen))
    void = f" ({IGNORE}: {IGNORE} where that does not count)" if IGNORE in seen else ""
    return DetkitError(
        f"The masks hold the values {', '.join(map(str, seen))}: hardly the numbers of classes.",
        file=root,
        remedy=f"say which class each is with 'dataset.values={{{setting}}}'{void}, or if they are"
        " numbers, name the classes by number in classes.txt or dataset.classes.",
    )


def _values(masks: Sequence[Path]) -> set[int]:
    seen = np.zeros(256, bool)
    for path in masks:
        try:
            seen[decoder.read_values(path)] = True
        except DetkitError:  # a bad mask is told of where its image is checked
            continue
    return set(map(int, np.flatnonzero(seen)))
