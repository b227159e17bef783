"""Where a command's words go: a terminal of any encoding, a pipe that closes, or nowhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

STREAMS = (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w"))


@contextlib.contextmanager
def usable(patient: bool) -> Iterator[None]:
    """Streams that what is written to them never ends the command by.

    One that was closed from the start (`>&-`, cron, a daemon) leads to the null device: else the
    next file that is opened would get its number, and with it whatever a library prints. Signs
    that the encoding lacks are written as their numbers.

    Args:
        patient: whether the command outlives a reader of its output that goes away; it always does
            one of its errors.
    """
    before = {name: getattr(sys, name) for name, _, _ in STREAMS}
    for name, number, mode in STREAMS:
        if before[name] is None:
            setattr(sys, name, _null(number, mode))
        elif mode == "w" and hasattr(before[name], "reconfigure"):
            before[name].reconfigure(errors="backslashreplace")
    sys.stderr = _Patient(sys.stderr)
    if patient:
        sys.stdout = _Patient(sys.stdout)
    try:
        yield
    finally:
        for name, stream in before.items():
            if stream is not None:
                setattr(sys, name, stream)


def silence(stream: Any) -> None:
    """Leads a stream whose reader has gone to the null device, with what it still holds."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _null(number: int, mode: str) -> Any:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)
    else:  # some file has got it by now
        number = os.open(os.devnull, os.O_RDWR)
    return os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)


class _Patient:
    """A stream that is silenced once nobody reads it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            silence(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
