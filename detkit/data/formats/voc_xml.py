"""The XML files of Pascal VOC: the objects of many, flat, and what is wrong in one."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from array import array
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detkit import foreign
from detkit.data import splits
from detkit.errors import DetkitError

MANY = 5000  # files, from which on reading shows its progress
LONGEST = 2**31 - 1  # pixels that a side can have in Records
_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_WIDER = {"gbk": "gb18030", "gb2312": "gb18030"}  # what files hold that declare the narrow one


class Objects:
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
    root = root_of(path)
    if root.tag != "annotation":
        raise DetkitError(
            f"The XML is a <{root.tag}>, not VOC's <annotation> of one image.",
            file=path,
            remedy="export it as Pascal VOC, or move the file out of the data set.",
        )
    return root


def root_of(path: Path) -> ET.Element:
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
