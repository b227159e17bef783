"""Pascal VOC: one XML file per image, lists of images as splits, index PNGs for segmentation.

Boxes are 1-based and inclusive in the files: −1, −1, 0, 0 makes them continuous, here and nowhere
else (Everingham et al., VOC development kit). Any year, any class list, and the usual variants:
`images/` + `annotations/`, everything in one folder, `train/` and `val/` folders, a devkit with
`VOC2007/` and `VOC2012/` (a split is then `2007/trainval+2012/trainval`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detkit.data import checks, splits
from detkit.data import images as decoder
from detkit.data.draft import Draft, class_list, known_only, pixel_draft
from detkit.data.formats import BOXES, Needs, formats
from detkit.data.formats.mask_values import by_colour, labels_of, listed_names
from detkit.data.formats.voc_layout import Layout, annotation_folders, notes_of, pixel_homes, spelt
from detkit.data.formats.voc_xml import Objects, root_of
from detkit.data.records import Records
from detkit.errors import DetkitError

LOOKS_FOR = "XML files with an <annotation> each, such as Annotations/000001.xml"
KNOWN_BY = 25  # masks that tell whether they are VOC's own
_LISTS, _VOC_YEAR = "ImageSets/Segmentation", r"VOC20\d\d"
_VOC_STEM = re.compile(r"\d{6}|20\d\d_\d{6}")
PIXEL_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


@formats.register("voc")
def read(
    root: Path,
    split: str,
    *,
    needs: Needs = BOXES,
    images: bool = True,
    classes: Sequence[str] | None = None,
    unknown_classes: str = "error",
    bad_boxes: str = "error",
    bad_images: str = "error",
) -> Records:
    """Read one split.

    Args:
        root: the folder; a devkit with year folders, or one year, or another layout of XML files.
        split: a list of ImageSets/Main (Segmentation for pixels), several joined with `+`, the path
            of a list file, or the name of a folder.
        needs: with `pixels` SegmentationClass is read instead of the boxes.
        images: whether the pictures must be there.
        classes: the class list, in this order; by default the names in all XML files of the data
            set, alphabetically, so that every split has the same. For pixels those of a file with
            the data (labelmap.txt, classes.txt …), for VOC's own pictures its 20 after
            `background`, else the numbers.
        unknown_classes: what to do with objects that are not in `classes`: `error` or `drop`.
        bad_boxes, bad_images: see `detkit.data.checks.finish`.
    """
    layout = Layout.of(root, needs)
    if "pixels" in needs:
        draft = _pixels(layout, split, classes)
    else:
        draft = _objects(layout, split, classes, unknown_classes)
    return checks.finish(draft, images=images, bad_boxes=bad_boxes, bad_images=bad_images)


def recognises(root: Path, needs: Needs = BOXES) -> str | None:
    """Why this folder is VOC: XML annotations, or SegmentationClass. None if it is not."""
    if "pixels" in needs:
        homes = pixel_homes(root)
        return f"{os.path.relpath(homes[0], root)}/ has SegmentationClass" if homes else None
    if "masks" in needs:
        return None
    counts: dict[str, int] = {}
    for folder in annotation_folders(root):
        names = [name for name in splits.names_in(folder) if name.lower().endswith(".xml")]
        try:
            tag = root_of(folder / names[0]).tag
        except DetkitError:
            tag = "annotation"  # broken, which `read` says better
        if tag == "annotation":
            counts[os.path.relpath(folder, root)] = len(names)
    if not counts:
        return None
    places = ["it" if folder == "." else f"{folder}/" for folder in sorted(counts)]
    few = ", ".join(places[:3]) + (", …" if len(places) > 3 else "")
    verb = "holds" if len(places) == 1 else "hold"
    return f"{few} {verb} {sum(counts.values()):,} VOC annotations (XML)"


def existing_splits(root: Path, needs: Needs = BOXES) -> list[str]:
    """The splits that can be asked for by name."""
    return sorted(Layout.of(root, needs).splits())


def _objects(
    layout: Layout, split: str, classes: Sequence[str] | None, unknown_classes: str
) -> Draft:
    members, how = layout.members(split)
    for part, stem in members:
        if stem not in part.xml and stem not in part.bare:
            raise DetkitError(
                f"There is no annotation {stem}.xml.",
                file=layout.root,
                record=how,
                remedy="add the XML file (without objects if the image has none), or unlist it.",
            )
    files = [part.xml.get(stem, part.pictures.get(stem, "")) for part, stem in members]
    bare = {part.pictures[stem] for part, stem in members if stem not in part.xml}
    found = Objects(layout.root, files, bare)
    everywhere = set(found.names)
    if classes is None:  # every split has to count the same classes
        others = {xml for part in layout.parts.values() for xml in part.xml.values()} - set(files)
        everywhere |= set(Objects(layout.root, sorted(others)).names)
    names, label = class_list(found.names, sorted(everywhere) if classes is None else classes)
    codes = np.array(found.codes, np.int64)
    draft = Draft(
        root=layout.root,
        source=f"VOC, {how}",
        names=names,
        files=[part.pictures.get(stem, f"{part.default}/{stem}.jpg") for part, stem in members],
        image_ids=[stem for _, stem in members],
        annotation_files=files,
        counts=found.counts,
        boxes=np.array(found.boxes).reshape(-1, 4),
        labels=np.array(label, np.int64)[codes],
        numbers=np.array(found.numbers, np.int64),
        inclusive=True,
        sizes=found.sizes,
        notes=(*notes_of(layout), *_kept(sorted(bare), len(files))),
        difficult=np.array(found.difficult, bool),
    )
    unlisted = [found.names[c] for c in codes[draft.labels < 0]]
    return known_only(draft, unlisted, unknown_classes)


def _kept(bare: Sequence[str], count: int) -> tuple[str, ...]:
    """What to tell of pictures without XML."""
    if not bare:
        return ()
    share = f"{len(bare):,} of {count:,} pictures have no XML file"
    return (
        f"{share}: kept as pictures without objects; a list of the others in ImageSets/Main leaves"
        f" them out. First: {bare[0]}",
    )


def _pixels(layout: Layout, split: str, classes: Sequence[str] | None) -> Draft:
    members, how = layout.members(split)
    everything = [layout.root / m for part in layout.parts.values() for m in part.xml.values()]
    names, colours = listed_names(layout.root)
    notes: tuple[str, ...] = ()
    if classes is not None or (not names and _is_development_kit(layout, everything)):
        names = list(PIXEL_NAMES if classes is None else classes)
        allowed = np.full(256, -1, np.int16)
        allowed[: len(names)] = range(len(names))
        allowed[255] = 255  # void
    else:
        named = bool(names)
        allowed, names, notes = labels_of(layout.root, everything, names=names, colours=colours)
        unnamed = "the masks are not VOC's own: their classes are called by their numbers"
        notes = notes if named else (*notes, f"{unnamed}; name them in classes.txt")
    for part, stem in members:
        if stem not in part.xml:
            raise DetkitError(
                f"There is no mask SegmentationClass/{stem}.png.",
                file=layout.root,
                record=how,
                remedy="add the mask, or unlist the image.",
            )
    lacking = [p.pictures[s] for p in layout.parts.values() for s in p.pictures if s not in p.xml]
    if lacking and not layout.splits():
        notes = (*notes, f"left out {len(lacking):,} pictures without a mask. First: {lacking[0]}")
    notes = (*notes, *spelt(layout))
    masks = [part.xml[stem] for part, stem in members]
    pictures = [part.pictures.get(stem, f"{part.default}/{stem}.jpg") for part, stem in members]
    source = f"VOC SegmentationClass, {how}"
    table = by_colour(colours, allowed)
    return pixel_draft(layout.root, source, names, pictures, masks, allowed, notes, table)


def _is_development_kit(layout: Layout, masks: Sequence[Path]) -> bool:
    """Whether these are VOC's own pictures, by their names, their lists and the masks' values.

    Names of six digits (VOC 2007's) may be anyone's: there an XML file has to say VOC.
    """
    stems = [mask.stem for mask in masks]
    named = (paths for part in layout.parts.values() for paths in part.lists.values())
    lists = [path.as_posix() for paths in named for path in paths]
    listed = all(_LISTS in path for path in lists)
    if not layout.splits() or not listed or not all(map(_VOC_STEM.fullmatch, stems)):
        return False
    for mask in masks[:: len(masks) // KNOWN_BY + 1]:
        try:
            values = decoder.read_values(mask)
        except DetkitError:  # told of where its image is checked
            continue
        if ((values >= len(PIXEL_NAMES)) & (values != 255)).any():
            return False
        if "_" not in mask.stem and not _says_voc(mask.parent.with_name("Annotations"), mask.stem):
            return False
    return True


def _says_voc(folder: Path, stem: str) -> bool:
    if re.fullmatch(_VOC_YEAR, folder.parent.name):
        return True
    try:
        root = root_of(folder / f"{stem}.xml")
    except DetkitError:
        return False
    said = f"{root.findtext('folder')} {root.findtext('source/database')}"
    return re.search(_VOC_YEAR, said) is not None
