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


def test_floating_point_samples_are_refused(tmp_path):
    Image.fromarray(np.ones((3, 3), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DetkitError, match="floating-point"):
        images.read(tmp_path / "x.tif")


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
