"""Ctrl-C, SIGTERM and a terminal that is closed: end at a good moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TWICE_SECONDS = 2.0  # signals that are not further apart count as one


class Interrupted(BaseException):
    """Somebody asked the run to end; its state is saved.

    Like KeyboardInterrupt no Exception: it comes wherever Python is, also where a picture's faults
    are caught.
    """


class Stop:
    """What a signal asked for."""

    asked = False
    asked_at = 0.0
    nothing_to_lose = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, everything is saved: a signal ends the run where it is."""
        self.nothing_to_lose = True
        if self.asked:
            raise Interrupted
        yield
        self.nothing_to_lose = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Ctrl-C, SIGTERM and SIGHUP ask the run to end after its step, another one later at once.

    Under `torchrun` one Ctrl-C arrives twice: from the terminal and from torchrun.

    The loader's processes inherit the handler until they have set their own (`data.workers`), and
    leave the matter to this one.
    """
    stop, main = Stop(), os.getpid()

    def handle(number: int, frame: object) -> None:
        if os.getpid() != main:
            if number == signal.SIGTERM:  # how the loader ends its processes
                os._exit(1)
            return
        if stop.asked and time.monotonic() > stop.asked_at + TWICE_SECONDS:
            raise KeyboardInterrupt
        if not stop.asked:
            stop.asked, stop.asked_at = True, time.monotonic()
            if not stop.nothing_to_lose:  # print() may be in the middle of a line: write at once
                with suppress(OSError):  # the terminal may be gone
                    os.write(2, b"\nstopping once what is begun is done; again: at once\n")
        if stop.nothing_to_lose:
            raise Interrupted

    try:
        before = {s: signal.signal(s, handle) for s in _heard()}
    except ValueError:  # not in the main thread: signals go elsewhere
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heard() -> list[signal.Signals]:
    """The signals that ask a run to end; SIGHUP not under nohup, nor where it does not exist."""
    hangup = getattr(signal, "SIGHUP", None)
    heard = [signal.SIGINT, signal.SIGTERM]
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        heard.append(hangup)
    return heard
