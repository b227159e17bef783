"""Whether a data set's pictures are those of before: by size and time, else by hash.

Pixels may change while names, sizes and annotations stay. A copied or moved data set has other
times, but the same contents.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from detkit import checkpoint, foreign
from detkit.data import splits
from detkit.data.records import Records
from detkit.errors import DetkitError

FILE = "contents.safetensors"  # in the run's folder
MANY = 5000  # files, from which on hashing shows its progress
PIECE = 1 << 20  # bytes read at once
SHOWN = 5  # changed files that are named


def write(folder: Path, data: Sequence[Records]) -> None:
    """Notes what the files of each split are; what is noted already and unchanged stays.

    Drawn data have no files, and without any nothing is written.
    """
    before = _read(folder)
    tensors: dict[str, Tensor] = {}
    for n, records in enumerate(data):
        if files := _files(records):
            stats, digests = _stats(files), before.get(f"{n}/digests")
            new = _differing(stats, before.get(f"{n}/stats"))
            kept = np.zeros((len(files), 16), np.uint8) if digests is None else digests.numpy()
            kept[new] = _digests([files[i] for i in new])
            tensors |= {
                f"{n}/stats": torch.from_numpy(stats),
                f"{n}/digests": torch.from_numpy(kept),
            }
    if tensors:
        checkpoint.replace_tensors(folder / FILE, tensors)


def check(folder: Path, data: Sequence[Records]) -> None:
    """Compares the files of each split with what `write` noted, if it did.

    Raises:
        DetkitError: the contents of some are others.
    """
    before = _read(folder)
    for n, records in enumerate(data):
        files, digests = _files(records), before.get(f"{n}/digests")
        if digests is None or len(digests) != len(files):
            continue  # other data altogether are told by their fingerprint
        touched = _differing(_stats(files), before.get(f"{n}/stats"))
        now = _digests([files[i] for i in touched])
        same = (now == digests.numpy()[touched]).all(1)
        changed = [splits.below(records.root, files[i]) for i in touched[~same]]
        if changed:
            more = f" and {len(changed) - SHOWN:,} more" if len(changed) > SHOWN else ""
            raise DetkitError(
                f"{len(changed):,} of {len(files):,} files of the data ({records.source}) are not"
                f" as the run began with them: {', '.join(changed[:SHOWN])}{more}.",
                file=records.root,
                remedy="restore them, or start a new run from this one's weights with weights=.",
            )


def _files(records: Records) -> list[Path]:
    """Pictures, then index masks; none of drawn data."""
    if records.render is not None:
        return []
    places = range(len(records))
    masks = [] if records.pixel_files is None else [records.mask_path(i) for i in places]
    return [records.path(i) for i in places] + masks


def _read(folder: Path) -> dict[str, Tensor]:
    file = folder / FILE
    return checkpoint.read_tensors(file) if foreign.is_file(file) else {}


def _stats(files: Sequence[Path]) -> np.ndarray:
    """(F, 2) int64: size in bytes, and time of the last change in nanoseconds."""
    found = np.zeros((len(files), 2), np.int64)
    for i, file in enumerate(files):
        try:
            stat = os.stat(file)  # noqa: PTH116  four times as fast
        except OSError as fault:
            raise splits.unreadable(file, fault) from fault
        found[i] = stat.st_size, stat.st_mtime_ns
    return found


def _differing(stats: np.ndarray, before: Tensor | None) -> np.ndarray:
    """The indices of files whose size or time is another."""
    if before is None or before.shape != stats.shape:
        return np.arange(len(stats))
    return np.flatnonzero((stats != before.numpy()).any(1))


def _digests(files: Sequence[Path]) -> np.ndarray:
    """(F, 16) uint8."""
    hashed = tqdm(files, "hashing files", leave=False, disable=len(files) < MANY)
    return np.array([list(_digest(file)) for file in hashed], np.uint8).reshape(-1, 16)


def _digest(file: Path) -> bytes:
    """Of all its bytes: any of them may be what changed."""
    found = hashlib.blake2b(digest_size=16)
    try:
        with foreign.opened(file) as stream:
            while piece := stream.read(PIECE):
                found.update(piece)
    except OSError as fault:
        raise splits.unreadable(file, fault) from fault
    return found.digest()
