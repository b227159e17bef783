"""Files that others wrote, opened in one place.

A pipe, a socket or a device in the place of a file would be waited for, or read, for ever: only
regular files are opened. YAML is read within bounds, since its aliases let a few lines stand for
more values than any memory holds. `tests/contracts/test_foreign_files.py` sees to it that nothing
else in detkit opens a file for reading.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from detkit.errors import DetkitError

KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
LARGEST_YAML = 1 << 20  # bytes: thirty thousand class names; its parser needs 500 times the memory


def opened(path: str | Path) -> BinaryIO:
    """The file, for reading bytes.

    Raises:
        OSError: as `open`, for a file that is missing or may not be read, and for a folder.
        DetkitError: it is no regular file, or no file can have that name.
    """
    check_regular(path)  # before it, since opening a device may do something
    file: BinaryIO = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    try:
        _refuse_other(os.fstat(file.fileno()).st_mode, path)
    except BaseException:
        file.close()
        raise
    return file


def check_regular(path: str | Path) -> None:
    """For a library that opens the file by itself; raises as `opened`."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except ValueError as fault:
        raise DetkitError(
            "No file can have this name.", file=repr(str(path)), remedy="correct the name."
        ) from fault
    _refuse_other(mode, path)


def is_file(path: str | Path) -> bool:
    """Whether there is a file; raises as `opened` where something else than a folder is."""
    try:
        check_regular(path)
    except OSError:
        return False
    return Path(path).is_file()


def read_bytes(path: str | Path) -> bytes:
    with opened(path) as file:
        return file.read()


def read_text(path: str | Path, encoding: str = "utf-8-sig", errors: str = "strict") -> str:
    """Its text, each end of a line as it stands there."""
    return read_bytes(path).decode(encoding, errors)


def read_yaml(path: str | Path) -> Any:
    """Plain values: dicts, lists, texts, numbers, dates.

    Raises:
        OSError: as `opened`.
        DetkitError: no YAML, one of more than `LARGEST_YAML` bytes, or one with aliases.
    """
    with opened(path) as file:
        data = file.read(LARGEST_YAML + 1)
    try:
        if len(data) > LARGEST_YAML:
            raise ValueError(f"it has more than {LARGEST_YAML:,} bytes")
        return yaml.load(data, _Plain)
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, RecursionError) as fault:
        mark = getattr(fault, "problem_mark", None)
        raise DetkitError(
            f"The YAML is broken ({getattr(fault, 'problem', None) or fault})."[:400],
            file=path,
            record=f"line {mark.line + 1}, column {mark.column + 1}" if mark else None,
            remedy="correct the file.",
        ) from fault


class _Plain(yaml.SafeLoader):
    """Safe YAML without aliases: a value is as large as it is written."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            problem = f"*{event.anchor} stands for a value elsewhere; write the value itself"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_other(mode: int, path: str | Path) -> None:
    kind = next((name for is_kind, name in KINDS if is_kind(mode)), None)
    if kind:
        raise DetkitError(
            f"This is {kind}, not a file.", file=path, remedy="put a regular file there."
        )
