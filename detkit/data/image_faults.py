"""What is wrong with the file of a picture, and what to do about it."""

from __future__ import annotations

import errno
from pathlib import Path

from detkit.errors import DetkitError

MAX_PIXELS = 178_956_970  # where Pillow itself refuses: 0.5 GB of RGB


def unreadable(path: Path, fault: Exception) -> DetkitError:
    if isinstance(fault, OSError) and fault.errno == errno.ENAMETOOLONG:
        return DetkitError("No file can have this name.", file=path, remedy="correct the name.")
    if not path.exists():
        return DetkitError("The image is missing.", file=path, remedy="put it there.")
    if path.is_dir():
        return DetkitError("This is a folder, not an image.", file=path, remedy="name an image.")
    if isinstance(fault, PermissionError):
        return DetkitError("The image may not be read.", file=path, remedy="allow reading it.")
    if path.stat().st_size == 0:
        return DetkitError("The file is empty (0 bytes).", file=path, remedy="fetch it again.")
    return DetkitError(
        "This is not an image that can be decoded.",
        file=path,
        remedy="replace it, or convert it to PNG or JPEG.",
    )


def too_large(path: Path, what: str) -> DetkitError:
    return DetkitError(
        f"The image {what}; the limit is {MAX_PIXELS:,} pixels.",
        file=path,
        remedy="scale it down or cut it into tiles.",
    )


def broken(path: Path, detail: str) -> DetkitError:
    return DetkitError(
        f"The image is cut off or damaged ({detail}).",
        file=path,
        remedy="fetch or save it again.",
    )


def of_unknown_range(path: Path, what: str) -> DetkitError:
    """
    Args:
        what: samples it has.
    """
    return DetkitError(
        f"The image has {what}, whose range is not known.",
        file=path,
        remedy="convert it to 8 or 16 bits a channel, without a sign.",
    )


def jpeg_mask(path: Path) -> DetkitError:
    return DetkitError(
        "The mask is a JPEG, whose values are not exact: between two classes others appear.",
        file=path,
        remedy="make the masks again as PNG, with the class index as the value.",
    )


def mask_of_colours(path: Path) -> DetkitError:
    return DetkitError(
        "The mask is a colour image; the class of a pixel must be its value.",
        file=path,
        remedy="name the classes' colours with dataset.colours (dataset=mask_folder), or save masks"
        " as palette or grey PNG with the class index as the value; CVAT's colours are read where"
        " its labelmap.txt is there.",
    )
