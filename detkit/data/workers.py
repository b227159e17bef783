"""The processes that load images: how one begins, which signals it heeds, how its end is told."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from detkit.errors import DetkitError

KILLED = "DataLoader worker (pid"  # as PyTorch says it
HELD = {getattr(signal, name, signal.SIGINT) for name in ("SIGINT", "SIGTERM", "SIGHUP")}
ENDED = ("Terminated", "Interrupt", "Hangup")  # and of what did it, if it was no lack of memory


@contextmanager
def signals_held() -> Iterator[None]:
    """What is begun in here has no signal before `start_worker` has said which ones it heeds.

    A process begins with the mask of the thread that starts it. Signals that this thread would have
    heard meanwhile are heard at the end.
    """
    if not hasattr(signal, "sigwaitinfo"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)  # a handler may raise in here
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(worker: int) -> None:
    """One thread each (torch has done so); signals are for the main process, which still needs
    this one to end its step: terminals, torchrun and schedulers send them to every process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # on macOS and Windows PyTorch's own handling stays
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD - {signal.SIGTERM})
        threading.Thread(target=_end_for, args=(os.getppid(),), daemon=True).start()

    cv2.setNumThreads(0)


def _end_for(main: int) -> None:
    """End this process at a SIGTERM of the main one, which ends its workers so; at no other's.

    A thread of its own hears it also while the others are deep in a library.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)


def killed(error: Exception) -> DetkitError:
    """The error for PyTorch's about a worker, which comes wherever this process is just then."""
    ended = any(word in str(error) for word in ENDED)
    memory = "memory may have run out (/dev/shm too): set training.workers (workers) lower."
    return DetkitError(
        f"A loading process was killed: {error}",
        remedy="somebody ended it; resume= goes on from a run's last save." if ended else memory,
    )
