"""MNIST's idx files: all pictures of a part one after the other, their classes in a second file.

A file begins with two zero bytes, the type of its numbers, how many dimensions they have, and the
size of each as four bytes, big-endian (LeCun, Cortes and Burges, "The MNIST database of handwritten
digits", "File formats"). Read are unsigned bytes: (N, H, W) grey, or (N, H, W, C) with one or three
channels last.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit import foreign
from detkit.data import splits
from detkit.data.draft import class_list
from detkit.data.formats import LABELS, Needs, formats
from detkit.data.records import Records, Strings, offsets_of
from detkit.errors import DetkitError

LOOKS_FOR = "MNIST's files, such as train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz"
DIGITS = tuple(map(str, range(10)))
HELD_OUT = 10  # one of so many pictures of each class in `train` is `val`
FIRST = {"train": 0, "t10k": 10_000_000}  # the id of each part's first picture
PARTS = {"train": ("train",), "val": ("train",), "test": ("t10k",), splits.ALL: ("train", "t10k")}
TYPES = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
MOST = 2**31  # bytes of an unpacked file
_IMAGES = re.compile(r"^(train|t10k|test)-images[-.]idx[34]-ubyte(\.gz)?$")


@dataclass(frozen=True)
class Pictures:
    """All pictures of the parts, in arrays that forked processes share.

    Attributes:
        parts: (N, H, W, C) uint8 of each part, by the id of its first picture.
    """

    parts: dict[int, NDArray[np.uint8]]

    def __call__(self, number: int) -> NDArray[np.uint8]:
        """(H, W, C), a copy: nobody changes the data set."""
        first = max(first for first in self.parts if first <= number)
        return self.parts[first][number - first].copy()


@formats.register("idx")
def read(
    root: Path,
    split: str,
    *,
    needs: Needs = LABELS,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> Records:
    """Read one split.

    Args:
        root: the folder.
        split: `train`, `val` (a tenth of each class of the file of train), `test` (the file t10k),
            several joined with `+`, or `all`.
        needs: `image_labels`; there is nothing else here.
        classes: the names by number; by default the ten digits.
        seed: chooses which tenth of train is `val`.
    Raises:
        DetkitError: no such split or file, a file that is cut off or of another kind, or a class
            beyond the names.
    """
    if "image_labels" not in needs:
        raise DetkitError(
            f"idx files hold no {' and no '.join(sorted(needs))}.",
            file=root,
            remedy="choose a classifier (model=classifier), or a data set with boxes or masks.",
        )
    files, existing = _files(root), existing_splits(root)
    wanted = [splits.find(word, [*existing, splits.ALL]) for word in split.split("+")]
    if None in wanted or not files:
        raise splits.missing(split, existing, root, None)
    names, _ = class_list(DIGITS if classes is None else list(classes), classes)
    parts = [p for p in FIRST if p in files and any(p in PARTS[str(word)] for word in wanted)]
    pictures: dict[int, NDArray[np.uint8]] = {}
    paths, numbers, labels = [], [], []
    for part in parts:
        images, of_part = _pair(files[part], len(names))
        chosen = np.arange(len(images))
        own = {word for word in wanted if part in PARTS[str(word)]}
        if own in ({"train"}, {"val"}):
            held_out = tenths(of_part, seed)
            chosen = np.flatnonzero(held_out if "val" in own else ~held_out)
        pictures[FIRST[part]] = images
        paths += [f"{files[part].name}/{number:05d}" for number in chosen]
        numbers.append(chosen + FIRST[part])
        labels.append(of_part[chosen])
    sides = {images.shape[1:] for images in pictures.values()}
    if len(sides) > 1:
        raise DetkitError(
            f"Pictures are {' and '.join(_shape(shape) for shape in sorted(sides))}.",
            file=root,
            remedy="keep pictures of one size and kind in train and t10k.",
        )
    (height, width, channels) = sides.pop()
    ids, count = np.concatenate(numbers), len(paths)
    if not count:
        raise DetkitError(
            f"The split {split} has no pictures.", file=root, remedy="choose another one."
        )
    tenth = " (a tenth of each class of train is val)" if {"train", "val"} & set(wanted) else ""
    return Records(
        names=tuple(names),
        category_ids=np.arange(len(names)),
        source=f"idx files, {' and '.join(files[part].name for part in parts)}: {split}{tenth}",
        root=files[parts[0]].parent,
        files=Strings.of(paths),
        image_ids=Strings.of(map(str, ids)),
        integer_ids=True,
        sizes=np.full((count, 2), (height, width), np.int32),
        offsets=offsets_of(np.zeros(count, np.int64)),
        boxes=np.zeros((0, 4)),
        labels=np.zeros(0, np.int64),
        crowd=np.zeros(0, bool),
        difficult=np.zeros(0, bool),
        areas=np.zeros(0),
        image_labels=np.concatenate(labels),
        channels=channels,
        render=Pictures(pictures),
    )


def recognises(root: Path, needs: Needs = LABELS) -> str | None:
    """Why these are idx files: the first one's name. None if there is none."""
    if "image_labels" not in needs or not root.is_dir():
        return None
    found = _files(root)
    first = next((found[part] for part in FIRST if part in found), None)
    return f"{splits.below(root, first)} is one of MNIST's files" if first else None


def existing_splits(root: Path, needs: Needs = LABELS) -> list[str]:
    """`train` and `val` where the file of train is there, `test` where t10k is."""
    files = _files(root)
    return [word for word in ("test", "train", "val") if PARTS[word][0] in files]


def tenths(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """(N,) which pictures are `val`: of each class a tenth, rounded, at least one of two."""
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))
        count = max(round(len(members) / HELD_OUT), int(len(members) > 1))
        held_out[members[:count]] = True
    return held_out


def _files(root: Path) -> dict[str, Path]:
    """The file of pictures of each part, unpacked where both are there; the first one found."""
    found: dict[str, Path] = {}
    for folder in splits.folders(root, depth=2):
        for name in splits.names_in(folder):
            if match := _IMAGES.match(name):
                found.setdefault("train" if match[1] == "train" else "t10k", folder / name)
    return found


def _pair(file: Path, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(N, H, W, C) uint8 pictures and (N,) int64 classes of one part.

    Raises:
        DetkitError: no file of classes, other counts, or a class that is beyond the names.
    """
    images = array_of(file)
    stem = re.sub(r"idx[34]", "idx1", file.name.replace("-images", "-labels")).removesuffix(".gz")
    places = [file.parent / name for name in (stem, f"{stem}.gz")]
    beside = next((place for place in places if place.is_file()), None)
    if beside is None:
        raise DetkitError(
            "There is no file of classes for these pictures.",
            file=file,
            remedy=f"add {places[1].name}.",
        )
    labels = array_of(beside)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise DetkitError(
            f"Its numbers are {_shape(images.shape)}, which are no pictures.",
            file=file,
            remedy="write N x height x width, or N x height x width x 3 for RGB.",
        )
    if labels.ndim != 1 or len(labels) != len(images):
        raise DetkitError(
            f"It holds {_shape(labels.shape)} classes, {file.name} {len(images):,} pictures.",
            file=beside,
            remedy="fetch both files again, from the same place.",
        )
    if len(labels) and labels.max() >= classes:
        first = int((labels >= classes).argmax())
        raise DetkitError(
            f"The class is {labels[first]}; the {classes} classes are 0 … {classes - 1}.",
            file=beside,
            record=f"number {first:,}",
            remedy="name every class in dataset.classes, or correct the file.",
        )
    return images, labels.astype(np.int64)


def array_of(file: Path) -> NDArray[np.uint8]:
    """The numbers of an idx file, packed with gzip or not.

    Raises:
        DetkitError: it cannot be read or unpacked, is no idx file, has other numbers than unsigned
            bytes, or ends too early or late.
    """
    try:
        data = foreign.read_bytes(file)
        if data[:2] == b"\x1f\x8b":
            data = _unpacked(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise _broken(file, f"it cannot be unpacked: {fault}") from fault
    except OSError as fault:
        raise splits.unreadable(file, fault) from fault
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES or not data[3]:
        raise _broken(file, f"it begins with {data[:4].hex(' ') or 'nothing'}, as no idx file does")
    if TYPES[data[2]] != TYPES[0x08]:
        raise DetkitError(
            f"The file holds {TYPES[data[2]]}, whose range is not known.",
            file=file,
            record="byte 3",
            remedy="convert it to unsigned bytes (0x08).",
        )
    start = 4 + 4 * data[3]
    shape = tuple(map(int, np.frombuffer(data[4:start], ">u4"))) if len(data) >= start else ()
    wanted = start + math.prod(shape)
    if len(shape) != data[3] or len(data) != wanted:
        numbers = f"{_shape(shape)} need {wanted:,} bytes" if shape else "its sizes are missing"
        raise _broken(file, f"{numbers}, there are {len(data):,}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _unpacked(data: bytes) -> bytes:
    """No more than a byte beyond what the header announces, whatever the file unpacks to."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        head = stream.read(4)
        head += stream.read(4 * head[3]) if len(head) == 4 else b""
        shape = np.frombuffer(head[4:], ">u4", len(head[4:]) // 4)
        return head + stream.read(min(math.prod(map(int, shape)) + 1, MOST))


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(f"{side:,}" for side in shape)


def _broken(file: Path, detail: str) -> DetkitError:
    return DetkitError(
        f"The file is cut off or damaged ({detail}).", file=file, remedy="fetch it again."
    )
