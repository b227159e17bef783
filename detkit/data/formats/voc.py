"""Pascal VOC: one XML file per image, lists of images as splits, index PNGs for segmentation.

Boxes are 1-based and inclusive in the files: −1, −1, 0, 0 makes them continuous, here and nowhere
else (Everingham et al., VOC development kit). Any year, any class list, and the usual variants:
`images/` + `annotations/`, everything in one folder, `train/` and `val/` folders, a devkit with
`VOC2007/` and `VOC2012/` (a split is then `2007/trainval+2012/trainval`).
"""

from __future__ import annotations

import math
import os
import re
import xml.etree.ElementTree as ET
from array import array
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detkit import foreign
from detkit.data import checks, splits
from detkit.data import images as decoder
from detkit.data.draft import Draft, class_list, known_only, pixel_draft
from detkit.data.formats import BOXES, Needs, formats
from detkit.data.formats.mask_values import by_colour, labels_of, listed_names
from detkit.data.formats.voc_layout import Layout, annotation_folders, pixel_homes, unread
from detkit.data.records import Records
from detkit.errors import DetkitError

LOOKS_FOR = "XML files with an <annotation> each, such as Annotations/000001.xml"
MANY = 5000  # files, from which on reading shows its progress
LONGEST = 2**31 - 1  # pixels that a side can have in Records
_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_WIDER = {"gbk": "gb18030", "gb2312": "gb18030"}  # what files hold that declare the narrow one
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
        found = pixel_homes(root)
        return f"{os.path.relpath(found[0], root)}/ has SegmentationClass" if found else None
    if "masks" in needs:
        return None
    found: dict[str, int] = {}
    for folder in annotation_folders(root):
        names = [name for name in splits.names_in(folder) if name.lower().endswith(".xml")]
        try:
            tag = _root(folder / names[0]).tag
        except DetkitError:
            tag = "annotation"  # broken, which `read` says better
        if tag == "annotation":
            found[os.path.relpath(folder, root)] = len(names)
    if not found:
        return None
    folders, count = sorted(found), sum(found.values())
    if len(folders) == 1:
        place = "it" if folders == ["."] else f"{folders[0]}/"
        return f"{place} holds {count:,} VOC annotations (XML)"
    few = ", ".join(f"{folder}/" for folder in folders[:3]) + (", …" if len(folders) > 3 else "")
    return f"{few} hold {count:,} VOC annotations (XML)"


def existing_splits(root: Path, needs: Needs = BOXES) -> list[str]:
    """The splits that can be asked for by name."""
    return sorted(Layout.of(root, needs).splits())


class _Objects:
    """All objects of some XML files, flat: `codes` index `names`, boxes are continuous."""

    def __init__(self, root: Path, files: Sequence[str], bare: Set[str] = frozenset()) -> None:
        self.names: list[str] = []
        self.codes, self.difficult, self.numbers = array("q"), array("b"), array("q")
        self.boxes = array("d")
        self.counts: list[int] = []
        self.sizes = np.zeros((len(files), 2), np.int32)
        code_of: dict[str, int] = {}
        for i, file in enumerate(
            tqdm(files, "reading XML", leave=False, disable=len(files) < MANY)
        ):
            if file in bare:  # a picture without XML
                self.counts.append(0)
                continue
            annotation = _parse(root / file)
            self.sizes[i] = _stated_size(annotation, root / file)
            objects = annotation.findall("object")
            for number, thing in enumerate(objects, 1):
                name = (thing.findtext("name") or "").strip()
                record = f"object {number} ({name or 'no name'})"
                if not name:
                    raise _incomplete(root / file, record, "name")
                self.codes.append(code_of.setdefault(name, len(code_of)))
                self.boxes.extend(_box(thing, root / file, record))
                self.difficult.append((thing.findtext("difficult") or "0").strip() == "1")
                self.numbers.append(number)
            self.counts.append(len(objects))
        self.names = list(code_of)


def _parse(path: Path) -> ET.Element:
    """The <annotation> of a file.

    Raises:
        DetkitError: the XML is broken, or not VOC's. Its objects would silently be none.
    """
    root = _root(path)
    if root.tag != "annotation":
        raise DetkitError(
            f"The XML is a <{root.tag}>, not VOC's <annotation> of one image.",
            file=path,
            remedy="export it as Pascal VOC, or move the file out of the data set.",
        )
    return root


def _root(path: Path) -> ET.Element:
    """Its outermost element, all names without namespaces and in small letters."""
    try:
        data = foreign.read_bytes(path)
        declared = _ENCODING.match(data)
        if not declared or declared[1].lower() in (b"utf-8", b"utf8"):
            root = ET.fromstring(foreign.decoded(data, path))
        else:
            try:
                root = ET.fromstring(data)
            except (ValueError, LookupError):  # not an encoding of the parser's
                root = ET.fromstring(_decoded(data, path))  # of text it ignores the declaration
    except ET.ParseError as fault:
        line, column = fault.position
        raise DetkitError(
            f"The XML is broken ({str(fault).partition(':')[0]}).",
            file=path,
            record=f"line {line}, column {column + 1}",
            remedy="correct the file, or write it anew.",
        ) from fault
    except OSError as fault:
        raise splits.unreadable(path, fault) from fault
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2].lower()
    return root


def _decoded(data: bytes, path: Path) -> str:
    """The text in the encoding that the file declares, such as GBK."""
    declared = _ENCODING.match(data)
    name = declared[1].decode("ascii") if declared else "unknown"
    try:
        return data.decode(_WIDER.get(name.lower(), name))
    except (LookupError, UnicodeError) as fault:
        raise DetkitError(
            f"The XML cannot be read in its encoding {name} ({fault}).",
            file=path,
            record="line 1",
            remedy="correct the encoding that is declared, or save the file as UTF-8.",
        ) from fault


def _stated_size(annotation: ET.Element, path: Path) -> tuple[int, int]:
    """(height, width); 0, 0 where the file has none, or the zeros that some tools write."""
    texts = [annotation.findtext(f"size/{key}") or "0" for key in ("height", "width")]
    try:
        height, width = map(float, texts)
    except ValueError:
        return 0, 0
    if max(abs(height), abs(width)) > LONGEST:
        raise DetkitError(
            f"The image would be {texts[1]} wide and {texts[0]} high.",
            file=path,
            record="size",
            remedy="correct the size, or remove it: the picture's counts then.",
        )
    return (0, 0) if np.isnan([height, width]).any() else (int(height), int(width))


def _box(thing: ET.Element, path: Path, record: str) -> tuple[float, float, float, float]:
    """1-based inclusive → continuous."""
    box = thing.find("bndbox")
    if box is None:  # told by `checks`, which may leave such objects out
        return (math.nan,) * 4
    corners = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = box.findtext(key)
        if text is None:
            raise _incomplete(path, record, f"bndbox/{key}")
        try:
            corners.append(float(text))
        except ValueError:
            raise DetkitError(
                f"{key} is {text!r}, not a number.",
                file=path,
                record=record,
                remedy="correct the box, or remove the object.",
            ) from None
    return corners[0] - 1, corners[1] - 1, corners[2], corners[3]


def _incomplete(path: Path, record: str, key: str) -> DetkitError:
    return DetkitError(
        f"<{key}> is missing.", file=path, record=record, remedy="complete or remove the object."
    )


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
    found = _Objects(layout.root, files, bare)
    everywhere = set(found.names)
    if classes is None:  # every split has to count the same classes
        others = {xml for part in layout.parts.values() for xml in part.xml.values()} - set(files)
        everywhere |= set(_Objects(layout.root, sorted(others)).names)
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
        notes=(*unread(layout), *_kept(sorted(bare), len(files))),
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
    lists = [path.as_posix() for part in layout.parts.values() for path in part.lists.values()]
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
        root = _root(folder / f"{stem}.xml")
    except DetkitError:
        return False
    said = f"{root.findtext('folder')} {root.findtext('source/database')}"
    return re.search(_VOC_YEAR, said) is not None
