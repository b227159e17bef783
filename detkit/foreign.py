"""Files that others wrote, opened in one place.

A pipe, a socket or a device in the place of a file would be waited for, or read, for ever: only
regular files are opened. YAML is read within bounds, since its aliases let a few lines stand for
more values than any memory holds. Text is UTF-8, or says by its first bytes what it is: a guess
would put broken names into a checkpoint without a word. `tests/contracts/test_foreign_files.py`
sees to it that nothing else in detkit opens a file for reading.
"""

from __future__ import annotations

import codecs
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import yaml

from detkit.errors import DetkitError

KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
MARKS = (  # the longer first, since UTF-16's begins UTF-32's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
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


def begins(path: str | Path, marks: tuple[bytes, ...]) -> bool:
    """Whether its first bytes are one of these."""
    with opened(path) as file:
        return file.read(max(map(len, marks))).startswith(marks)


def read_bytes(path: str | Path) -> bytes:
    with opened(path) as file:
        return file.read()


def read_text(path: str | Path, errors: str = "strict") -> str:
    """Its text, each end of a line as it stands there.

    Args:
        errors: `surrogateescape` for what holds names of files, which may be any bytes.
    Raises:
        OSError: as `opened`.
        DetkitError: it is not UTF-8, nor UTF-16 or UTF-32 with their mark.
    """
    return decoded(read_bytes(path), path, errors)


def decoded(data: bytes, path: str | Path, errors: str = "strict") -> str:
    """The text of a file's bytes; raises as `read_text`, with the line."""
    mark, encoding = _encoding(data)
    data = data[len(mark) :]
    try:
        text = data.decode(encoding, errors)
        start = text.find("\0")  # of UTF-16 without its mark every second byte
        if start < 0:
            return text
        lines, what = text.count("\n", 0, start), "a zero byte"
    except UnicodeDecodeError as fault:
        lines, what = data.count(b"\n", 0, fault.start), f"the byte {data[fault.start]:#04x}"
    raise DetkitError(
        f"The text is in another encoding than {encoding.upper()}: it has {what}.",
        file=path,
        record=f"line {lines + 1}",
        remedy="save the file as UTF-8.",
    )


def glance(path: str | Path, most: int = -1) -> str:
    """What a file that may be anything begins with; what is no text shows as U+FFFD.

    Only for finding out what a file is: nothing of it may be kept.

    Args:
        most: bytes.
    Raises:
        OSError, DetkitError: as `opened`.
    """
    with opened(path) as file:
        data = file.read(most)
    mark, encoding = _encoding(data)
    return data[len(mark) :].decode(encoding, "replace")


def glance_at_ends(path: str | Path, most: int) -> str:
    """`glance`, and what the file ends with: keys of JSON may stand behind long values."""
    with opened(path) as file:
        data = file.read(most)
        file.seek(max(file.seek(0, os.SEEK_END) - most, len(data)))
        data += file.read(most)
    mark, encoding = _encoding(data)
    return data[len(mark) :].decode(encoding, "replace")


def _encoding(data: bytes) -> tuple[bytes, str]:
    return next((found for found in MARKS if data.startswith(found[0])), (b"", "utf-8"))


def read_json(path: str | Path) -> Any:
    """Its value.

    Raises:
        OSError, DetkitError: as `read_text`.
        ValueError, RecursionError: as `json.loads`.
    """
    return json.loads(read_text(path))


def read_yaml(path: str | Path, *, as_text: bool = False) -> Any:
    """Plain values: dicts, lists, texts, numbers, dates.

    Args:
        as_text: numbers, dates and the like as they are written.
    Raises:
        OSError: as `opened`.
        DetkitError: no YAML, one of more than `LARGEST_YAML` bytes, or one with aliases.
    """
    with opened(path) as file:
        data = file.read(LARGEST_YAML + 1)
    try:
        if len(data) > LARGEST_YAML:
            raise ValueError(f"it has more than {LARGEST_YAML:,} bytes")
        return yaml.load(decoded(data, path), _Texts if as_text else _Plain)
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


class _Texts(_Plain):
    """All values as the texts that they are written as."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_other(mode: int, path: str | Path) -> None:
    kind = next((name for is_kind, name in KINDS if is_kind(mode)), None)
    if kind:
        raise DetkitError(
            f"This is {kind}, not a file.", file=path, remedy="put a regular file there."
        )
