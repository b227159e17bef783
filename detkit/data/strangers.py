"""Annotations that are not read: whose they are, so that a refusal can say what to export."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from detkit import foreign
from detkit.data import splits
from detkit.errors import DetkitError

HEAD = 1 << 16  # bytes that a file is known by
LOOKED_AT = 20  # files of a kind and folder
DEPTH = 2
EXPORT = "export the data as COCO (JSON), as Pascal VOC (XML) or as YOLO (text files)"
# by suffix: whose the file is, and what its beginning holds, all of it
SIGNS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    ".json": (
        ("labelme's", (r'"shapes"\s*:', r'"imagePath"\s*:')),
        ("VoTT's", (r'"assets?"\s*:', r'"(regions|format)"\s*:')),
        ("VGG Image Annotator's", (r'"(_via_\w+|shape_attributes)"\s*:',)),
        ("Label Studio's own JSON", (r'"(result|completions)"\s*:', r'"(data|from_name)"\s*:')),
        ("Label Studio's short JSON", (r'"rectanglelabels"\s*:|"label"\s*:', r'"original_width"')),
        ("Datumaro's", (r'"items"\s*:', r'"categories"\s*:\s*\{')),
        ("CreateML's", (r'"coordinates"\s*:', r'"image(filename)?"\s*:')),
        ("Supervisely's", (r'"classTitle"\s*:',)),
        ("BDD's or Scalabel's", (r'"box2d"\s*:',)),
        ("COCO results, not annotations", (r'^\s*\[\s*\{[^}]*"image_id"\s*:',)),
    ),
    ".xml": (("CVAT's own XML", (r"<annotations\b",)),),
    ".csv": (
        ("a table of boxes", (r"\A[^\n]*\bxmin\b",)),
        ("a table of boxes, perhaps makesense's", (r"\A[^\n,]+(,\d+){4},[^\n,]+\.\w+,\d+,\d+",)),
    ),
    ".vott": (("VoTT's", ()),),
    ".tfrecord": (("TensorFlow's records", ()),),
    ".record": (("TensorFlow's records", ()),),
}


def near(root: Path) -> str | None:
    """What lies there in a form that is not read, in a sentence; None if there is nothing."""
    for folder in splits.folders(root, DEPTH) if root.is_dir() else [root.parent]:
        names = splits.names_in(folder) if root.is_dir() else [root.name]
        for suffix, signs in SIGNS.items():
            for name in [name for name in names if name.lower().endswith(suffix)][:LOOKED_AT]:
                with suppress(DetkitError, OSError):  # it is not what it is called
                    text = foreign.glance(folder / name, HEAD)
                    whose = (w for w, asked in signs if all(re.search(a, text) for a in asked))
                    if found := next(whose, None):
                        return f"{splits.below(root, folder / name)} is {found}"
    return None
