"""Packed files that unpack to more than any memory holds: told before they are unpacked."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

from detkit import foreign
from detkit.errors import DetkitError

MOST = 1 << 28  # bytes that any file may become
MOST_TIMES = 100  # and times its own bytes; boxes become ten times as large
PIECE = 1 << 16  # bytes that are unpacked at a time, to at most a thousand times as many
HEAD, PACKED = 128, 15  # bytes of a MATLAB file's header, the kind of a packed variable


def check_zip(path: Path) -> None:
    """
    Raises:
        DetkitError: its members say that they are huge; more than they say is not read of them.
        Exception: it is no ZIP file.
    """
    with foreign.opened(path) as file, zipfile.ZipFile(file) as members:
        _check(path, sum(member.file_size for member in members.infolist()))


def check_mat(path: Path) -> None:
    """The same of a MATLAB file, whose variables say nothing: they are unpacked, and not kept."""
    with foreign.opened(path) as file:
        head = file.read(HEAD)
        if 0 in head[:4]:
            return  # version 4, which packs nothing
        order, unpacked = ("<" if head.endswith(b"IM") else ">"), 0
        while len(tag := file.read(8)) == 8:
            kind, left = struct.unpack(f"{order}2I", tag)
            if kind != PACKED:
                file.seek(left, os.SEEK_CUR)
                continue
            stream = zlib.decompressobj()
            while left and (piece := file.read(min(left, PIECE))):
                left -= len(piece)
                unpacked += len(stream.decompress(piece))
                _check(path, unpacked)


def _check(path: Path, unpacked: int) -> None:
    packed = path.stat().st_size
    if unpacked > max(MOST, MOST_TIMES * packed):
        raise DetkitError(
            f"Its {packed:,} bytes unpack to {unpacked:,} or more: hardly boxes.",
            file=path,
            remedy="make the proposals again; where they are right, write them unpacked.",
        )
