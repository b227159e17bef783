"""Folders that results go to: found in somebody's home, made, dated, and held by one process."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from detkit.errors import DetkitError

try:
    import fcntl
except ImportError:  # Windows: no process is kept out
    fcntl = None  # type: ignore[assignment]

LINGER = 10.0  # seconds that loading processes may outlive a run that was killed


def in_home(path: str | Path) -> Path:
    """The path with a leading `~` or `~user` as their home folder.

    Raises:
        DetkitError: there is no such user.
    """
    if "\0" in str(path):
        raise DetkitError(
            "No file can have this name.", file=repr(str(path)), remedy="correct the name."
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as fault:
        raise DetkitError(
            f"The home folder of {Path(path).parts[0]} is not known.",
            file=path,
            remedy="write the folder in full; for a name that begins with ~, put ./ before it.",
        ) from fault


def make_folder(path: Path, setting: str) -> None:
    """
    Args:
        setting: where the user named the folder.
    Raises:
        DetkitError: the system refuses it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetkitError(
            f"The folder cannot be made ({error.strerror}).",
            file=path,
            remedy=f"choose one that you may write to with {setting}=DIR.",
        ) from error


def date() -> str:
    """How a folder for what is written now is called."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def dated(parent: str, setting: str, ending: str = "") -> Path:
    """Makes a folder for what is written now, where nobody named one: `parent/DATE_TIMEending`.

    Another process that asks in the same second gets another one.
    """
    make_folder(Path(parent), setting)
    name = f"{date()}{ending}"
    for number in itertools.count(1):
        path = Path(parent, name if number == 1 else f"{name}_{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError:
            make_folder(path, setting)  # which says why not
        return path
    raise AssertionError


@contextlib.contextmanager
def held(folder: Path, patience: float = LINGER) -> Iterator[None]:
    """Keeps other processes from writing there; the system lets go when this one ends.

    Raises:
        DetkitError: another one holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + patience
        while not _locked(handle):
            if time.monotonic() > until:
                raise DetkitError(
                    "Another process is writing in this folder.",
                    file=folder,
                    remedy="wait until it is done, stop it, or choose another folder.",
                )
            time.sleep(0.2)
        try:
            yield
        finally:  # said, since a loading process may have inherited the handle
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
