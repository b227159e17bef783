"""Boxes, masks, class maps and letters on (H, W, 3) uint8 RGB pictures.

Nothing here changes its input. Sizes follow the picture's, so that a thumbnail and a 4K frame look
alike; a class has the same colour in every picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, singledispatch
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from detkit import atomic, lettering, ours
from detkit.errors import DetkitError
from detkit.lettering import font_size

IGNORE = 255  # as in structures, which is above this room
MASK_OPACITY = 0.4
HIDDEN = 0.1  # of a mask, or of the strip that hides it, at most
CLEAR = "background"
CLASS_OPACITY = 0.5


class Objects(Protocol):
    """What is drawn of `Detections`: tensors on any device, as described there."""

    boxes: Any
    scores: Any
    labels: Any
    names: tuple[str, ...]
    masks: Any

    @property
    def image_size(self) -> tuple[int, int]: ...

    def window(self, i: int) -> tuple[slice, slice, np.ndarray]: ...


def colour(label: int) -> tuple[int, int, int]:
    """RGB of a class: as far as can be, to the eye, from those of all classes before it."""
    red, green, blue = palette()[label % 256].tolist()
    return red, green, blue


@lru_cache(maxsize=1)
def palette() -> np.ndarray:
    """(256, 3) uint8 RGB: each of saturated colours the farthest in CIELAB from all before it."""
    steps = np.linspace(0, 1, 11, dtype=np.float32)
    rgb = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 1, 3)
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[:, 0]
    vivid = (np.hypot(lab[:, 1], lab[:, 2]) > 35) & (lab[:, 0] > 30)
    rgb, lab = rgb[vivid, 0], lab[vivid]
    distance = np.full(len(lab), np.inf)
    chosen = [int(rgb[:, 0].argmax())]
    for _ in range(255):
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return (rgb[chosen] * 255).round().astype(np.uint8)


@singledispatch
def as_rgb(picture: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB from an (H, W, 3) or (H, W) array or a (3, H, W) tensor, uint8 too.

    Whoever can read a picture of another kind (`inference.predictor`: paths and PIL images)
    registers it: this room lies below the decoders.

    Raises:
        DetkitError: another kind, shape or number format, with what to do about it.
    """
    raise DetkitError(
        f"A {type(picture).__name__} is not a picture.",
        remedy="pass a path, a uint8 array or tensor, a PIL image, or a list of these.",
    )


@as_rgb.register
def _(picture: Tensor) -> np.ndarray:
    if picture.dtype != torch.uint8 or picture.ndim != 3 or len(picture) != 3:
        raise _refused(picture, "pass (3, H, W) uint8 RGB; a batch as a list: list(tensor).")
    if not picture.numel():
        raise _refused(picture, "pass one with pixels in it.")
    if picture.is_meta or picture.layout != torch.strided:
        raise _refused(picture, "pass a dense tensor that holds its values.")
    return np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())


@as_rgb.register
def _(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8:
        raise _refused(picture, "for floats in 0 … 1: (255 * image).round().astype('uint8').")
    if picture.ndim == 2 or picture.shape[2:] == (1,):
        picture = np.repeat(picture.reshape(*picture.shape[:2], 1), 3, axis=2)
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        remedy = "pass (H, W, 3) RGB or (H, W) grey."
        if picture.ndim == 3 and picture.shape[2] == 4:
            remedy = "drop the fourth channel: image[..., :3]."
        elif picture.ndim == 3 and picture.shape[0] == 3:
            remedy = "put the channels last: image.transpose(1, 2, 0)."
        raise _refused(picture, remedy)
    return np.ascontiguousarray(picture)


def _refused(picture: np.ndarray | Tensor, remedy: str) -> DetkitError:
    kind = "tensor" if isinstance(picture, Tensor) else "array"
    dtype = str(picture.dtype).removeprefix("torch.")
    shape = ", ".join(map(str, picture.shape))
    return DetkitError(f"A {dtype} {kind} of ({shape}) is not a picture.", remedy=remedy)


def eight_bit(image: np.ndarray) -> np.ndarray:
    """The uint8 of a float picture in 0 … 1, which a 16-bit file gives; others as they are."""
    # what was blended lies a rounding outside of it; 0 … 255 would come out white
    if image.dtype.kind == "f" and image.size and image.min() >= -0.01 and image.max() <= 1.01:
        return (image * 255).round().clip(0, 255).astype(np.uint8)
    return image


def visible(image: np.ndarray) -> np.ndarray:
    """A picture of bands that are no colours as three of them, or one; others as they are."""
    if image.ndim != 3 or image.shape[2] in (1, 3):
        return image
    return image[..., :3] if image.shape[2] > 3 else image[..., :1]


def draw_boxes(image: Any, objects: Objects, scores: bool = True) -> np.ndarray:
    """A copy of the picture with boxes, class names and scores on it, masks below them.

    Args:
        image: (H, W, 3) uint8 RGB, float in 0 … 1, or what `as_rgb` takes.
        objects: boxes (N, 4) xyxy in its pixels, scores and labels (N,), names of the classes
            (their numbers are written where it is empty), masks or None.
        scores: write them behind the names. Where there are masks, what would hide them is not
            written.
    Raises:
        DetkitError: the masks are of a picture of another size.
    """
    picture = _copy(image)
    order = np.argsort(_array(objects.scores), kind="stable")  # the best one comes out on top
    boxes, values = _array(objects.boxes)[order], _array(objects.scores)[order]
    labels = _array(objects.labels)[order].tolist()
    covered: np.ndarray | None = None  # by the masks: by the nth from 1 on, else 0
    if objects.masks is not None:
        _check_size("masks", objects.image_size, picture)
        covered = np.zeros(picture.shape[:2], np.int32)
        for number, (label, i) in enumerate(zip(labels, order.tolist(), strict=True), 1):
            rows, columns, shown = objects.window(i)
            part = picture[rows, columns]
            tinted = part[shown] * (1 - MASK_OPACITY) + np.array(colour(label)) * MASK_OPACITY
            part[shown] = tinted.round()
            covered[rows, columns][shown] = number
    side = float(np.sqrt(picture.shape[0] * picture.shape[1]))
    line = max(1, round(side / 320))
    corners = _corners(boxes, picture, line)
    for label, (x0, y0, x1, y1) in zip(labels, corners, strict=True):
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour(label), line)
    names = [objects.names[label] if objects.names else str(label) for label in labels]
    texts = [
        f"{name} {value:.2f}" if scores else name
        for name, value in zip(names, values.tolist(), strict=True)
    ]
    size = font_size(side)
    if covered is not None:
        _label_beside(picture, texts, corners, labels, covered, size)
        return picture
    for label, text, (x0, y0, _, _) in zip(labels, texts, corners, strict=True):
        lettering.label(picture, text, x0 - line // 2, y0, colour(label), size)
    return picture


def _label_beside(
    picture: np.ndarray,
    texts: Sequence[str],
    corners: Sequence[Sequence[int]],
    labels: Sequence[int],
    covered: np.ndarray,
    size: int,
) -> None:
    """Texts where they hide neither a mask nor another text: above a box, below it, or in it.

    An object that leaves no such place has none: the surer ones choose first.

    Args:
        covered: (H, W) int32, 1 + the place in the lists of the object that a pixel is of; 0: none.
    """
    free = np.ones(covered.shape, bool)
    areas = np.bincount(covered.ravel(), minlength=len(texts) + 1)
    for number in range(len(texts), 0, -1):
        text, (x0, y0, _, y1) = texts[number - 1], corners[number - 1]
        height = lettering.extent(text, size)[1]
        for top in (y0 - height, y1 + 1, y0):
            place = lettering.place(picture.shape, text, x0, top, size)
            hidden = covered[place]
            own = int((hidden == number).sum())
            if (
                0 <= top <= picture.shape[0] - height
                and free[place].all()
                and (hidden > 0).sum() - own <= HIDDEN * hidden.size
                and own <= HIDDEN * areas[number]
            ):
                lettering.strip(picture, text, x0, top, colour(labels[number - 1]), size)
                free[place] = False
                break


def draw_pixels(image: Any, labels: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
    """A copy of the picture with the classes laid over it in colour, and which colour is which.

    Args:
        image: (H, W, 3) uint8 RGB, float in 0 … 1, or what `as_rgb` takes.
        labels: (H, W) uint8; 255 and `backgrounds` stay clear.
        names: of the classes.
    Raises:
        DetkitError: the picture is of another size.
    """
    picture, labels = _copy(image), np.ascontiguousarray(labels, np.uint8)
    _check_size("classes", labels.shape, picture)
    clear = [IGNORE, *backgrounds(names)]
    shown = np.ones(256, np.uint8)
    shown[clear] = 0
    overlay = cv2.applyColorMap(labels, palette().reshape(256, 1, 3))
    mixed = cv2.addWeighted(picture, 1 - CLASS_OPACITY, overlay, CLASS_OPACITY, 0)
    cv2.copyTo(mixed, cv2.LUT(labels, shown), picture)
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[clear] = 0
    size = font_size(float(np.sqrt(labels.size)))
    top = 0
    for label in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist():
        name = names[label] if label < len(names) else str(label)
        top = lettering.label(picture, name, 0, top, colour(label), size, below=True)
        if top + size > picture.shape[0]:
            break
    return picture


def backgrounds(names: Sequence[str]) -> list[int]:
    """The classes that are no things: `background`, and `0` where all names are numbers."""
    found = [k for k, name in enumerate(names) if name.strip("_").lower() == CLEAR]
    if list(names[:1]) == ["0"] and all(name.isdigit() for name in names):
        found.append(0)
    return found


def _check_size(what: str, size: Sequence[int], picture: np.ndarray) -> None:
    """
    Raises:
        DetkitError: what is drawn is of a picture of another (height, width).
    """
    if picture.shape[:2] != tuple(size):
        raise DetkitError(
            f"The {what} are of a picture {size[1]}x{size[0]}, this one is"
            f" {picture.shape[1]}x{picture.shape[0]}.",
            remedy="draw on the picture that was predicted, or resize it to that size.",
        )


def draw_labels(image: Any, texts: Sequence[str], labels: Sequence[int]) -> np.ndarray:
    """A copy of the picture with lines of text at its upper left, each on its class's colour."""
    picture = _copy(image)
    size, top = font_size(float(np.sqrt(picture.shape[0] * picture.shape[1]))), 0
    for text, label in zip(texts, labels, strict=True):
        if top + size * 4 // 3 > picture.shape[0]:
            break
        top = lettering.label(picture, text, 0, top, colour(label), size, below=True)
    return picture


def save_image(path: str | Path, picture: np.ndarray) -> Path:
    """Write an RGB picture, or an (H, W) uint8 map as it is, by its suffix; all of it or nothing.

    Raises:
        DetkitError: an unknown suffix, or a place that cannot be written to.
    """
    path = Path(path)
    coded = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        encoded, data = cv2.imencode(path.suffix, coded, quality)
    except cv2.error as error:
        raise DetkitError(
            f"No image format is called {path.suffix!r}.", file=path, remedy="use .jpg or .png."
        ) from error
    if not encoded:
        raise DetkitError(
            f"A picture of {picture.shape[1]}x{picture.shape[0]} cannot be written in this format.",
            file=path,
            remedy="use .png, or scale the source down.",
        )
    atomic.write_bytes(path, ours.signed(data.tobytes()))
    return path


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)


def _copy(image: Any) -> np.ndarray:
    return np.array(as_rgb(eight_bit(image) if isinstance(image, np.ndarray) else image))


def _corners(boxes: np.ndarray, picture: np.ndarray, line: int) -> list[list[int]]:
    """Pixels for cv2.rectangle: the box's first and last, far enough in that the line is whole."""
    height, width = picture.shape[:2]
    low, high = line // 2, np.array([width, height, width, height]) - 1 - (line - 1) // 2
    pixels = np.nan_to_num(boxes.reshape(-1, 4)).astype(np.float64) - [0, 0, 1, 1]
    return np.clip(pixels.round(), low, np.maximum(high, low)).astype(int).tolist()
