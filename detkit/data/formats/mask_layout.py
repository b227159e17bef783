"""Where the pictures and their masks are in a folder, and which of them a split has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from detkit import foreign
from detkit.data import images as decoder
from detkit.data import named, splits
from detkit.data.formats import PIXELS, Needs
from detkit.errors import DetkitError
from detkit.folders import in_home

LOOKS_FOR = "folders images/ and masks/ (train/ and trainannot/ …), or lists of `picture mask`"
IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "labels", "label", "annotations", "annot", "gt")
SUFFIXES = ("", "_mask", "_label", "_gt", "_seg")

Pairs = list[tuple[Path, Path]]
Found = Sequence[tuple[Path | None, Path | None]]  # one of the two may be missing


def existing_splits(root: Path, needs: Needs = PIXELS) -> list[str]:
    """Splits by list or folder."""
    return sorted({word for word in all_pairs(root) if word} | _name_lists(root).keys())


def pairs_of(
    root: Path, split: str, groups: Mapping[str, Found]
) -> tuple[Pairs, str, tuple[str, ...]]:
    """The pictures and masks of a split, how they were found, and what to tell."""
    listed = next((p for p in (in_home(split), root / split) if splits.is_file(p)), None)
    word = splits.find(split, existing_splits(root))
    lists = _name_lists(root)
    if not listed and word not in lists:
        if word:
            return _complete(root, groups[word]), f"the split {word}", ()
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
        return [pairs[i] for i in chosen], how, ()
    path = listed or lists[str(word)]
    pairs, notes = _pairs_of_list(root, path)
    if pairs:
        return pairs, f"the list {path.name}", notes
    by_stem: dict[str, Pairs] = {}
    for picture, mask in (pair for group in groups.values() for pair in group):
        if picture and mask:
            by_stem.setdefault(picture.stem, []).append((picture, mask))
    lines = splits.read_list(path)
    return [_meant(line, by_stem, root, path) for line in lines], f"the list {path.name}", ()


def _meant(line: str, by_stem: Mapping[str, Pairs], root: Path, path: Path) -> tuple[Path, Path]:
    """The pair whose picture a line names: by its stem; of several, by the rest of the path."""
    wanted = Path(*named.parts_of(line))
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


def all_pairs(root: Path) -> Mapping[str, Found]:
    """Pictures and masks by split; the split is empty where neither list nor folder names one."""
    texts = [root / name for name in splits.names_in(root) if name.endswith(".txt")]
    listed = {path.stem: pairs for path in texts if (pairs := _pairs_of_list(root, path)[0])}
    if listed:
        return {word: list(pairs) for word, pairs in listed.items()}
    groups: dict[str, list[tuple[Path | None, Path | None]]] = {}
    for folder in splits.folders(root):
        partner = _mask_folder(root, folder)
        if partner and (pictures := splits.images_in(folder)):
            word = splits.word_of(folder, root) or ""
            groups.setdefault(word, []).extend(_matched(folder, pictures, partner))
    return groups


def _pairs_of_list(root: Path, path: Path) -> tuple[Pairs, tuple[str, ...]]:
    """The pairs of a list, and what to tell; none if its first line is not `picture mask`.

    Paths count from the root, or end like one below it (CamVid's own are `/SegNet/CamVid/train/…`).
    """
    pairs: list[tuple[str, str]] = []
    try:
        lines = foreign.glance(path).splitlines()
    except OSError as fault:
        raise splits.unreadable(path, fault) from fault
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        ways = (line.split(), re.split(r"\s*[\t,;]\s*", line.strip()))
        fields = next((found for found in ways if _are_two(found)), None)
        if not fields and not pairs:
            return [], ()
        if not fields:
            raise DetkitError(
                f"{line!r} is not a picture and a mask.",
                file=path,
                record=f"line {number}",
                remedy="write `picture mask` on each line, with a comma between them where there"
                " are spaces in the names.",
            )
        pairs.append((fields[0], fields[1]))
    if not pairs:
        return [], ()
    foreign.read_text(path)  # which says where it is no text
    bases = [root, path.parent]
    found = [named.pictures(names, bases, root, path) for names in zip(*pairs, strict=True)]
    (pictures, told), (masks, more) = found
    return list(zip(pictures, masks, strict=True)), (*told, *more)


def _are_two(fields: Sequence[str]) -> bool:
    ends = (named.parts_of(field)[-1:] for field in fields)
    return len(fields) == 2 and all(end and decoder.is_image(Path(*end)) for end in ends)


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
