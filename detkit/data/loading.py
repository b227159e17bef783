"""From Records to batches, in an order that is a pure function of the step.

Training sees one endless row of images: epoch after epoch, each in an order of its own, drawn from
(seed, epoch). Step s takes the images s·G … s·G + G − 1 of that row, G the batch size of all ranks
together. So an epoch shows every image, no batch is partial, the last batch of an epoch may begin
the next one, and going on at a step needs nothing but its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detkit.data.balance import repeat_factors
from detkit.data.records import Records
from detkit.data.transforms import Loaded, Transform
from detkit.data.workers import Batches, Key
from detkit.errors import DetkitError
from detkit.structures import IGNORE, Batch

NEEDS: dict[str, frozenset[str]] = {
    "detect": frozenset({"boxes"}),
    "segment_pixels": frozenset({"pixels"}),
    "segment_instances": frozenset({"boxes", "masks"}),
}
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


def training_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    steps: int,
    start: int = 0,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    repeat_thresh: float | None = None,
    pin_memory: bool = False,
) -> Batches:
    """The batches of the steps `start` … `steps` − 1.

    Args:
        batch_size: of one rank; the ranks together take the batch that one process with
            `batch_size * world` would take.
        seed: of the order; the same on every rank.
        repeat_thresh: show images of classes rarer than this share more often (balance.py).
    Raises:
        DetkitError: there is no image to train on, or one that cannot be read.
    """
    if not len(dataset):
        raise DetkitError(
            "There is no image to train on.",
            file=dataset.records.root,
            remedy="check dataset.root and dataset.train_split.",
        )
    whole = batch_size * world
    places = [range(s * whole + rank, (s + 1) * whole, world) for s in range(start, steps)]
    row = _Row(dataset.records, places, seed, repeat_thresh)
    return Batches(dataset.__getitem__, collate, row, workers, pin_memory)


def evaluation_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
) -> Batches:
    """Each image once over all ranks, in order: this rank's are `rank`, `rank + world`, …"""
    mine = range(rank, len(dataset), world)
    starts = range(0, len(mine), batch_size)
    keys: list[list[Key]] = [[(0, i) for i in mine[at : at + batch_size]] for at in starts]
    return Batches(dataset.__getitem__, collate, keys, workers, pin_memory)


def epoch_length(records: Records, repeat_thresh: float | None = None) -> int:
    """Images that an epoch shows, those that are repeated as often as they are."""
    if repeat_thresh is None:
        return len(records)
    # floating-point sums of whole numbers must not add an image
    return int(np.ceil(repeat_factors(records, repeat_thresh).sum() - 1e-6))


class _Row:
    """The endless row of images, cut into the batches at some places of it.

    Args:
        places: of each batch.
    """

    def __init__(
        self, records: Records, places: Sequence[range], seed: int, repeat_thresh: float | None
    ) -> None:
        self.places = places
        self.seed = seed
        self.images = len(records)
        self.length = epoch_length(records, repeat_thresh)
        self.factors = None if repeat_thresh is None else repeat_factors(records, repeat_thresh)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[list[Key]]:
        current, order = -1, np.zeros((0, 2), np.int64)
        for places in self.places:
            keys: list[Key] = []
            for place in places:
                epoch, position = divmod(place, self.length)
                if epoch != current:
                    current, order = epoch, self.order(epoch)
                index, copy = order[position].tolist()
                keys.append((epoch, index, copy) if copy else (epoch, index))
            yield keys

    def order(self, epoch: int) -> np.ndarray:
        """(length, 2) index and copy of an epoch's images.

        Each image occurs as often as its factor, rounded up or down at random so that all epochs
        are equally long and every image is in each.
        """
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(self.images)
        if self.factors is None:
            return np.stack([order, np.zeros_like(order)], 1)
        until = np.cumsum(self.factors[order])
        until *= self.length / until[-1]
        marks = np.floor(until + rng.random()).astype(np.int64)
        marks[-1] = self.length
        counts = np.diff(marks, prepend=0)
        images = np.repeat(order, counts)
        copies = np.arange(self.length) - np.repeat(marks - counts, counts)
        return np.stack([images, copies], 1)[rng.permutation(self.length)]
