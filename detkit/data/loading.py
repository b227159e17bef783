"""From a record to a batch: read, transformed, collated, here or in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from detkit.data.records import Records
from detkit.data.transforms import Loaded, Transform
from detkit.errors import DetkitError
from detkit.structures import IGNORE, Batch, Targets

Key = tuple[int, ...]  # epoch, image index, and which copy of it in that epoch if not the first
NEEDS: dict[str, frozenset[str]] = {
    "detect": frozenset({"boxes"}),
    "segment_pixels": frozenset({"pixels"}),
    "segment_instances": frozenset({"boxes", "masks"}),
}
KILLED = "DataLoader worker (pid"  # as PyTorch says it
ENDED = ("Terminated", "Interrupt", "Hangup")  # and of what did it, if it was no lack of memory
STRIDE = 32  # batches are padded to a multiple of it: the coarsest level of every backbone


class Dataset:
    """Transformed images by (epoch, index).

    Args:
        records: the data set.
        transform: what makes the network's image of the file's.
        seed: of the random changes.
        needs: of NEEDS: what the model's task asks for besides images.
    """

    def __init__(
        self,
        records: Records,
        transform: Transform,
        *,
        seed: int = 0,
        needs: frozenset[str] = NEEDS["detect"],
    ) -> None:
        self.records = records
        self.transform = transform
        self.seed = seed
        self.needs = needs

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> Loaded:
        """One image (3, H, W), what it shows and where it came from.

        Raises:
            DetkitError: naming the image, whatever went wrong with it.
        """
        index = key[1]
        try:
            return self._load(key, index)
        except DetkitError:
            raise
        except Exception as error:
            raise DetkitError(
                f"The image cannot be prepared: {type(error).__name__}: {error}",
                file=self.records.path(index),
                remedy="with training.workers=0 Python shows where.",
            ) from error

    def _load(self, key: Key, index: int) -> Loaded:
        records = self.records
        image = records.image(index)
        sample = self.transform(
            image,
            records.annotation(index),
            self._needed("masks", index),
            self._needed("pixels", index),
            seed=(self.seed, *key),
        )
        size = (image.shape[0], image.shape[1])
        return sample.loaded(records.image_id(index), index, str(records.path(index)), size)

    def _needed(self, kind: str, index: int) -> np.ndarray | None:
        if kind not in self.needs:
            return None
        found = getattr(self.records, kind)(index)
        if found is None:
            what = "instance masks" if kind == "masks" else "class of each pixel"
            raise DetkitError(
                f"The data set has no {what}, which the model learns from.",
                file=self.records.path(index),
                remedy="choose data with masks, or a model that detects boxes.",
            )
        return found


def collate(samples: Sequence[Loaded]) -> Batch:
    """One batch; images, masks and pixel classes are padded at the right and bottom."""
    images = [image for image, _, _ in samples]
    if len({image.dtype for image in images}) > 1:  # 8-bit among 16-bit files
        images = [i / 255 if i.dtype == torch.uint8 else i for i in images]
    sizes = torch.tensor([image.shape[-2:] for image in images])
    height, width = ((sizes.amax(0) + STRIDE - 1) // STRIDE * STRIDE).tolist()

    def pad(tensor: Tensor | None, value: int = 0) -> Tensor | None:
        if tensor is None:
            return None
        below, beside = height - tensor.shape[-2], width - tensor.shape[-1]
        return F.pad(tensor, (0, beside, 0, below), value=value)

    batch = images[0].new_zeros(len(images), 3, height, width)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    targets = [
        replace(target, masks=pad(target.masks), pixels=pad(target.pixels, IGNORE))
        for _, target, _ in samples
    ]
    return Batch(batch, sizes, targets, [frame for _, _, frame in samples])


class Keys(Protocol):
    """The keys of each batch; a generator would last for one pass only."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Key]]: ...


class Batches:
    """Batches loaded here or by forked workers, the same ones in every pass.

    Args:
        dataset: what the keys are of.
        keys: of each batch, in order.
        workers: processes; 0 loads here.
        pin_memory: put batches where a GPU can fetch them by itself.
    """

    def __init__(self, dataset: Dataset, keys: Keys, workers: int, pin_memory: bool) -> None:
        self.keys = keys
        workers = min(workers, len(keys))
        self.loader: DataLoader[Any] = DataLoader(
            _Fetch(dataset),  # type: ignore[arg-type]
            batch_sampler=keys,
            collate_fn=_as_it_is,
            num_workers=workers,
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # else each pass would move the global random state
        )

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        """
        Raises:
            DetkitError: an image could not be loaded, by a worker or here; or a worker was killed.
        """
        try:
            for parcel in self.loader:
                if isinstance(parcel, DetkitError):
                    raise parcel
                yield parcel.batch()
        except RuntimeError as error:
            if KILLED not in str(error):
                raise
            raise killed(error) from error


def killed(error: Exception) -> DetkitError:
    """The error for PyTorch's about a worker, which comes wherever this process is just then."""
    ended = any(word in str(error) for word in ENDED)
    memory = "memory may have run out (/dev/shm too): set training.workers (workers) lower."
    return DetkitError(
        f"A loading process was killed: {error}",
        remedy="somebody ended it; resume= goes on from a run's last save." if ended else memory,
    )


@dataclass(frozen=True)
class _Parcel:
    """A batch on its way from a worker.

    A tensor costs a file descriptor there, and a thousand are all that there are, so those of the
    images' objects travel joined.
    """

    images: Batch
    counts: list[int]
    joined: dict[str, Tensor]
    pixels: Tensor | None

    @staticmethod
    def of(batch: Batch) -> _Parcel:
        first = batch.targets[0]
        joined = {
            name: torch.cat([getattr(target, name) for target in batch.targets])
            for name in ("boxes", "labels", "crowd", "difficult", "masks")
            if getattr(first, name) is not None
        }
        pixels = [target.pixels for target in batch.targets if target.pixels is not None]
        return _Parcel(
            replace(batch, targets=[]),
            [len(target) for target in batch.targets],
            joined,
            torch.stack(pixels) if pixels else None,
        )

    def batch(self) -> Batch:
        parts = {name: tensor.split(self.counts) for name, tensor in self.joined.items()}
        targets = [
            Targets(
                **{name: part[i] for name, part in parts.items()},
                pixels=None if self.pixels is None else self.pixels[i],
            )
            for i in range(len(self.counts))
        ]
        return replace(self.images, targets=targets)

    def pin_memory(self) -> _Parcel:
        """For the DataLoader, which calls it by this name."""
        return replace(
            self,
            images=self.images.pin_memory(),
            joined={name: tensor.pin_memory() for name, tensor in self.joined.items()},
            pixels=None if self.pixels is None else self.pixels.pin_memory(),
        )


@dataclass(frozen=True)
class _Fetch:
    """What a worker does for a batch; raised there an error would come out as mere text."""

    dataset: Dataset

    def __getitems__(self, keys: list[Key]) -> _Parcel | DetkitError:  # PyTorch's name for it
        try:
            return _Parcel.of(collate([self.dataset[key] for key in keys]))
        except DetkitError as error:
            return error


def _as_it_is(parcel: Any) -> Any:
    return parcel


def _start_worker(worker: int) -> None:
    """One thread each (torch has done so); signals are for the main process, which still needs
    this one to end its step: terminals, torchrun and schedulers send them to every process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # on macOS and Windows PyTorch's own handling stays
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_for, args=(os.getppid(),), daemon=True).start()

    import cv2

    cv2.setNumThreads(0)


def _end_for(main: int) -> None:
    """End this process at a SIGTERM of the main one, which ends its workers so; at no other's.

    A thread of its own hears it also while the others are deep in a library.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)
