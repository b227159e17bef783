"""The proposals of a whole data set, in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detkit.data.records import Records
from detkit.errors import DetkitError
from detkit.proposals.proposer import Proposer


class Proposed(NamedTuple):
    """Of one image.

    Attributes:
        boxes: (P, 4) float32, xyxy, pixels of the file's image, best first.
        seconds: of CPU time that they took.
        cached: they were there already.
    """

    boxes: NDArray[np.float32]
    seconds: float
    cached: bool


def propose(proposer: Proposer, records: Records, *, workers: int = 0) -> Iterator[Proposed]:
    """The proposals of every image in their order, under a bar.

    What is cached when it is stopped need not be made again.

    Args:
        workers: processes; 0 for this one alone.
    Raises:
        DetkitError: what the proposer raises, an image that cannot be read, or a process that was
            killed.
    """
    bar = {"total": len(records), "unit": "image", "leave": False}
    if not workers:
        yield from tqdm((_one(proposer, records, i) for i in range(len(records))), **bar)
        return
    # Started anew, not forked: OpenCV may have threads by now.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start, (proposer, records))
    try:
        yield from tqdm(pool.map(_of_worker, range(len(records))), **bar)
    except BrokenProcessPool as error:
        raise DetkitError(
            "A process that makes proposals was killed.",
            remedy="memory may have run out: set workers= lower; what was made is kept.",
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # a second Ctrl-C finds nothing to break off


def _one(proposer: Proposer, records: Records, i: int) -> Proposed:
    image = records.image(i)
    before, start = _searched(proposer), time.process_time()
    boxes = proposer(image, image_id=records.image_id(i), file=records.files[i])
    seconds = time.process_time() - start
    return Proposed(boxes, seconds, before is not None and _searched(proposer) == before)


def _searched(proposer: Proposer) -> int | None:
    """How many images a proposer with a cache had to search; None without a cache."""
    return getattr(proposer, "searched", None)


_of_process: tuple[Proposer, Records] | None = None  # what a worker works on


def _start(proposer: Proposer, records: Records) -> None:
    global _of_process
    _of_process = proposer, records
    cv2.setNumThreads(1)  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the main process, and it the others
    threading.Thread(
        target=_end_with, args=(multiprocessing.parent_process(),), daemon=True
    ).start()


def _end_with(main: Any) -> None:
    """However the main process ended: the pool's own pipes tell its workers nothing of it."""
    main.join()
    os._exit(1)


def _of_worker(i: int) -> Proposed:
    assert _of_process is not None
    return _one(*_of_process, i)
