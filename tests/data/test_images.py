"""The decoder: every file of the real collection, and against Pillow on made ones."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from detkit.data import images
from detkit.errors import DetkitError


def photos(shared):
    return json.loads((shared / "photos/expected.json").read_text()).items()


def test_every_photo_is_read_upright_at_its_size_or_refused_by_name(shared):
    refused = 0
    for name, facts in photos(shared):
        path = shared / "photos" / name
        if not facts["pillow_decodes"]:
            refused += 1
            with pytest.raises(DetkitError) as caught:
                images.read(path)
            assert caught.value.file == path
            assert caught.value.remedy
            continue
        width, height = facts.get("size_upright", facts["size_stored"])
        pixels = images.read(path)
        assert pixels.shape == (height, width, 3), name
        assert images.size(path) == images.check(path) == (height, width), name
        deep = facts.get("bit_depth") == 16
        assert pixels.dtype == (np.float32 if deep else np.uint8), name
        assert pixels.flags.c_contiguous, name
    assert refused == 5


def test_the_eight_orientations_show_one_picture(shared):
    """Each shows the same scene; only a printed label differs, so most pixels agree closely."""
    upright = images.read(shared / "photos/exif_orientation_1.jpg").astype(int)
    for turn in range(2, 9):
        other = images.read(shared / f"photos/exif_orientation_{turn}.jpg").astype(int)
        assert np.median(np.abs(upright - other)) <= 6, turn


def test_the_same_pixels_come_from_the_same_picture_stored_otherwise(shared):
    for name, facts in photos(shared):
        if twin := facts.get("same_pixels_as"):
            a, b = images.read(shared / "photos" / name), images.read(shared / "photos" / twin)
            assert (a == b).all(), name


@pytest.mark.parametrize("name", ["truncated.jpg", "truncated.png", "truncated_progressive.jpg"])
def test_a_cut_file_is_refused_by_the_header_check_too(shared, name):
    with pytest.raises(DetkitError, match="cut off"):
        images.check(shared / "photos" / name)


def test_a_whole_jpeg_with_bytes_behind_its_end_is_read(shared, tmp_path):
    whole = shared / "photos/flower.jpg"
    padded = tmp_path / "padded.jpg"
    padded.write_bytes(whole.read_bytes() + bytes(100))
    assert (images.read(padded) == images.read(whole)).all()
    assert images.check(padded) == (360, 480)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_orientation_is_applied_once_as_pillow_does(tmp_path, turn, suffix):
    pixels = np.random.default_rng(turn).integers(0, 255, (12, 20, 3)).astype(np.uint8)
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[274] = turn
    Image.fromarray(pixels).save(path, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert (images.read(path) == expected).all()
    assert images.size(path) == expected.shape[:2]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGB"])
def test_other_modes_become_the_rgb_that_pillow_makes(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    path = tmp_path / "x.tif"
    Image.fromarray(pixels).convert(mode).save(path)
    assert (images.read(path) == np.asarray(Image.open(path).convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    image = Image.new(mode, (2, 1), (0,) * len(mode))
    image.putpixel((1, 0), (10, 20, 30, 255) if mode == "RGBA" else (10, 255))
    image.save(tmp_path / "x.png")
    pixels = images.read(tmp_path / "x.png")
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1].tolist() == ([10, 20, 30] if mode == "RGBA" else [10, 10, 10])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_depth(tmp_path, channels, suffix):
    import cv2

    values = np.random.default_rng(0).integers(0, 65536, (5, 6, channels)).astype(np.uint16)
    if channels == 4:
        values[..., 3] = 65535
    path = tmp_path / f"x.{suffix}"
    assert cv2.imwrite(str(path), values)  # B, G, R
    expected = np.broadcast_to(values[..., :3][..., ::-1], (5, 6, 3)) / 65535
    assert images.read(path).dtype == np.float32
    assert np.allclose(images.read(path), expected, atol=1e-7)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert images.read(tmp_path / "x.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("side", [13_400, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_absurdly_large_picture_is_refused_from_its_header(tmp_path, side):
    """A PNG header that claims the size, with nothing behind it. Pillow would take the first."""
    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 99) + b"IDAT")
    for look in (images.size, images.read):
        with pytest.raises(DetkitError, match="pixels"):
            look(path)


def test_what_is_not_there_or_not_a_file_is_named(tmp_path):
    with pytest.raises(DetkitError, match="missing"):
        images.read(tmp_path / "no.jpg")
    with pytest.raises(DetkitError, match="folder"):
        images.size(tmp_path)


def write_tiff(path, bits, values, *, kind=1, photometric=1):
    """One uncompressed strip; `kind` is 1 for no sign, 2 for a sign, 3 for floating point."""
    height, width, data = *values.shape, values.tobytes()
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 3, height), (279, 4, len(data)), (339, 3, kind)]
    entries = b"".join(struct.pack("<HHII", tag, unit, 1, value) for tag, unit, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


@pytest.mark.parametrize(
    ("bits", "kind", "dtype", "words"),
    [
        (32, 3, "<f4", "floating-point"),
        (12, 1, "<u2", "12 bits"),
        (32, 1, "<u4", "32 bits"),
        (32, 2, "<i4", "32 bits with a sign"),
        (16, 2, "<i2", "16 bits with a sign"),
        (8, 2, "<i1", "8 bits with a sign"),
    ],
)
def test_samples_of_an_unknown_range_are_refused(tmp_path, bits, kind, dtype, words):
    path = write_tiff(tmp_path / "x.tif", bits, np.ones((4, 4), dtype), kind=kind)
    for look in (images.read, images.check):
        with pytest.raises(DetkitError, match=words) as caught:
            look(path)
        assert caught.value.file == path
        assert "8 or 16 bits" in caught.value.remedy


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
def test_where_0_is_white_it_is_shown_white(tmp_path, dtype):
    white = np.iinfo(dtype).max
    values = np.linspace(0, white, 16).astype(dtype).reshape(4, 4)
    path = write_tiff(tmp_path / "x.tif", 8 * values.itemsize, values, photometric=0)
    scale = 1 if dtype == "u1" else 65535
    assert np.allclose(images.read(path)[..., 0], (white - values) / scale, atol=1e-6)


@pytest.mark.parametrize("highest", [2, 255, 1023, 4095, 65535])
def test_a_pgm_is_white_at_the_value_that_its_header_says(tmp_path, highest):
    values = np.linspace(0, highest, 30).astype(">u2" if highest > 255 else "u1").reshape(5, 6)
    path = tmp_path / "x.pgm"
    path.write_bytes(f"P5\n6 5\n{highest}\n".encode() + values.tobytes())
    pixels = images.read(path)
    assert pixels.dtype == (np.uint8 if highest < 256 else np.float32)
    shown = pixels / (255 if highest < 256 else 1)
    assert np.allclose(shown[..., 0], values / highest, atol=0.002 if highest < 256 else 1e-5)


def test_deep_inks_are_not_taken_for_colours(tmp_path):
    """Pillow shortens them to 8 bits, OpenCV takes black ink for opacity."""
    path = tmp_path / "x.tif"
    bits, inks = struct.pack("<4H", *[16] * 4), struct.pack("<4H", 0, 65535, 65535, 0) * 4
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 4, 8), (259, 3, 1, 1), (262, 3, 1, 5)]
    tags += [(273, 4, 1, 16), (277, 3, 1, 4), (278, 3, 1, 2), (279, 4, 1, 32)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 48) + bits + inks
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert images.read(path)[0, 0].tolist() == [255, 0, 0]


def test_postscript_under_another_name_starts_nothing(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("started"))
    path = tmp_path / "x.jpg"
    Image.new("RGB", (4, 4)).save(path, "EPS")
    for look in (images.read, images.check, images.size, images.read_values):
        with pytest.raises(DetkitError, match="not an image"):
            look(path)


def test_mask_values_survive_palette_and_grey(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey = Image.fromarray(values)
    palette = grey.copy()
    palette.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    three = Image.merge("RGB", [grey] * 3)
    for name, image in (("grey", grey), ("palette", palette), ("three", three)):
        image.save(tmp_path / f"{name}.png")
        assert (images.read_values(tmp_path / f"{name}.png") == values).all(), name


def test_a_colour_mask_is_refused(tmp_path):
    Image.new("RGB", (2, 2), (128, 0, 0)).save(tmp_path / "x.png")
    with pytest.raises(DetkitError, match="colour"):
        images.read_values(tmp_path / "x.png")


def test_a_name_that_no_file_can_have_is_told(tmp_path):
    for read in (images.read, images.check):
        with pytest.raises(DetkitError, match="No file can have this name"):
            read(tmp_path / f"{'a' * 300}.jpg")
