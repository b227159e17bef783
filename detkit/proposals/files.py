"""Proposals in files: COCO's JSON, NumPy's `.npz`, and MATLAB's `.mat` as the papers' authors gave.

- `.json`: a list of `{image_id, bbox: [x, y, width, height]}`, with a `score` in all or none; the
  best first, or by score.
- `.npz`: an array (P, 4) an image, xyxy, named by the image's id or its file's name without suffix.
- `.mat`: cell arrays `images` (names without suffix) and `boxes`: (P, 4) rows y1 x1 y2 x2 of
  inclusive pixels that count from 1, as VOC's. −1, −1, 0, 0 makes them continuous.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit import foreign
from detkit.atomic import replacing, write_text
from detkit.errors import DetkitError
from detkit.folders import in_home
from detkit.proposals import unpacked
from detkit.proposals.proposer import proposers
from detkit.ranges import Count

SHOWN = 5  # ids that a message lists
Arrays = dict[str, NDArray[np.float64]]
MAT_SHIFT = np.array([-1.0, -1.0, 0.0, 0.0])


@proposers.register("file")
class ProposalsFile:
    """Proposals that lie in a file.

    Args:
        path: a `.json`, `.npz` or `.mat`.
        at_most: boxes an image, the first; null for all.
    Attributes:
        clipped: how many boxes so far were cut at the image's border.
        dropped: how many so far had no extent inside the image.
    Raises:
        DetkitError: no such file, one that cannot be read, an odd row, a box that is not finite or
            whose sides are the wrong way round.
    """

    def __init__(self, path: str | Path | None = None, *, at_most: Count | None = None) -> None:
        if path is None:
            raise DetkitError("No file of proposals is named.", remedy="set path=FILE.")
        self.path = in_home(path)
        self.at_most = at_most
        self.clipped = self.dropped = 0
        if self.path.suffix not in READERS:
            raise DetkitError(
                f"Proposals do not come in files of the kind {self.path.suffix!r}.",
                file=self.path,
                remedy=f"give one of: {', '.join(READERS)}.",
            )
        if not self.path.is_file():
            raise DetkitError(
                "There is no such file.", file=self.path, remedy="name one that exists."
            )
        self._boxes = {
            key: _checked(boxes, key, self.path)
            for key, boxes in READERS[self.path.suffix](self.path).items()
        }
        self._numbers = _numbers(self._boxes)

    def __call__(self, image: NDArray, *, image_id: int | str, file: str) -> NDArray[np.float32]:
        """See `Proposer`. An array is found by the id, else by the file's name; in JSON by the id.

        Raises:
            DetkitError: the file has none for this image.
        """
        names = [str(image_id)] if self.path.suffix == ".json" else [str(image_id), Path(file).stem]
        key = next((key for name in names if (key := self._find(name)) is not None), None)
        if key is None:
            known = list(self._boxes)
            listed = ", ".join(known[:SHOWN]) + (", …" if len(known) > SHOWN else "")
            raise DetkitError(
                f"There are no proposals for the image {' or '.join(dict.fromkeys(names))}.",
                file=self.path,
                remedy=f"make them for all images (detkit propose); the file has {len(known):,}:"
                f" {listed or 'none'}.",
            )
        return self._inside(self._boxes[key], *image.shape[:2])[: self.at_most]

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: it reads the file itself, which is less than all boxes' pickle."""
        return functools.partial(ProposalsFile, at_most=self.at_most), (self.path,)

    def _find(self, name: str) -> str | None:
        if name in self._boxes:
            return name
        return None if (number := _number(name)) is None else self._numbers.get(number)

    def _inside(self, boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        inside = boxes.clip(0, [width, height] * 2).astype(np.float32)
        extended = (inside[:, 2:] > inside[:, :2]).all(1)
        self.dropped += int((~extended).sum())
        self.clipped += int((inside != boxes).any(1)[extended].sum())
        return inside[extended]


def write_json(path: str | Path, proposals: Mapping[int | str, NDArray]) -> None:
    """Writes (P, 4) xyxy boxes by image id, best first; an image without boxes leaves no row."""

    def lines() -> Iterator[str]:
        before = "["
        for image_id, boxes in proposals.items():
            corners = np.asarray(boxes, np.float64)
            for x, y, width, height in np.c_[corners[:, :2], corners[:, 2:] - corners[:, :2]]:
                box = [float(x), float(y), float(width), float(height)]
                yield before + json.dumps({"image_id": image_id, "bbox": box})
                before = ","
        yield "[]" if before == "[" else "]"

    write_text(path, lines())


def write_npz(path: str | Path, proposals: Mapping[int | str, NDArray]) -> None:
    """Writes (P, 4) xyxy boxes by image id, best first, as float32."""
    with replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for image_id, boxes in proposals.items():
            # of 1980: the same boxes are the same bytes
            with archive.open(zipfile.ZipInfo(f"{_escaped(image_id)}.npy"), "w") as file:
                np.lib.format.write_array(file, np.asarray(boxes, np.float32), allow_pickle=False)


def _escaped(image_id: int | str) -> str:
    """A name for a ZIP member, which is UTF-8: other bytes of a file's name become %udcXX."""
    return re.sub(r"[\udc80-\udcff]", lambda match: f"%u{ord(match[0]):x}", str(image_id))


def _unescaped(name: str) -> str:
    """The image's id, of what `_escaped` made of it."""
    return re.sub(r"%u(dc[89a-f][\da-f])", lambda match: chr(int(match[1], 16)), name)


def _numbers(keys: Mapping[str, Any]) -> dict[int, str]:
    """Keys by their number, so that 5 finds 000005; without numbers that two keys have."""
    found: dict[int, list[str]] = {}
    for key in keys:
        if (number := _number(key)) is not None:
            found.setdefault(number, []).append(key)
    return {number: same[0] for number, same in found.items() if len(same) == 1}


def _number(key: str) -> int | None:
    """The number that an id is; Python reads none of thousands of digits."""
    return int(key) if key.isdecimal() and len(key) < 1000 else None


def _checked(boxes: NDArray[np.float64], key: str, path: Path) -> NDArray[np.float32]:
    """(P, 4) float32 of one image, all finite, none inverted."""
    wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] < boxes[:, :2]).any(1)
    if wrong.any():
        n = int(np.argmax(wrong))
        finite = np.isfinite(boxes[n]).all()
        corners = ", ".join(f"{value:g}" for value in boxes[n])
        raise DetkitError(
            f"The box {corners} (x1, y1, x2, y2) "
            + ("ends before it begins." if finite else "is not finite."),
            file=path,
            record=f"image {key}, box {n + 1}",
            remedy="correct it, or make the proposals again.",
        )
    return boxes.astype(np.float32)


def _read_json(path: Path) -> Arrays:
    try:
        rows = foreign.read_json(path)
    except (ValueError, OSError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(rows, list):
        raise DetkitError(
            f"Proposals are a list, this is a {type(rows).__name__}.",
            file=path,
            remedy="give the list of {image_id, bbox} alone.",
        )
    scored = bool(rows) and isinstance(rows[0], dict) and "score" in rows[0]
    for n, row in enumerate(rows):
        if fault := _fault(row, scored):
            raise DetkitError(
                fault,
                file=path,
                record=f"row {n + 1}",
                remedy="a row is {image_id, bbox: [x, y, width, height]}, with a score in all"
                " rows or in none.",
            )
    values = np.array([[*row["bbox"], row.get("score", 0)] for row in rows], np.float64)
    values = values.reshape(-1, 5)
    keys = np.array([str(row["image_id"]) for row in rows], object)
    names, of_row = np.unique(keys.astype(str), return_inverse=True)
    values[:, 2:4] += values[:, :2]
    order = np.lexsort((-values[:, 4], of_row))  # stable: equal scores keep the file's order
    ends = np.cumsum(np.bincount(of_row, minlength=len(names)))[:-1]
    boxes = np.split(values[order, :4], ends) if len(names) else []
    return {str(name): of_image for name, of_image in zip(names, boxes, strict=True)}


def _fault(row: Any, scored: bool) -> str | None:
    """What is wrong with a row of JSON."""
    if not isinstance(row, dict):
        return f"This is no row: {json.dumps(row)[:60]}."
    if type(row.get("image_id")) not in (int, str):
        return f"image_id is {json.dumps(row.get('image_id'))[:60]}."
    box = row.get("bbox")
    numbers = isinstance(box, list) and all(map(_is_number, box))
    if not numbers or len(box) != 4:  # type: ignore[arg-type]
        return f"bbox is {json.dumps(box)[:60]}."
    if scored != ("score" in row):
        return "This row has a score, others have none." if not scored else "There is no score."
    if scored and (not _is_number(row["score"]) or row["score"] != row["score"]):
        return f"score is {json.dumps(row['score'])[:60]}."
    return None


def _is_number(value: Any) -> bool:
    """Whether it is one that a float can hold; JSON's whole numbers have no end."""
    return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)


def _read_npz(path: Path) -> Arrays:
    try:
        unpacked.check_zip(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {_unescaped(key): archive[key] for key in archive.files}
    except DetkitError:
        raise
    except Exception as error:  # a decoder on foreign bytes raises anything
        raise _unreadable(path, error) from error
    return {key: _array(array, key, path) for key, array in arrays.items()}


def _read_mat(path: Path) -> Arrays:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DetkitError(
            "SciPy, which reads .mat files, is not installed.",
            file=path,
            remedy="pip install scipy",
        ) from error
    try:
        unpacked.check_mat(path)
        found = loadmat(path, variable_names=["boxes", "images"])
    except NotImplementedError as error:
        raise DetkitError(
            "This is MATLAB's format 7.3.", file=path, remedy="save it there with '-v7'."
        ) from error
    except DetkitError:
        raise
    except Exception as error:  # a decoder on foreign bytes raises anything
        raise _unreadable(path, error) from error
    if missing := {"boxes", "images"} - found.keys():
        raise DetkitError(
            f"It holds no variable {' or '.join(sorted(missing))}.",
            file=path,
            remedy="give a file with the cell arrays boxes and images.",
        )
    names = [str(np.ravel(name)[0]) if np.size(name) else "" for name in found["images"].ravel()]
    cells = found["boxes"].ravel()
    if len(names) != len(cells):
        raise DetkitError(
            f"There are {len(names)} images and boxes of {len(cells)}.",
            file=path,
            remedy="make the proposals again; each image has one cell in each variable.",
        )
    arrays = {n: _array(cell, n, path) for n, cell in zip(names, cells, strict=True)}
    return {name: array[:, [1, 0, 3, 2]] + MAT_SHIFT for name, array in arrays.items()}


def _array(array: Any, key: str, path: Path) -> NDArray[np.float64]:
    """(P, 4) float64 from an array of a file; an empty one of any shape has no boxes."""
    if isinstance(array, np.ndarray) and array.dtype.kind in "iuf":
        if array.ndim == 2 and array.shape[1] == 4:
            return array.astype(np.float64)
        if array.size == 0:
            return np.zeros((0, 4))
    shape = f"{getattr(array, 'dtype', type(array).__name__)} of shape {np.shape(array)}"
    raise DetkitError(
        f"This is {shape}; boxes are numbers of shape (P, 4).",
        file=path,
        record=f"image {key}",
        remedy="make the proposals again, a row a box.",
    )


def _unreadable(path: Path, error: Exception) -> DetkitError:
    why = (str(error) or type(error).__name__).splitlines()[0]
    return DetkitError(
        f"It cannot be read ({why}).",
        file=path,
        remedy="make it again, or fetch it again; a file that ends early was cut.",
    )


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".json": _read_json,
    ".npz": _read_npz,
    ".mat": _read_mat,
}
