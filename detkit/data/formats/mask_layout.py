"""Where the pictures and their masks are in a folder, and which of them a split has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from detkit import foreign
from detkit.data import alike, named, splits
from detkit.data import images as decoder
from detkit.data.formats import PIXELS, Needs
from detkit.data.splits import ALL
from detkit.errors import DetkitError
from detkit.folders import in_home

LOOKS_FOR = "folders images/ and masks/ (train/ and trainannot/ …), or lists of `picture mask`"
IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "labels", "label", "annotations", "annot", "gt")
SUFFIXES = ("", "_mask", "_label", "_gt", "_seg")
JPEG = (".jpg", ".jpeg")

Pairs = list[tuple[Path, Path]]
Pages = list[tuple[Path, Path, int]]  # and which page of both
Found = Sequence[tuple[Path | None, Path | None]]  # one of the two may be missing


def existing_splits(root: Path, needs: Needs = PIXELS) -> list[str]:
    """Splits by list or folder."""
    return sorted({word for word in all_pairs(root) if word} | _name_lists(root).keys())


def pages_of(
    root: Path, split: str, groups: Mapping[str, Found], channels: int | None
) -> tuple[Pages, str, tuple[str, ...]]:
    """The pictures and masks of a split, each page of a stack one, how found, and what to tell.

    Stacks of a folder without splits are split by their pages.

    Args:
        channels: a picture of so many pages is one, and they are its bands.
    Raises:
        DetkitError: as `pairs_of`, or a stack of masks with other pages than its pictures.
    """
    whole = _unsplit(root, split, groups)
    pairs, how, notes = pairs_of(root, ALL if whole else split, groups)
    found = [page for pair in pairs for page in _pages(*pair, channels)]
    if not whole:
        return found, how, notes
    names = [f"{p.stem}_{n:03d}" if len(found) > len(pairs) else p.stem for p, _, n in found]
    chosen, how = splits.by_hash(names, split, root)
    return [found[i] for i in chosen], how, notes


def _unsplit(root: Path, split: str, groups: Mapping[str, Found]) -> bool:
    """Whether the split has to be made, not found."""
    listed = any(splits.is_file(p) for p in (in_home(split), root / split))
    return not listed and not any(groups) and splits.find(split, existing_splits(root)) is None


def _pages(picture: Path, mask: Path, channels: int | None) -> Pages:
    """The pairs of pages of two files; a missing or broken one is told of where it is read."""
    try:
        count, masks = decoder.pages(picture), decoder.pages(mask)
    except DetkitError:
        return [(picture, mask, 0)]
    if masks == 1 and count == channels:
        return [(picture, mask, 0)]
    if count != masks:
        raise DetkitError(
            f"The stack of masks has {masks} pages, its pictures {picture.name} have {count}.",
            file=mask,
            remedy="give each page of the pictures one of the masks; where the pages are bands of"
            " one picture, set dataset.channels to their number.",
        )
    return [(picture, mask, page) for page in range(count)]


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
    near, fitting = _of_stem(parts[-1], by_stem) if parts else [], []
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


def _of_stem(stem: str, by_stem: Mapping[str, Pairs]) -> Pairs:
    """The pairs of this stem, else of one that looks alike."""
    return by_stem.get(stem) or by_stem.get(alike.by_form(by_stem).get(alike.form(stem), ""), [])


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
            found = _matched(folder, pictures, partner)
        else:
            found = _beside(folder)
        if found:
            groups.setdefault(splits.word_of(folder, root) or "", []).extend(found)
    return groups


def _beside(folder: Path) -> Found:
    """Pictures and masks of one folder: `x.jpg` and `x_mask.png`, or `x.jpg` and `x.png`.

    At least half of the pictures have to have one: a mere likeness of names is no mask.
    """
    names = [name for name in splits.names_in(folder) if decoder.is_image(Path(name))]
    stems = {Path(name).stem: name for name in names if Path(name).suffix.lower() not in JPEG}
    mask_of = {}
    for name in names:
        ends = SUFFIXES if Path(name).suffix.lower() in JPEG else SUFFIXES[1:]
        if found := next(
            (stems[Path(name).stem + e] for e in ends if Path(name).stem + e in stems), None
        ):
            mask_of[name] = found
    pictures = sorted(set(names) - set(mask_of.values()))
    if not mask_of or 2 * len(mask_of) < len(pictures):
        return []
    return [(folder / n, folder / mask_of[n] if n in mask_of else None) for n in pictures]


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
        stems = {alike.form(stem + end) for stem in splits.images_in(folder) for end in SUFFIXES}
        if masks and (path in beside or not stems.isdisjoint(map(alike.form, masks))):
            return path
    return None


def _matched(folder: Path, pictures: Mapping[str, str], partner: Path) -> Found:
    wanted = {stem + end for stem in pictures for end in SUFFIXES}
    masks = alike.respelt(splits.images_in(partner), wanted)
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
