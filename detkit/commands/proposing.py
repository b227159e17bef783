"""The proposals of a run's pictures, made before its first step so that no step waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np

from detkit import distributed
from detkit.commands.opening import Data
from detkit.distributed import World
from detkit.evaluation.proposals import proposal_figures
from detkit.proposals.data_set import Proposed, propose
from detkit.proposals.proposer import Proposer
from detkit.training.journal import Journal, duration


def propose_first(
    data: Data, proposer: Proposer, workers: int, journal: Journal, world: World
) -> None:
    """Makes the proposals of both splits, in the main process and its workers, and says of each
    split how many they are and how many objects they cover.

    What is slow to make is kept by the proposer itself, so only few of what comes back is.

    Args:
        workers: processes; 0 works in this one.
    Raises:
        DetkitError: what the proposer raises, or an image that cannot be read.
    """
    if world.main:
        for split, records in ((data.train_split, data.records), (data.val_split, data.val)):
            journal.say(f"making the proposals of the {len(records):,} images of {split}")
            start = time.monotonic()
            kept: list[bool] = []
            found = _boxes(propose(proposer, records, workers=workers), kept)
            figures = proposal_figures(records, found)
            shown = [f"{figures['proposals/boxes'] or 0:,.0f} boxes an image"]
            for key in ("recall@0.5", "MABO"):
                if (value := figures[f"proposals/{key}"]) is not None:
                    shown.append(f"{key} {value:.3f}")
            if hasattr(proposer, "searched"):
                shown.append(_made(len(records) - sum(kept), len(records)))
            took = duration(time.monotonic() - start)
            journal.say(f"proposals of {split}: {', '.join(shown)}; {took}")
    distributed.barrier(world)


def _boxes(found: Iterable[Proposed], kept: list[bool]) -> Iterator[np.ndarray]:
    """The boxes of each image; `kept` gets whether they were there already."""
    for of_image in found:
        kept.append(of_image.cached)
        yield of_image.boxes


def _made(made: int, images: int) -> str:
    """A changed picture, or another setting, is another one to the cache: it is made anew."""
    if made == images:
        return "made anew for all, none was kept of these pixels and settings"
    return f"made anew for {made:,}, kept for {images - made:,} of the same pixels and settings"
