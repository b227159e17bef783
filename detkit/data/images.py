"""The one image decoder: the header first, then the pixels, upright, RGB.

What comes out is (H, W, 3) uint8, or float32 in 0 … 1 where the file has 16 bits a channel. EXIF
orientation is applied once, here. Grey becomes three equal channels, a palette its colours, CMYK is
converted (Adobe's inverted inks too), transparency that the file declares is laid over white, of an
animation the first frame counts. Refused by name: files that are missing, empty, no image, cut off,
larger than `MAX_PIXELS`, or of other samples than 8 or 16 bits without a sign, since nobody knows
their white.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detkit import foreign
from detkit.data import image_faults
from detkit.data.image_faults import MAX_PIXELS
from detkit.errors import DetkitError

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"]
    + [".ppm", ".pgm", ".pbm", ".pnm"]
)
# Not all that Pillow knows: for EPS it would start Ghostscript, whatever the file is called. WebP
# is last because Pillow may be built without it; MPO is opened as JPEG.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "GIF", "PPM", "WEBP")
DARK = 0.1  # of the range of 16 bits, below which a picture is remarked on
ASSOCIATED = 1  # TIFF's word for colours that are multiplied by their alpha already
_EXTRA_SAMPLES = 338  # tag of TIFF
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _PHOTOMETRIC = 258, 339, 262  # tags of TIFF
_END = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


def is_image(path: Path) -> bool:
    """Whether the name is one of a picture (hidden files, such as macOS's `._x.jpg`, are not)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image, from the header alone.

    Raises:
        DetkitError: missing, empty, not an image, or too large.
    """
    with _opened(path) as file, _open(file, path) as image:
        return _upright_size(image)


def lies(path: Path) -> bool:
    """Whether the EXIF orientation turns the picture by a quarter."""
    with _opened(path) as file, _open(file, path) as image:
        return _orientation(image) >= 5 and image.format != "TIFF"


def has_colours(path: Path, page: int = 0) -> bool:
    """Whether a mask's pixels are colours, by its header: no values, nor numbers in a palette.

    Raises:
        DetkitError: as `size`.
    """
    with _opened(path) as file, _open(file, path, page) as image:
        return len(image.getbands()) >= 3


def pages(path: Path) -> int:
    """How many pictures a TIFF has; 1 of any other file.

    Raises:
        DetkitError: as `size`.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 1
    with _opened(path) as file, _open(file, path) as image:
        return getattr(image, "n_frames", 1) if image.format == "TIFF" else 1


def check(path: Path, *, index: bool = False, page: int = 0) -> tuple[int, int]:
    """`size`, and the end of the file is there: only a JPEG or PNG without its end is decoded.

    Args:
        index: the file is for `read_values`, not for `read`.
        page: of a TIFF with several.
    Raises:
        DetkitError: as `size`, cut off, or of a kind that would be refused.
    """
    with _opened(path) as header, _open(header, path, page) as image:
        _refuse_index(image, path) if index else _refuse_picture(image, path)
        mark = _END.get(image.format or "")
        if mark:
            with _opened(path) as file:
                file.seek(-min(len(mark), file.seek(0, os.SEEK_END)), os.SEEK_END)
                if file.read() != mark:
                    _load(image, path)
        return _upright_size(image)


def read(path: str | Path, page: int = 0) -> NDArray:
    """(H, W, 3) uint8 RGB, upright; float32 in 0 … 1 for 16-bit files.

    Args:
        page: of a TIFF with several.
    Raises:
        DetkitError: the header's faults, a file that is cut off, or one that cannot be decoded.
    """
    path = Path(path)
    data = _bytes(path)
    with _open(io.BytesIO(data), path, page) as image:
        _refuse_picture(image, path)
        turn = _orientation(image)
        # Without the end marker OpenCV would return the part that is there, Pillow refuses it.
        whole_jpeg = image.format == "JPEG" and data.endswith(_END["JPEG"])
        if whole_jpeg and image.mode in ("RGB", "L"):  # OpenCV takes 3/4 of Pillow's time
            pixels = _with_opencv(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, path)
        elif _is_16_bit(image, data):
            pixels = _sixteen_bit(image, data, path, page)
        else:
            pixels = _with_pillow(image, path)
            turn = 1 if image.format == "TIFF" else turn  # Pillow turns TIFF by itself
    return np.ascontiguousarray(_turned(pixels, turn))


def read_as(path: str | Path, channels: int, page: int = 0) -> NDArray:
    """`read` for 1 and 3 channels, which are colours or grey, else `read_bands`."""
    return read(path, page) if channels in (1, 3) else read_bands(path, channels)


def read_bands(path: str | Path, bands: int) -> NDArray:
    """(H, W, bands) as `read`, of a picture whose bands are no colours: all as they are.

    They are the samples of its pixels, up to four, or the pages of a TIFF.

    Raises:
        DetkitError: as `read`, or another number of bands.
    """
    path = Path(path)
    there = pages(path)
    if there > 1:
        if there == bands:
            return np.concatenate([read(path, page)[..., :1] for page in range(bands)], 2)
    else:
        with _open(io.BytesIO(_bytes(path)), path) as image:
            _refuse_picture(image, path)
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        values = _with_opencv(_bytes(path), flags, path)
        values = values[..., None] if values.ndim == 2 else values
        there = values.shape[2]
        if there == bands:
            order = [2, 1, 0, 3][:bands] if bands > 2 else list(range(bands))  # OpenCV: B, G, R
            values = values[..., order]
            return values / np.float32(65535) if values.dtype == np.uint16 else values
    raise DetkitError(
        f"The picture has {there} band{'' if there == 1 else 's'}, not {bands}.",
        file=path,
        remedy=f"set dataset.channels={there} (null for colours), or convert the picture; more"
        " than four bands are the pages of a TIFF.",
    )


def read_colours(path: Path, page: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the exact colours of a mask, upright.

    Raises:
        DetkitError: as `read_values`.
    """
    with _open(io.BytesIO(_bytes(path)), path, page) as image:
        _refuse_index(image, path)
        turn = _orientation(image) if image.format != "TIFF" else 1
        _load(image, path)
        return np.ascontiguousarray(_turned(np.asarray(image.convert("RGB")), turn))


def read_values(path: Path, page: int = 0) -> NDArray[np.uint8]:
    """(H, W) uint8: the raw values of an index image (palette indices, grey levels), upright.

    Args:
        page: of a TIFF with several.
    Raises:
        DetkitError: as `read`, or a colour image or JPEG, whose values name no class.
    """
    with _open(io.BytesIO(_bytes(path)), path, page) as image:
        _refuse_index(image, path)
        turn = _orientation(image) if image.format != "TIFF" else 1
        _load(image, path)
        values = np.asarray(image)
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]
    if values.ndim == 3:
        raise image_faults.mask_of_colours(path)
    if values.dtype != np.uint8 and values.size and not 0 <= values.min() <= values.max() <= 255:
        raise DetkitError(
            f"The mask holds the value {values.max()}; class indices end at 255.",
            file=path,
            remedy="save masks as 8-bit images with the class index as the value.",
        )
    return np.ascontiguousarray(_turned(values.astype(np.uint8), turn))


def _bytes(path: Path) -> bytes:
    with _opened(path) as file:
        try:
            return file.read()
        except OSError as fault:
            raise image_faults.unreadable(path, fault) from fault


def _opened(path: Path) -> BinaryIO:
    try:
        return foreign.opened(path)
    except OSError as fault:
        raise image_faults.unreadable(path, fault) from fault


def _open(source: BinaryIO, path: Path, page: int = 0) -> Image.Image:
    """Pillow's image with only the header read."""
    try:
        image = Image.open(source, formats=_FORMATS)
        if page:
            image.seek(page)
    except Image.DecompressionBombError as fault:
        raise image_faults.too_large(path, f"has over {MAX_PIXELS:,} pixels") from fault
    except Exception as fault:  # a decoder on foreign bytes raises anything
        raise image_faults.unreadable(path, fault) from fault
    if image.width * image.height > MAX_PIXELS:
        raise image_faults.too_large(path, f"is {image.width}x{image.height}")
    return image


def _load(image: Image.Image, path: Path) -> None:
    try:
        image.load()
    except Exception as fault:  # a decoder on foreign bytes raises anything
        raise image_faults.broken(path, str(fault)) from fault


def _refuse_picture(image: Image.Image, path: Path) -> None:
    """Raise, from the header, where it is not known which values are black and white."""
    bits, kinds = {8}, {1}
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits, kinds = set(tags.get(_BITS_PER_SAMPLE, (8,))), set(tags.get(_SAMPLE_FORMAT, (1,)))
    if image.mode == "F":
        what = "floating-point samples"
    elif kinds != {1}:
        what = f"samples of {max(bits)} bits with a sign"
    elif bits - {1, 2, 4, 8, 16}:
        what = f"samples of {max(bits)} bits"
    else:
        return
    raise image_faults.of_unknown_range(path, what)


def _refuse_index(image: Image.Image, path: Path) -> None:
    if image.format in ("JPEG", "MPO"):
        raise image_faults.jpeg_mask(path)


def _with_pillow(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    _load(image, path)
    if image.mode in ("RGBA", "LA") and not _has_alpha(image):
        bands = np.asarray(image)[..., :-1]
        return np.repeat(bands, 3, 2) if image.mode == "LA" else bands
    return on_white(image)


def _has_alpha(image: Image.Image) -> bool:
    """Whether the last of the bands is said to be transparency; TIFF's may be near infrared."""
    return image.format != "TIFF" or bool(_extra(image) & {ASSOCIATED, 2})


def _extra(image: Image.Image) -> set[int]:
    """What TIFF says of the bands behind the colours; nothing of one without the tag."""
    return set(image.tag_v2.get(_EXTRA_SAMPLES, ()))  # type: ignore[attr-defined]


def on_white(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a loaded 8-bit image; what is transparent shows white."""
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layer)
    return np.array(image.convert("RGB"))


def _is_16_bit(image: Image.Image, data: bytes) -> bool:
    """Pillow shortens 16-bit colour to 8 bits and tells nobody, so the header is asked."""
    if image.format == "PNG":
        return data[24] == 16  # the IHDR chunk: width, height, then the bit depth
    if image.format == "TIFF":
        bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (8,)))  # type: ignore[attr-defined]
        return bits == 16 and image.mode != "CMYK"  # whose inks OpenCV would take for colours
    return image.mode == "I"  # PGM


def _sixteen_bit(image: Image.Image, data: bytes, path: Path, page: int = 0) -> NDArray:
    if image.format == "PPM":  # Pillow scales what ends at another value than 65,535
        _load(image, path)
        values = np.asarray(image, np.float32) / np.float32(65535)
    else:
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        values = _with_opencv(data, flags, path, page) / np.float32(65535)
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
        values = 1 - values  # 0 is white there, which OpenCV overlooks
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, 2)
    if values.shape[2] == 2:
        return np.repeat(values[..., :1], 3, 2)
    colours = values[..., 2::-1]  # OpenCV gives B, G, R
    if values.shape[2] == 4 and _has_alpha(image):
        alpha = values[..., 3:]
        premultiplied = image.format == "TIFF" and ASSOCIATED in _extra(image)
        colours = (colours if premultiplied else colours * alpha) + (1 - alpha)
    return colours.clip(0, 1)


def remark(path: Path, channels: int = 3, page: int = 0) -> str | None:
    """What somebody may not expect of how a picture is read, in a sentence without its subject.

    Args:
        channels, page: as of `read_as`.
    Raises:
        DetkitError: as `read`.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return None
    data = _bytes(path)
    with _open(io.BytesIO(data), path, page) as image:
        if image.format == "TIFF" and channels in (1, 3):
            bands = len(image.tag_v2.get(_BITS_PER_SAMPLE, (8,)))  # type: ignore[attr-defined]
            if bands in (2, 4) and image.mode != "CMYK" and not _has_alpha(image):
                return "have a band more, which is left out: nothing says that it is transparency"
        sixteen = _is_16_bit(image, data)
    if sixteen and (brightest := float(read_as(path, channels, page).max())) < DARK:
        return (
            f"have 16 bits and fill under a tenth of their range (up to {brightest:.1%}): nearly"
            " black; stretch their values if that is not meant"
        )
    return None


def _with_opencv(data: bytes, flags: int, path: Path, page: int = 0) -> NDArray:
    buffer = np.frombuffer(data, np.uint8)
    if page:
        read, found = cv2.imdecodemulti(buffer, flags, range=(page, page + 1))
        pixels = found[0] if read and found else None
    else:
        pixels = cv2.imdecode(buffer, flags)
    if pixels is None:
        raise image_faults.broken(path, "the decoder gave up")
    return pixels


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 … 8; 1 where the tag is absent or damaged."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole picture to look for a late chunk
    try:
        turn = image.getexif().get(274, 1)
    except Exception:  # damaged EXIF is common, and no reason to refuse the picture
        return 1
    return turn if turn in range(1, 9) else 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    swapped = _orientation(image) >= 5 and image.format != "TIFF"  # TIFF's size is upright already
    return (image.width, image.height) if swapped else (image.height, image.width)


def _turned(pixels: NDArray, orientation: int) -> NDArray:
    """The stored rows and columns as the EXIF orientation wants them shown."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def with_channels(image: np.ndarray, channels: int, file: Path) -> np.ndarray:
    """The (H, W, C) picture with as many channels as a network takes: grey ↔ RGB.

    Raises:
        DetkitError: it has others.
    """
    if image.shape[2] == channels:
        return image
    if image.shape[2] == 1:
        return np.repeat(image, channels, 2)
    if image.shape[2] == 3 and channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    raise DetkitError(
        f"The picture has {image.shape[2]} channels, the network takes {channels}.",
        file=file,
        remedy=f"set dataset.channels={image.shape[2]} when training, or convert the picture.",
    )
