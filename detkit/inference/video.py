"""Video in and out, one frame at a time: PyAV where it is installed, else OpenCV.

Both readers give upright RGB frames with their time in seconds, so a variable frame rate survives,
and both keep what could be read of a damaged file. Both writers take frames of any size and the
reader's times. H.264 comes from PyAV; OpenCV's own writer only knows MPEG-4 part 2 (`mp4v`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np

from detkit.errors import DetkitError

H264 = ("libx264", "libopenh264")  # PyAV's encoders, best first
TIMED = ("matroska,webm", "flv")  # count no frames, but their header holds the length in seconds
FASTEST = 1e6  # frames a second that a header may say
SLACK = 0.5  # seconds that a whole file may end before that length: sound is padded, times rounded


class Reader(Protocol):
    """An open video.

    Attributes:
        rate: frames per second, as an average.
        time_base: seconds of the clock's tick: what a copy needs to keep the times exactly.
        frames: how many the header promises, 0 where it does not say.
        fault: what went wrong while reading, or None.
    """

    rate: Fraction
    time_base: Fraction
    frames: int
    fault: str | None

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        """(H, W, 3) uint8 RGB frames and their times in seconds."""
        ...

    def close(self) -> None: ...


class Writer(Protocol):
    def write(self, image: np.ndarray, seconds: float) -> None:
        """Adds an (H, W, 3) uint8 RGB frame that is shown from `seconds` on."""
        ...

    def close(self) -> None: ...


def open_reader(source: str | int) -> Reader:
    """A video file, a stream's address, or a camera by its number.

    Raises:
        DetkitError: it cannot be opened as a video.
    """
    if isinstance(source, str) and find_spec("av"):
        return _AvReader(source)
    return _CvReader(source)


def open_writer(path: Path, like: Reader, size: tuple[int, int]) -> Writer:
    """An MP4 of (height, width) pixels with the clock of `like`; odd sides gain one pixel."""
    codec = encoder()
    return _AvWriter(path, like, size, codec) if codec else _CvWriter(path, like, size)


def encoder() -> str | None:
    """PyAV's encoder of H.264, None where there is none."""
    if not find_spec("av"):
        return None
    import av

    return next((codec for codec in H264 if codec in av.codec.codecs_available), None)


def written_as() -> str:
    """What videos are written as here, and how to get the other."""
    if encoder():
        return "H.264, without sound; without the package av they would be MPEG-4 part 2"
    return "MPEG-4 part 2, which browsers do not play; for H.264: pip install av (detkit[video])"


def _unreadable(source: str | int, why: object) -> DetkitError:
    if isinstance(source, int):
        return DetkitError(f"Camera {source} cannot be opened.", remedy="try another number.")
    return DetkitError(
        f"This cannot be read as a video ({why}).",
        file=source,
        remedy="check that it plays, or copy it again: an MP4 that was cut lacks its index.",
    )


class _AvReader:
    def __init__(self, source: str) -> None:
        import av

        self.fault: str | None = None
        try:
            # a title in another encoding is no reason to refuse the pictures
            self._container = av.open(source, metadata_errors="surrogateescape")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise _unreadable(source, error) from error
        if not self._container.streams.video:
            self._container.close()
            raise DetkitError(
                "There are no pictures in it, only sound or text.",
                file=source,
                remedy="name a file with a picture stream.",
            )
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.time_base = Fraction(self._stream.time_base or 1 / self.rate)
        self.frames = self._stream.frames
        self._end = 0.0  # seconds: where the last packet ends, of any stream

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        count = 0
        for frame in self._decoded():
            seconds = frame.time if frame.time is not None else float(count / self.rate)
            turns = frame.rotation // 90 % 4  # counter-clockwise, by the file's display matrix
            yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns)), seconds
            count += 1
        if self.fault is None and count < self.frames:
            self.fault = f"the file ends after {count} of {self.frames} frames"
        if self.fault is None and not self.frames and self._is_cut():
            length = cast(int, self._container.duration) / 1e6
            self.fault = f"the file ends after {self._end:.2f} of {length:.2f} seconds"

    def _is_cut(self) -> bool:
        """By the length, which is that of the longest stream (the sound may outlast the video)."""
        length = self._container.duration  # microseconds
        if self._container.format.name not in TIMED or length is None:
            return False
        return self._end < length / 1e6 - max(SLACK, float(2 / self.rate))

    def _decoded(self) -> Iterator[Any]:
        """Every frame that decodes; the first fault is noted, and a broken packet left out."""
        import av

        count, packets = 0, self._container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self.fault = self.fault or f"frame {count} and all behind it: {error.strerror}"
                return
            if packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._end = max(self._end, end)
            if packet.stream_index != self._stream.index:
                continue
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self.fault = self.fault or f"frame {count}: {error.strerror}"
                continue
            yield from frames
            count += len(frames)

    def close(self) -> None:
        self._container.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's own lines about what it cannot open."""
    log = cv2.utils.logging
    before = log.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(before)


class _CvReader:
    def __init__(self, source: str | int) -> None:
        self.fault: str | None = None
        self._camera = isinstance(source, int)
        with _quiet():  # the error that comes says it
            self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            raise _unreadable(source, "OpenCV does not open it")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate if 0 < rate < FASTEST else 25).limit_denominator(1001)
        self.time_base = Fraction(1, 90_000)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = round(count) if not self._camera and 0 < count < math.inf else 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        count, start = 0, time.monotonic()
        while True:
            read, frame = self._capture.read()  # turned upright by OpenCV
            if not read:
                break
            position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if self._camera:
                position = time.monotonic() - start
            elif position <= 0:
                position = float(count / self.rate)
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), position
            count += 1
        if self._camera:
            self.fault = f"the camera stopped after {count} frames"
        elif count < self.frames:
            self.fault = f"the file ends after {count} of {self.frames} frames"

    def close(self) -> None:
        self._capture.release()


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To the size of the first frame (a stream may change), and to even sides by its edge."""
    height, width = size
    if image.shape[:2] != size:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return image


class _AvWriter:
    def __init__(self, path: Path, like: Reader, size: tuple[int, int], codec: str) -> None:
        import av

        self._size, self._clock, self._last = size, like.time_base, -1
        self._start: float | None = None
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = cast(Any, self._container.add_stream(codec, rate=like.rate))
        self._stream.height, self._stream.width = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._clock
        # Without B-frames: with them the length of a video of variable rate comes out wrong.
        self._stream.options = {"crf": "20", "bf": "0"} if codec == "libx264" else {}

    def write(self, image: np.ndarray, seconds: float) -> None:
        import av

        self._start = seconds if self._start is None else self._start
        frame = av.VideoFrame.from_ndarray(_fit(image, self._size), format="rgb24")
        tick = round((seconds - self._start) / self._clock)
        frame.pts = self._last = max(tick, self._last + 1)  # the format wants times that rise
        frame.time_base = self._clock
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


class _CvWriter:
    """Its frames come at an even rate: OpenCV writes no times."""

    def __init__(self, path: Path, like: Reader, size: tuple[int, int]) -> None:
        self._size = size
        even = (size[1] + size[1] % 2, size[0] + size[0] % 2)
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(path), fourcc, float(like.rate), even)
        if not self._writer.isOpened():
            raise DetkitError("OpenCV cannot write this video.", file=path, remedy="install av.")

    def write(self, image: np.ndarray, seconds: float) -> None:
        self._writer.write(cv2.cvtColor(_fit(image, self._size), cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()
