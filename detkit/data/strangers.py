"""Annotations that are not read: whose they are, so that a refusal can say what to export."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from detkit import foreign
from detkit.data import splits
from detkit.errors import DetkitError

HEAD = 1 << 16  # bytes at either end of a file, by which it is known
LOOKED_AT = 20  # files of a kind and folder
DEPTH = 3
EXPORT = "export the data as COCO (JSON), as Pascal VOC (XML) or as YOLO (text files)"
CONVERT = "convert it to COCO (JSON), Pascal VOC (XML) or YOLO (text files)"
UNPACK = "unpack it, and set dataset.root to the folder"
FOLDERS = "put the pictures into folders named by their class, such as train/cat/1.jpg"
PAIRS = "list the pairs in train.txt and val.txt, with lines `picture mask`, for a model of pixels"
NUMBER = r"-?\d+(\.\d+)?"


class Sign(NamedTuple):
    """What a file begins or ends with, all of `patterns`, whose it is then, and what to do."""

    whose: str
    patterns: tuple[str, ...] = ()
    remedy: str = EXPORT


# by suffix, the surest first; an archive may lie beside anything
SIGNS: dict[str, tuple[Sign, ...]] = {
    ".json": (
        Sign("labelme's", (r'"shapes"\s*:', r'"imagePath"\s*:')),
        Sign("VoTT's", (r'"assets?"\s*:', r'"(regions|format)"\s*:')),
        Sign("VGG Image Annotator's", (r'"(_via_\w+|shape_attributes)"\s*:',)),
        Sign("Label Studio's own JSON", (r'"(result|completions)"\s*:', r'"(data|from_name)"\s*:')),
        Sign(
            "Label Studio's short JSON", (r'"rectanglelabels"\s*:|"label"\s*:', r'"original_width"')
        ),
        Sign("Datumaro's", (r'"items"\s*:', r'"categories"\s*:\s*\{')),
        Sign("CreateML's", (r'"coordinates"\s*:', r'"image(filename)?"\s*:')),
        Sign("Supervisely's", (r'"(classTitle|geometryType)"\s*:',)),
        Sign("Supervisely's", (r'"objects"\s*:\s*\[', r'"tags"\s*:\s*\[', r'"size"\s*:\s*\{')),
        Sign("BDD's or Scalabel's", (r'"box2d"\s*:',)),
        Sign("Cityscapes'", (r'"imgHeight"\s*:', r'"polygon"\s*:'), PAIRS),
        Sign("COCO's captions, not objects", (r'"caption"\s*:', r'"image_id"\s*:')),
        Sign("COCO's panoptic maps, not objects", (r'"segments_info"\s*:',)),
        Sign("COCO results, not annotations", (r'^\s*\[\s*\{[^}]*"image_id"\s*:',)),
        Sign("Labelbox's", (r'"(data_row|Labeled Data|DataRow ID)"\s*:',)),
    ),
    ".jsonl": (
        Sign("PaliGemma's or Florence's", (r'"suffix"\s*:', r"<loc")),
        Sign("Labelbox's", (r'"data_row"\s*:',)),
        Sign("Hugging Face's", (r'"file_name"\s*:',), CONVERT),
    ),
    ".ndjson": (Sign("Labelbox's", (r'"data_row"\s*:',)),),
    ".odgt": (Sign("CrowdHuman's", (r'"gtboxes"\s*:',), CONVERT),),
    ".xml": (Sign("CVAT's own XML", (r"<annotations\b",)),),
    ".csv": (
        Sign("VGG Image Annotator's", (r"\A[^\n]*\bregion_shape_attributes\b",)),
        Sign("Open Images'", (r"\A[^\n]*\bLabelName\b[^\n]*\bXMin\b",), CONVERT),
        Sign("a table of boxes", (r"(?i)\A[^\n]*\bx_?min\b",)),
        Sign("a table of boxes", (r"(?i)\A[^\n]*\bbbox\b",)),
        Sign(
            "a table of boxes, perhaps makesense's", (r"\A[^\n,]+(,\d+){4},[^\n,]+\.\w+,\d+,\d+",)
        ),
        Sign("a table of boxes, perhaps RetinaNet's", (r"\A[^\n,]+\.\w{3,4}(,\d+){4},[^\n,]+",)),
        Sign("a table of run lengths", (r"(?i)\A[^\n]*(EncodedPixels|\brle\b)",), CONVERT),
        Sign("ImageNet's table", (r"\A[^\n]*\bPredictionString\b",), CONVERT),
        Sign(
            "a table of the classes of whole pictures",
            (r"(?i)\A\W*(file_?names?|file|images?|image_?(id|name|path)|path|id)\W*,[^\n]+",),
            FOLDERS,
        ),
    ),
    ".txt": (
        Sign("DOTA's, of oriented boxes", (r"(?m)^imagesource:|^gsd:",), CONVERT),
        Sign(
            "DOTA's, of oriented boxes",
            (rf"(?m)^({NUMBER}\s+){{8}}[A-Za-z][\w-]*\s+[012]\s*$",),
            CONVERT,
        ),
        Sign("KITTI's", (rf"(?m)^[A-Za-z_]+(\s+{NUMBER}){{14,15}}\s*$",), CONVERT),
        Sign("WIDER FACE's", (r"\A\S+\.jpg\s*\n\d+\s*\n\d+ \d+ \d+ \d+",), CONVERT),
        Sign("MOTChallenge's", (rf"\A\d+,-?\d+(,{NUMBER}){{5,8}}\s*(\n|\Z)",), CONVERT),
        Sign(
            "a list of boxes as Keras' YOLO has it",
            (r"(?m)^\S+\.\w{3,4}( \d+,\d+,\d+,\d+,\d+)+\s*$",),
        ),
    ),
    ".vott": (Sign("VoTT's"),),
    ".tfrecord": (Sign("TensorFlow's records"),),
    ".record": (Sign("TensorFlow's records"),),
    ".tfrecords": (Sign("TensorFlow's records"),),
    ".parquet": (Sign("a table of Arrow's (Hugging Face)", (), CONVERT),),
    ".arrow": (Sign("a table of Arrow's (Hugging Face)", (), CONVERT),),
    ".lmdb": (Sign("a database", (), CONVERT),),
    ".mdb": (Sign("a database", (), CONVERT),),
    ".h5": (Sign("HDF5", (), CONVERT),),
    ".hdf5": (Sign("HDF5", (), CONVERT),),
    ".mat": (Sign("MATLAB's", (), CONVERT),),
    **dict.fromkeys(
        (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar"),
        (Sign("an archive", (), UNPACK),),
    ),
}


def near(root: Path) -> tuple[str, str] | None:
    """What lies there in a form that is not read, and what to do; None if there is nothing."""
    folders = list(splits.folders(root, DEPTH)) if root.is_dir() else [root.parent]
    names = {folder: splits.names_in(folder) for folder in folders}
    if not root.is_dir():
        names = {root.parent: [root.name]}
    for suffix, signs in SIGNS.items():
        for folder, there in names.items():
            for name in [n for n in there if n.lower().endswith(suffix)][:LOOKED_AT]:
                if found := _sign(folder / name, signs):
                    whole = splits.below(root, folder / name) if root.is_dir() else name
                    return f"{whole} is {found.whose}", found.remedy
    return None


def _sign(path: Path, signs: tuple[Sign, ...]) -> Sign | None:
    text = ""
    with suppress(DetkitError, OSError):  # it is not what it is called
        text = foreign.glance_at_ends(path, HEAD) if any(sign.patterns for sign in signs) else ""
    return next((s for s in signs if all(re.search(p, text) for p in s.patterns)), None)
