"""From a record to a batch: read, transformed, collated, here or in processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from detkit.data.formats import BOXES, Needs
from detkit.data.images import with_channels
from detkit.data.mosaic import Picture, companions, mosaic
from detkit.data.records import Records
from detkit.data.transforms import STRIDE, Loaded, Transform
from detkit.data.workers import KILLED, killed, signals_held, start_worker
from detkit.errors import DetkitError
from detkit.structures import Batch, Targets

NOUNS = {"masks": "instance masks", "pixels": "class of each pixel"}  # for messages
PROPOSALS = "proposals"  # among what a model needs, and their rows in a parcel


class Key(NamedTuple):
    """One image of a batch.

    Attributes:
        epoch, image: of the pass, and in the records.
        repeat: which one of several in that epoch.
        side: of the square that its step asks for (`Transform.variants`), 0 for none.
    """

    epoch: int
    image: int
    repeat: int = 0
    side: int = 0

    @property
    def seed(self) -> tuple[int, ...]:
        """What its random changes depend on: the same ones whatever the side."""
        return self[:3] if self.repeat else self[:2]


class Propose(Protocol):
    """Where a model's proposals come from (`proposals`)."""

    def __call__(self, image: np.ndarray, *, image_id: int | str, file: str) -> np.ndarray:
        """(P, 4) float32 xyxy, pixels of the (H, W, C) image, which is the file's."""


@dataclass(frozen=True)
class Dataset:
    """Transformed images by `Key`.

    Attributes:
        records: the data set.
        transform: what makes the network's image of the file's.
        seed: of the random changes.
        needs: what the model learns from, as in `Model.needs`.
        channels: of the images that come out; None: as the records have them.
        proposer: makes the proposals, where the model needs them.
    """

    records: Records
    transform: Transform
    seed: int = 0
    needs: Needs = BOXES
    channels: int | None = None
    proposer: Propose | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, ...]) -> Loaded:
        """One image (C, H, W), what it shows and where it came from.

        Raises:
            DetkitError: naming the image, whatever went wrong with it.
        """
        key = Key(*key)
        index = key.image
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
        records, seed = self.records, (self.seed, *key.seed)
        transform = self.transform.variants[key.side] if key.side else self.transform
        picture = self._picture(index)
        height, width = picture.image.shape[:2]
        if transform.mosaic:
            labels = records.image_labels
            others = companions(transform.mosaic, seed, index, labels, len(records))
            if others:
                four = [picture, *map(self._picture, others)]
                picture = mosaic(four, transform.canvas(height, width), seed)
                height, width = picture.image.shape[:2]
        sample = transform(*picture, seed=seed)
        file = str(records.path(index))
        return sample.loaded(records.image_id(index), index, file, (height, width))

    def _picture(self, index: int) -> Picture:
        """One of the files, with what the model learns from."""
        records = self.records
        path, original = records.path(index), records.image(index)
        proposals = None
        if self.proposer is not None:
            image_id = records.image_id(index)
            proposals = self.proposer(original, image_id=image_id, file=str(path))
        return Picture(
            with_channels(original, self.channels or records.channels, path),
            records.annotation(index),
            self._needed("masks", index),
            self._needed("pixels", index),
            proposals,
        )

    def _needed(self, kind: str, index: int) -> np.ndarray | None:
        if kind not in self.needs:
            return None
        found = getattr(self.records, kind)(index)
        if found is None:
            raise DetkitError(
                f"The data set has no {NOUNS[kind]}, which the model learns from.",
                file=self.records.path(index),
                remedy="choose data with masks, or a model that detects boxes.",
            )
        return found


def collate(samples: Sequence[Loaded], multiple: int = STRIDE) -> Batch:
    """One batch; images, masks and pixel classes are padded at the right and bottom.

    Args:
        multiple: of so many pixels the sides become a multiple (`Transform.multiple`).
    """
    images = [sample.image for sample in samples]
    if len({image.dtype for image in images}) > 1:  # 8-bit among 16-bit files
        images = [i / 255 if i.dtype == torch.uint8 else i for i in images]
    sizes = torch.tensor([image.shape[-2:] for image in images])
    height, width = ((sizes.amax(0) + multiple - 1) // multiple * multiple).tolist()
    batch = images[0].new_zeros(len(images), len(images[0]), height, width)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return Batch(
        batch,
        sizes,
        [sample.targets.padded(height, width) for sample in samples],
        [sample.frame for sample in samples],
        _all([sample.proposals for sample in samples]),
    )


def _all(values: list[Tensor | None]) -> list[Tensor] | None:
    known = [value for value in values if value is not None]
    return known if known else None


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
            worker_init_fn=start_worker,
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
            for parcel in self._begun():  # in no variable: an error's traceback would keep it
                if isinstance(parcel, DetkitError):
                    raise parcel
                yield parcel.batch()
        except RuntimeError as error:
            if KILLED not in str(error):
                raise
            raise killed(error) from error

    def _begun(self) -> Iterator[DetkitError | _Parcel]:
        if not self.loader.num_workers:
            return iter(self.loader)
        with signals_held():
            return iter(self.loader)


@dataclass(frozen=True)
class _Parcel:
    """A batch on its way from a worker.

    A tensor costs a file descriptor there, and a thousand are all that there are, so those of all
    images travel joined.

    Attributes:
        counts: objects of each image, and its proposals.
        objects: by the field of Targets, all images' rows one after the other; `PROPOSALS` too.
        maps: by the field of Targets, (B, …) what each whole image has.
    """

    images: Batch
    counts: dict[str, list[int]]
    objects: dict[str, Tensor]
    maps: dict[str, Tensor]

    @staticmethod
    def of(batch: Batch) -> _Parcel:
        first, proposals = batch.targets[0], batch.proposals
        rows = {
            name: [getattr(target, name) for target in batch.targets] for name in first.of_objects()
        }
        counts = {name: list(map(len, tensors)) for name, tensors in rows.items()}
        if proposals is not None:
            rows[PROPOSALS], counts[PROPOSALS] = proposals, list(map(len, proposals))
        return _Parcel(
            replace(batch, targets=[], proposals=None),
            counts,
            {name: torch.cat(tensors) for name, tensors in rows.items()},
            {
                name: torch.stack([getattr(target, name) for target in batch.targets])
                for name in first.of_image()
            },
        )

    def batch(self) -> Batch:
        parts = {name: rows.split(self.counts[name]) for name, rows in self.objects.items()}
        proposals = parts.pop(PROPOSALS, None)
        targets = [
            Targets(
                **{name: part[i] for name, part in parts.items()},
                **{name: of_images[i] for name, of_images in self.maps.items()},
            )
            for i in range(len(self.images))
        ]
        return replace(
            self.images, targets=targets, proposals=None if proposals is None else list(proposals)
        )

    def pin_memory(self) -> _Parcel:
        """For the DataLoader, which calls it by this name."""
        return replace(
            self,
            images=self.images.pin_memory(),
            objects={name: tensor.pin_memory() for name, tensor in self.objects.items()},
            maps={name: tensor.pin_memory() for name, tensor in self.maps.items()},
        )


@dataclass(frozen=True)
class _Fetch:
    """What a worker does for a batch; raised there an error would come out as mere text."""

    dataset: Dataset

    def __getitems__(self, keys: list[Key]) -> _Parcel | DetkitError:  # PyTorch's name for it
        try:
            samples = [self.dataset[key] for key in keys]
            return _Parcel.of(collate(samples, self.dataset.transform.multiple))
        except DetkitError as error:
            return error


def _as_it_is(parcel: Any) -> Any:
    return parcel
