"""Where pictures come from: an image, a folder, a pattern, a video, a stream, a camera."""

from __future__ import annotations

import difflib
import glob
import itertools
import os
import re
import unicodedata
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detkit.data import images
from detkit.errors import DetkitError
from detkit.folders import in_home
from detkit.inference import video

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"]
    + [".ts", ".mts", ".m2ts", ".ogv", ".mjpeg"]
)


@dataclass(frozen=True)
class Item:
    """One file, stream or camera.

    Attributes:
        path: as the user wrote it, or the camera's number.
        name: its stem, made unique among the items; results are named by it.
        video: a video, a stream or a camera.
        page: which one of a TIFF with several, from 0; None of any other file.
    """

    path: str | int
    name: str
    video: bool
    page: int | None = None

    @property
    def file(self) -> str:
        if isinstance(self.path, int):
            return f"camera {self.path}"
        return re.sub(r"//[^/@]*@", "//", self.path) if "://" in self.path else self.path


@dataclass(frozen=True)
class Picture:
    """One image or frame.

    Attributes:
        image: (H, W, 3) RGB, upright, uint8 (float32 in 0 … 1 for 16-bit files).
        frame: its number in the video, from 0; None for an image.
        seconds: its time in the video; None for an image.
        clip: the video that it belongs to.
    """

    image: np.ndarray
    item: Item
    frame: int | None = None
    seconds: float | None = None
    clip: video.Reader | None = None

    @property
    def image_id(self) -> int | str:
        """The file's stem (a number where it is all digits, as in COCO), or video_000012."""
        name = self.item.name
        if self.frame is not None:
            return f"{name}_{self.frame:06d}"
        return int(name) if name.isascii() and name.isdigit() else name


LOOKED_AT = 10_000  # files below a folder, for a picture
LONGEST = 255  # bytes of a file's name, on nearly every file system


class Source:
    """The pictures that a `source=` names, in natural order, read one after the other.

    Args:
        source: IMAGE, FOLDER, GLOB, VIDEO, an address with ://, or a camera's number (to 999). An
            existing file of that very name comes first. A folder gives what lies directly in it.
        endings: of the files that will be named by an image and by a video; one whose name is too
            long with it is a fault.
        channels: of the images: 3 is RGB; a number but 1 and 3 takes their bands as they are, of a
            TIFF of several pages these, which else are a picture each.
    Attributes:
        items: what was found; its order is the order of the results.
        faults: what could not be read; the rest goes on.
    Raises:
        DetkitError: nothing is there.
    """

    def __init__(
        self, source: str | Path, endings: tuple[str, str] = ("", ""), channels: int = 3
    ) -> None:
        self.items = _named(_paths(str(source)), stacks=channels in (1, 3))
        self.faults: list[DetkitError] = []
        self.channels = channels
        self._endings = endings

    @property
    def endless(self) -> bool:
        """Whether only the user ends it: a camera, a stream."""
        paths = [item.path for item in self.items]
        return any(isinstance(path, int) or "://" in path for path in paths)

    def pictures(self, rank: int = 0, world: int = 1) -> Generator[Picture, None, None]:
        """Every picture, or one process's share: its part of the images, and rank 0 the videos."""
        seen = 0
        for item in self.items:
            if not item.video:
                seen += 1
            if (0 if item.video else (seen - 1) % world) != rank:
                continue
            try:
                _check_length(item.name + self._endings[item.video], item)
                if item.video:
                    yield from self._frames(item)
                else:
                    path = str(item.path)
                    yield Picture(images.read_as(path, self.channels, item.page or 0), item)
            except DetkitError as error:
                self.faults.append(error)

    def count(self, rank: int = 0, world: int = 1) -> int | None:
        """How many `pictures` gives if all can be read; None where a video does not say."""
        stills = sum(not item.video for item in self.items)
        total = len(range(rank, stills, world))
        for item in self.items if rank == 0 else []:
            if item.video:
                if isinstance(item.path, int) or "://" in item.path:
                    return None
                try:
                    reader = video.open_reader(item.path)
                except DetkitError:
                    continue  # `pictures` meets it again and notes it
                reader.close()
                if not reader.frames:
                    return None
                total += reader.frames
        return total

    def _frames(self, item: Item) -> Generator[Picture, None, None]:
        reader = video.open_reader(item.path)
        try:
            for number, (image, seconds) in enumerate(reader):
                yield Picture(image, item, number, seconds, reader)
        finally:
            reader.close()
        if reader.fault:
            self.faults.append(
                DetkitError(
                    f"Damaged video: {reader.fault}.",
                    file=item.file,
                    remedy="what could be read is in the results; copy it again for the rest.",
                )
            )


def _check_length(name: str, item: Item) -> None:
    if len(os.fsencode(name)) > LONGEST:
        raise DetkitError(
            f"The name of its drawn copy would have {len(os.fsencode(name))} bytes.",
            file=item.file,
            remedy=f"shorten the name by {len(os.fsencode(name)) - LONGEST}.",
        )


def _paths(source: str) -> list[str | int]:
    if "://" in source:
        return [source]
    path = in_home(source)
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        return _folder(path)
    if re.fullmatch("[0-9]{1,3}", source):  # longer ones are names, such as a missing 20240115
        return [int(source)]
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  takes absolute patterns too
    found = [match for match in matches if Path(match).is_file()]
    if found:
        return _usable(found, source)
    near = _near(path)
    raise DetkitError(
        "No file, folder or pattern of this name." + (f" Did you mean {near}?" if near else ""),
        file=source,
        remedy="source= takes an image, a folder, a pattern such as 'photos/*.jpg', a video, "
        "an address with ://, or a camera's number.",
    )


def _near(path: Path) -> str | None:
    try:
        names = [p.name for p in path.parent.iterdir() if p.name != path.name]
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, names, n=1)
    return str(path.parent / close[0]) if close else None


def _folder(path: Path) -> list[str | int]:
    here = [str(p) for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
    if not any(map(_known, here)) and (below := _below(path)) is not None:
        raise DetkitError(
            "There is no image and no video directly in this folder, only in folders below it.",
            file=path,
            remedy=f"name one of them, or all by their ending: source='{path}/**/*{below.suffix}'.",
        )
    return _usable(here, path)


def _below(path: Path) -> Path | None:
    """The first image or video in a folder's folders, if there is one among `LOOKED_AT` files."""
    inner = itertools.islice(path.rglob("*"), LOOKED_AT)
    return next((p for p in inner if _known(str(p)) and not p.name.startswith(".")), None)


def _usable(found: Sequence[str], source: str | Path) -> list[str | int]:
    """The images and videos among the files, in natural order."""
    known: list[str | int] = [path for path in found if _known(path)]
    if not known:
        others = f", only {len(found)} other file{'' if len(found) == 1 else 's'}" if found else ""
        raise DetkitError(
            f"There is no image and no video here{others}.",
            file=source,
            remedy=f"known endings: {' '.join(sorted(images.SUFFIXES | VIDEO_SUFFIXES))}.",
        )
    return sorted(known, key=_natural)


def _known(path: str) -> bool:
    return Path(path).suffix.lower() in images.SUFFIXES | VIDEO_SUFFIXES


def _natural(path: str | int) -> list[tuple[int, str]]:
    """Sorts 2.jpg before 10.jpg, folder by folder."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(parts)] + [(-1, str(path))]


def _named(paths: Sequence[str | int], stacks: bool = True) -> list[Item]:
    """Items with names that stay apart on any file system, as image ids too.

    Args:
        stacks: each page of a TIFF with several is an item, NAME_000 …
    """

    def key(name: str) -> str:
        folded = unicodedata.normalize("NFC", name).casefold()
        return folded.lstrip("0") or "0" if folded.isascii() and folded.isdigit() else folded

    pages = [(path, page) for path in paths for page in (_pages(path) if stacks else [None])]
    stems = [f"camera{p}" if isinstance(p, int) else _stem(p) for p, _ in pages]
    stems = [
        stem if page is None else f"{stem}_{page:03d}"
        for stem, (_, page) in zip(stems, pages, strict=True)
    ]
    originals, taken, items = {key(stem) for stem in stems}, set[str](), []
    for (path, page), stem in zip(pages, stems, strict=True):
        name, number = stem, 2
        while key(name) in taken or (name != stem and key(name) in originals):
            name, number = f"{stem}_{number}", number + 1
        taken.add(key(name))
        video_like = isinstance(path, int) or "://" in path or _is_video(path)
        items.append(Item(path, name, video_like, page))
    return items


def _pages(path: str | int) -> list[int | None]:
    """The pages of a TIFF with several; of any other file, and of a broken one, nothing to tell."""
    try:
        count = 1 if isinstance(path, int) or "://" in path else images.pages(Path(path))
    except DetkitError:
        count = 1
    return [None] if count == 1 else list(range(count))


def _is_video(path: str) -> bool:
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _stem(path: str) -> str:
    if "://" in path:
        host = re.sub(r".*://([^/@]*@)?", "", path).split("?")[0]  # without a password
        return re.sub(r"\W+", "_", host).strip("_") or "stream"
    return Path(path).stem
