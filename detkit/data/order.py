"""Which images make which batch, in an order that is a pure function of the step.

Training sees one endless row of images: epoch after epoch, each in an order of its own, drawn from
(seed, epoch). Step s takes the images s·G … s·G + G − 1 of that row, G the batch size of all ranks
together. So an epoch shows every image, no batch is partial, the last batch of an epoch may begin
the next one, and going on at a step needs nothing but its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from detkit.data.balance import repeat_factors
from detkit.data.loading import Batches, Dataset, Key
from detkit.data.records import Records
from detkit.errors import DetkitError

SIDE_STEPS = 10  # batches of one size, before another one is drawn


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
    accumulate: int = 1,
    pin_memory: bool = False,
) -> Batches:
    """The batches of the steps `start` … `steps` − 1.

    Args:
        batch_size: of one rank; the ranks together take the batch that one process with
            `batch_size * world` would take.
        seed: of the order; the same on every rank.
        repeat_thresh: show images of classes rarer than this share more often (balance.py).
        accumulate: batches of one update, which have one size.
    Raises:
        DetkitError: there is no image to train on, or one that cannot be read.
    """
    if not len(dataset):
        raise DetkitError(
            "There is no image to train on.",
            file=dataset.records.root,
            remedy="check dataset.root and dataset.train_split.",
        )
    share = (batch_size, rank, world)
    sides = tuple(dataset.transform.variants), accumulate
    row = _Row(dataset.records, range(start, steps), share, seed, repeat_thresh, sides)
    return Batches(dataset, row, workers, pin_memory)


def evaluation_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
) -> Batches:
    """Each image once over all ranks, those of one size side by side.

    So batches are padded little: an image's predictions depend a bit on the padding around it.
    Objects cut out of photos stay side by side with others of their photo, which is then read once.
    """
    height, width = dataset.records.sizes.T
    order = np.lexsort((-width, -height))  # largest first: memory runs out at once, or not at all
    if dataset.records.crops is not None:
        order = np.arange(len(dataset))
    mine = order[rank::world].tolist()
    starts = range(0, len(mine), batch_size)
    keys: list[list[Key]] = [[Key(0, i) for i in mine[at : at + batch_size]] for at in starts]
    return Batches(dataset, keys, workers, pin_memory)


def epoch_length(records: Records, repeat_thresh: float | None = None) -> int:
    """Images that an epoch shows, those that are repeated as often as they are."""
    if repeat_thresh is None:
        return len(records)
    # floating-point sums of whole numbers must not add an image
    return int(np.ceil(repeat_factors(records, repeat_thresh).sum() - 1e-6))


class _Row:
    """The endless row of images, cut into one process's batches.

    Args:
        steps: whose batches.
        share: images of a batch of this process, its rank, and how many processes there are.
        sides: of the square, one of which each run of `SIDE_STEPS` updates has, none if empty; and
            how many steps an update is.
    """

    def __init__(
        self,
        records: Records,
        steps: range,
        share: tuple[int, int, int],
        seed: int,
        repeat_thresh: float | None,
        sides: tuple[Sequence[int], int] = ((), 1),
    ) -> None:
        self.steps = steps
        self.sides, self.accumulate = sides
        self.share = share
        self.seed = seed
        self.images = len(records)
        self.length = epoch_length(records, repeat_thresh)
        self.factors = None if repeat_thresh is None else repeat_factors(records, repeat_thresh)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        current, order = -1, np.zeros((0, 2), np.int64)
        size, rank, world = self.share
        for step in self.steps:
            keys: list[Key] = []
            side = self.side(step)
            for place in range(step * size * world + rank, (step + 1) * size * world, world):
                epoch, position = divmod(place, self.length)
                if epoch != current:
                    current, order = epoch, self.order(epoch)
                index, copy = order[position].tolist()
                keys.append(Key(epoch, index, copy, side))
            yield keys

    def side(self, step: int) -> int:
        """The side of the square of a step's images (YOLOv2, section 2), 0 where there is none."""
        if not self.sides:
            return 0
        rng = np.random.default_rng(
            (self.seed, step // self.accumulate // SIDE_STEPS, len(self.sides))
        )
        return int(rng.choice(self.sides))

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
