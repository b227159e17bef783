"""Reading and writing video, with PyAV and with OpenCV alone."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detkit.errors import DetkitError
from detkit.inference import video

CLIPS = {
    "bikes.mp4": (250, (272, 640), 25),
    "pedestrians.mp4": (50, (720, 1280), 25),
    "traffic.avi": (40, (180, 320), 30),
}
both = pytest.mark.parametrize("library", ["av", "cv2"])
needs_av = pytest.mark.skipif(not find_spec("av"), reason="PyAV is not installed (extra: video)")


@pytest.fixture
def use(monkeypatch):
    """Lets one library do the work."""

    def choose(library: str) -> None:
        if library == "av" and not find_spec("av"):
            pytest.skip("PyAV is not installed (extra: video)")
        if library == "cv2":
            monkeypatch.setattr(video, "find_spec", lambda name: None)

    return choose


def clock(rate=25, tick=Fraction(1, 12800)):
    return SimpleNamespace(rate=Fraction(rate), time_base=tick, frames=0, fault=None)


def grey_frames(count, size=(48, 64)):
    return [np.full((*size, 3), 20 + 200 * k // count, np.uint8) for k in range(count)]


def write(path: Path, frames, times, like) -> None:
    writer = video.open_writer(path, like, frames[0].shape[:2])
    for frame, seconds in zip(frames, times, strict=True):
        writer.write(frame, seconds)
    writer.close()


def read(path: Path):
    reader = video.open_reader(str(path))
    frames, times = zip(*reader, strict=True)
    reader.close()
    return reader, frames, times


@both
@pytest.mark.parametrize("name", CLIPS)
def test_a_real_clip_gives_every_frame_with_its_time(use, shared, library, name):
    use(library)
    count, size, rate = CLIPS[name]
    reader, frames, times = read(shared / "video" / name)
    assert (len(frames), reader.frames, reader.rate, reader.fault) == (count, count, rate, None)
    assert {frame.shape for frame in frames} == {(*size, 3)}
    assert {frame.dtype for frame in frames} == {np.dtype(np.uint8)}
    assert np.allclose(times, np.arange(count) / rate, atol=1e-6)


@needs_av
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_clip_is_read_upright_as_by_opencv(use, shared, tmp_path, turned, degrees):
    path = turned(shared / "video" / "bikes.mp4", tmp_path / "turned.mp4", degrees)
    ours = next(iter(video.open_reader(str(path))))[0]
    plain = next(iter(video.open_reader(str(shared / "video" / "bikes.mp4"))))[0]
    use("cv2")
    theirs = next(iter(video.open_reader(str(path))))[0]
    assert ours.shape == ((640, 272, 3) if degrees % 180 else (272, 640, 3))
    assert np.abs(ours.astype(int) - theirs).mean() < 3  # two colour conversions of the same frame
    assert (ours == np.rot90(plain, -degrees // 90)).all()  # rot90 turns counter-clockwise


@both
@pytest.mark.parametrize("name", CLIPS)
def test_a_copy_has_the_frames_size_rate_and_times_of_its_source(
    use, shared, tmp_path, library, name
):
    use(library)
    source, frames, times = read(shared / "video" / name)
    write(tmp_path / "copy.mp4", frames[:30], times[:30], source)
    copy, copied, copied_times = read(tmp_path / "copy.mp4")
    assert (len(copied), copied[0].shape) == (30, frames[0].shape)
    assert copy.rate == source.rate
    assert np.allclose(copied_times, times[:30], atol=1e-3)
    assert np.abs(copied[20].astype(int) - frames[20]).mean() < 6  # the same picture, compressed


@needs_av
def test_a_copy_is_h264(shared, tmp_path):
    import av

    write(tmp_path / "copy.mp4", grey_frames(5), np.arange(5) / 25, clock())
    with av.open(str(tmp_path / "copy.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


@needs_av
def test_a_variable_frame_rate_keeps_its_times_and_length(tmp_path):
    import av

    times = [3.0, 3.04, 3.5, 3.54, 4.0, 5.0]  # a clip may also start late
    write(tmp_path / "uneven.mp4", grey_frames(6), times, clock())
    _, _, read_times = read(tmp_path / "uneven.mp4")
    assert np.allclose(read_times, np.array(times) - 3, atol=1e-4)
    with av.open(str(tmp_path / "uneven.mp4")) as container:
        assert 2.0 <= container.duration / 1e6 <= 2.1


@needs_av
def test_times_that_stand_still_or_go_back_do_not_lose_a_frame(tmp_path):
    write(tmp_path / "odd.mp4", grey_frames(5), [0, 0.04, 0.04, 0.02, 0.2], clock())
    _, frames, times = read(tmp_path / "odd.mp4")
    assert len(frames) == 5
    assert list(times) == sorted(set(times))


@both
def test_odd_sides_gain_one_pixel_and_a_frame_of_another_size_is_fitted(use, tmp_path, library):
    use(library)
    frames = [*grey_frames(3, (45, 63)), *grey_frames(2, (90, 100))]
    write(tmp_path / "odd.mp4", frames, np.arange(5) / 25, clock())
    _, copied, _ = read(tmp_path / "odd.mp4")
    assert [frame.shape for frame in copied] == [(46, 64, 3)] * 5


@both
def test_what_is_left_of_a_cut_video_is_read_and_the_frame_named(use, shared, tmp_path, library):
    use(library)
    data = (shared / "video" / "traffic.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    reader, frames, _ = read(tmp_path / "cut.avi")
    assert 10 < len(frames) < 30
    assert str(len(frames)) in reader.fault


def noise_clip(path: Path, seconds_of_sound: int = 0) -> Path:
    """75 frames at 25 a second, and silence."""
    import av

    noise = np.random.default_rng(0)
    codec = "flv1" if path.suffix == ".flv" else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000) if seconds_of_sound else None
        for k in range(75):
            pixels = noise.integers(0, 256, (48, 64, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for k in range(seconds_of_sound):
            silence = np.zeros((1, 8000), np.int16)
            heard = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            heard.sample_rate, heard.pts = 8000, 8000 * k
            container.mux(sound.encode(heard))
    return path


@needs_av
@pytest.mark.parametrize("ending", ["mkv", "flv"])
def test_a_cut_video_that_counts_no_frames_is_known_by_its_length(tmp_path, ending):
    path = noise_clip(tmp_path / f"clip.{ending}")
    reader, frames, _ = read(path)
    assert (len(frames), reader.frames, reader.fault) == (75, 0, None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader, frames, _ = read(path)
    assert 10 < len(frames) < 60
    assert "of 3.00 seconds" in reader.fault


@needs_av
def test_sound_that_outlasts_the_video_is_no_fault(tmp_path):
    reader, frames, _ = read(noise_clip(tmp_path / "long.mkv", seconds_of_sound=6))
    assert (len(frames), reader.fault) == (75, None)


@needs_av
def test_a_file_of_sound_alone_is_refused_as_that(tmp_path):
    import av

    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        silence = np.zeros((1, 1024), np.float32)
        heard = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        heard.sample_rate, heard.pts = 8000, 0
        container.mux(sound.encode(heard))
        container.mux(sound.encode())
    with pytest.raises(DetkitError, match=r"song\.mp4.*no pictures"):
        video.open_reader(str(tmp_path / "song.mp4"))


@needs_av
def test_a_hole_in_a_video_costs_its_frames_only(shared, tmp_path):
    data = bytearray((shared / "video" / "traffic.avi").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    (tmp_path / "hole.avi").write_bytes(data)
    reader, frames, _ = read(tmp_path / "hole.avi")
    assert 25 <= len(frames) < 40
    assert "frame" in reader.fault


@both
@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_what_is_no_video_is_refused_by_name(use, shared, tmp_path, library, content):
    use(library)
    path = tmp_path / "it's (1).mp4"
    whole = (shared / "video" / "bikes.mp4").read_bytes()
    path.write_bytes(whole[:30_000] if content is None else content)  # an MP4's index is at its end
    with pytest.raises(DetkitError, match=r"it's \(1\)\.mp4"):
        video.open_reader(str(path))


@both
def test_memory_does_not_grow_with_a_videos_length(use, tmp_path, library):
    use(library)
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("memory is read from /proc")
    frame = np.zeros((240, 320, 3), np.uint8)
    writer = video.open_writer(tmp_path / "long.mp4", clock(), frame.shape[:2])
    for k in range(500):
        frame[:] = k // 2
        writer.write(frame, k / 25)
    writer.close()
    pages = []
    copy = video.open_writer(tmp_path / "copy.mp4", clock(), (240, 320))
    for frame, seconds in video.open_reader(str(tmp_path / "long.mp4")):
        copy.write(frame, seconds)
        pages.append(int(statm.read_text().split()[1]))
    copy.close()
    assert len(pages) == 500
    grown = (max(pages[200:]) - max(pages[:200])) * 4096  # 300 frames more are 69 MB of pixels
    assert grown < 20e6


@needs_av
@pytest.mark.parametrize("ending", [".avi", ".mkv"])
def test_a_title_in_another_encoding_is_no_reason_to_refuse_a_video(tmp_path, ending):
    import av

    path = tmp_path / f"clip{ending}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "\u00e9t\u00e9"
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for picture in grey_frames(3):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = path.read_bytes()
    assert "\u00e9t\u00e9".encode() in whole
    path.write_bytes(whole.replace("\u00e9t\u00e9".encode(), b"\xe9t\xe9__"))
    _, frames, _ = read(path)
    assert len(frames) == 3
