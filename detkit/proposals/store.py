"""Selective search through a cache on disk, so that an image is searched once, whoever asks.

A file holds the boxes of one image, as `.npy` with its SHA-256 behind it. Its name is the SHA-256
of the pixels and of the settings: another image or setting is another file, nothing goes stale.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detkit import foreign
from detkit.atomic import write_bytes
from detkit.folders import in_home
from detkit.proposals.proposer import proposers
from detkit.proposals.selective_search import MIN_SIDE, VERSION, WIDTH, rgb, selective_search
from detkit.ranges import Count, Natural

DIGEST = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """Where boxes are kept if nobody names a folder: `~/.cache/detkit/proposals`."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return in_home(home) / "detkit" / "proposals"


@proposers.register("selective_search")
class SelectiveSearch:
    """Selective search (Uijlings et al. 2013), each image once.

    Several processes may share a folder; a file that is damaged is made anew.

    Args:
        mode: the paper's strategies: `single`, `fast` or `quality`.
        seed: of the random factors in the ranking.
        at_most: boxes an image, the best; null for all. The cache holds all of them anyway.
        width: to which images are resized before; null keeps their size.
        min_side: pixels of the resized image that both sides of a box have at least.
        folder: of the cache; null is ~/.cache/detkit/proposals (XDG_CACHE_HOME is heeded).
    Attributes:
        searched: how many images were not in the cache.
    """

    def __init__(
        self,
        *,
        mode: Literal["single", "fast", "quality"] = "fast",
        seed: Natural = 0,
        at_most: Count | None = None,
        width: Count | None = WIDTH,
        min_side: Natural = MIN_SIDE,
        folder: str | Path | None = None,
    ) -> None:
        self.settings: dict[str, Any] = {
            "mode": mode,
            "seed": seed,
            "width": width,
            "min_side": min_side,
        }
        self.at_most = at_most
        self.folder = cache_folder() if folder is None else in_home(folder)
        self.searched = 0

    def __call__(
        self, image: NDArray, *, image_id: int | str = "", file: str = ""
    ) -> NDArray[np.float32]:
        """See `Proposer`; neither id nor file is looked at.

        Raises:
            DetkitError: no such mode, or a folder that cannot be written to.
        """
        image = rgb(image)
        path = self.path(image)
        boxes = read(path)
        if boxes is None:
            boxes = selective_search(image, **self.settings)
            write(path, boxes)
            self.searched += 1
        return boxes[: self.at_most]

    def path(self, image: NDArray) -> Path:
        """Where the boxes of an image are kept."""
        pixels = rgb(image)
        what = json.dumps([VERSION, self.settings, pixels.shape], sort_keys=True)
        key = hashlib.sha256(what.encode() + pixels.tobytes()).hexdigest()
        return self.folder / key[:2] / f"{key}.npy"


def write(path: Path, boxes: NDArray[np.float32]) -> None:
    """Keeps (P, 4) float32 boxes: the whole file or none."""
    buffer = io.BytesIO()
    np.save(buffer, boxes, allow_pickle=False)
    data = buffer.getvalue()
    write_bytes(path, data + hashlib.sha256(data).digest())


def read(path: Path) -> NDArray[np.float32] | None:
    """The boxes that were kept; None without a file, or where it is not as it was written."""
    try:
        data = foreign.read_bytes(path)
    except OSError:
        return None
    if hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
        return None
    return np.load(io.BytesIO(data[:-DIGEST]), allow_pickle=False)
