"""Files that are whole or absent: written under another name, then renamed."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detkit.errors import DetkitError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A place to write to, in the same folder; it becomes `path` once the block has ended well.

    Whatever interrupts the block, the file that was there stays, and no other is left.

    Raises:
        DetkitError: the folder or the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise DetkitError(
            f"It cannot be written ({error.strerror or error}).",
            file=path,
            remedy="check that the folder exists, is yours to write to and has room.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def write_bytes(path: str | Path, data: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: str | Path, text: str | Iterable[str]) -> None:
    """A text, or lines without their ends; file names of any bytes in it survive."""
    with (
        replacing(path) as part,
        part.open("w", encoding="utf-8", errors="surrogateescape") as file,
    ):
        file.writelines([text] if isinstance(text, str) else (f"{line}\n" for line in text))


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
