"""Loading in processes of their own: what they send, and what becomes of their errors."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from detkit.data.transforms import Loaded
from detkit.errors import DetkitError
from detkit.structures import Batch, Targets

Key = tuple[int, ...]  # epoch, image index, and which copy of it in that epoch if not the first


class Keys(Protocol):
    """The keys of each batch; a generator would last for one pass only."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Key]]: ...


class Batches:
    """Batches loaded here or by forked workers, the same ones in every pass.

    Args:
        load: a key → its image; DetkitError where that fails.
        collate: images → a batch.
        keys: of each batch, in order.
        workers: processes; 0 loads here.
        pin_memory: put batches where a GPU can fetch them by itself.
    """

    def __init__(
        self,
        load: Callable[[Key], Loaded],
        collate: Callable[[Sequence[Loaded]], Batch],
        keys: Keys,
        workers: int,
        pin_memory: bool,
    ) -> None:
        self.keys = keys
        workers = min(workers, len(keys))
        self.loader: DataLoader[Any] = DataLoader(
            _Fetch(load, collate),  # type: ignore[arg-type]
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
            if "DataLoader worker" not in str(error):
                raise
            raise DetkitError(
                f"A loading process was killed: {error}",
                remedy="memory may have run out (/dev/shm too): set training.workers lower.",
            ) from error


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

    load: Callable[[Key], Loaded]
    collate: Callable[[Sequence[Loaded]], Batch]

    def __getitems__(self, keys: list[Key]) -> _Parcel | DetkitError:
        try:
            return _Parcel.of(self.collate([self.load(key) for key in keys]))
        except DetkitError as error:
            return error


def _as_it_is(parcel: Any) -> Any:
    return parcel


def _start_worker(worker: int) -> None:
    """One thread each (torch has done so), and the keyboard's interrupt is the main process's."""
    import cv2

    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
