"""Which part of a picture SSD trains on, and how it lies in the network's image.

    file's image ─▶ zoomed out (on a larger canvas), or not ─▶ a patch of it, or all ─▶ resized

Only a rectangle is chosen, which may reach beyond the picture; what is resized is the picture's
part in it, so a large canvas costs nothing (Liu et al. 2016, sections 2.2 and 3.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detkit.data.records import Annotation

Window = tuple[int, int, int, int]  # xyxy, pixels of the file's image; beyond it is the fill colour

SIDES = (0.3, 1.0)  # of a patch, of the canvas's side: about a tenth of its area, to all of it
RATIO = 2.0  # width / height of a patch at most, and its inverse at least
TRIALS = 50  # patches that are tried for one overlap
ROUNDS = 10  # overlaps that are tried before all is taken


def whole(height: int, width: int) -> Window:
    return 0, 0, width, height


def ssd_window(
    zoom_out: float,
    crop: float,
    largest: float,
    overlaps: Sequence[float],
    rng: np.random.Generator,
    boxes: np.ndarray,
    height: int,
    width: int,
) -> Window:
    """
    Args:
        zoom_out: how often the picture is put on a larger canvas.
        crop: how often one of the choices of a patch is taken: one of `overlaps`, any, or all.
        largest: side of the canvas at most, of the picture's.
        overlaps: least IoU of a patch with some object.
        boxes: (N, 4) xyxy of the objects, inside the picture; those without extent do not count.
    """
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    canvas = whole(height, width)
    if rng.random() < zoom_out:
        canvas = _canvas(rng, largest, height, width)
    if rng.random() >= crop or not len(boxes):
        return canvas
    for _ in range(ROUNDS):
        choice = int(rng.integers(len(overlaps) + 2))
        if choice == len(overlaps):
            return canvas
        least = overlaps[choice] if choice < len(overlaps) else 0.0
        patches = _patches(rng, canvas)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres > patches[:, None, :2]) & (centres < patches[:, None, 2:])).all(-1)
        good = inside.any(1) & (_iou(patches, boxes).max(1) >= least)
        if good.any():
            x1, y1, x2, y2 = patches[good.argmax()].tolist()
            return x1, y1, x2, y2
    return canvas


def _canvas(rng: np.random.Generator, largest: float, height: int, width: int) -> Window:
    factor = rng.uniform(1, largest)
    wide, high = round(width * factor), round(height * factor)
    left, top = int(rng.integers(wide - width + 1)), int(rng.integers(high - height + 1))
    return -left, -top, wide - left, high - top


def _patches(rng: np.random.Generator, canvas: Window) -> np.ndarray:
    """(TRIALS, 4) int64 xyxy inside the canvas."""
    x1, y1, x2, y2 = canvas
    size = np.array([x2 - x1, y2 - y1])
    scale = rng.uniform(*SIDES, TRIALS)
    low, high = np.maximum(1 / RATIO, scale**2), np.minimum(RATIO, 1 / scale**2)
    root = np.sqrt(rng.uniform(low, high))
    shares = np.stack([scale * root, scale / root], 1)
    sides = np.clip(np.rint(shares * size), 1, size)
    corner = np.floor(rng.random((TRIALS, 2)) * (size - sides + 1)) + [x1, y1]
    return np.concatenate([corner, corner + sides], 1).astype(np.int64)


def _iou(patches: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(T, N) of (T, 4) patches and (N, 4) boxes."""
    low = np.maximum(patches[:, None, :2], boxes[:, :2])
    high = np.minimum(patches[:, None, 2:], boxes[:, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (patches, boxes)]
    return common / np.maximum(areas[0][:, None] + areas[1] - common, 1e-9)


def centres_inside(boxes: np.ndarray, window: Window) -> np.ndarray:
    """(N,) bool: whose centre lies in the window."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > window[:2]) & (centres < window[2:])).all(1)


class Shown(NamedTuple):
    """What a window shows of a picture, as the picture of its own that is to be resized.

    Attributes:
        image, annotation, masks, pixels, proposals: of the part; objects that are dropped have a
            box without extent.
        size: (height, width) that the part is resized to.
        border: pixels (above, below), (left, right) of it in the network's image.
    """

    image: np.ndarray
    annotation: Annotation
    masks: Sequence[np.ndarray] | None
    pixels: np.ndarray | None
    proposals: np.ndarray | None
    size: tuple[int, int]
    border: tuple[tuple[int, int], tuple[int, int]]


def seen_in(
    window: Window,
    size: tuple[int, int],
    image: np.ndarray,
    annotation: Annotation,
    masks: Sequence[np.ndarray] | np.ndarray | None,
    pixels: np.ndarray | None,
    proposals: np.ndarray | None,
) -> Shown:
    """
    Args:
        size: (height, width) of the network's image, which shows the window.
        image, annotation, masks, pixels, proposals: of the picture, as `Transform` takes them.
    """
    height, width = image.shape[:2]
    rows, columns, inner, border = placed(window, (height, width), size)

    def moved(boxes: np.ndarray, stays: np.ndarray | None = None) -> np.ndarray:
        inside = np.clip(boxes, 0, [width, height, width, height])
        kept = centres_inside(inside, window)
        shift = np.tile([columns.start, rows.start], 2)
        return ((inside - shift) * (kept if stays is None else kept | stays)[:, None]).astype(
            boxes.dtype
        )

    crowd = annotation.crowd.astype(bool)  # any part of it is no background
    return Shown(
        image[rows, columns],
        annotation._replace(boxes=moved(annotation.boxes, crowd)),
        None if masks is None else [mask[rows, columns] for mask in masks],
        None if pixels is None else pixels[rows, columns],
        None if proposals is None else moved(proposals),
        inner,
        border,
    )


def placed(
    window: Window, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[slice, slice, tuple[int, int], tuple[tuple[int, int], tuple[int, int]]]:
    """How the picture's part in a window lies in an image of `size` that shows the window.

    Args:
        window: it overlaps the picture.
        shape, size: (height, width) of the picture and of the image.
    Returns:
        rows, columns: of the picture that are shown.
        inner: the (height, width) that they are resized to.
        border: pixels of the image (above, below), (left, right) of them.
    """
    x1, y1, x2, y2 = window
    rows, high, down = _side(y1, y2, shape[0], size[0])
    columns, wide, across = _side(x1, x2, shape[1], size[1])
    return rows, columns, (high, wide), (down, across)


def _side(start: int, end: int, picture: int, image: int) -> tuple[slice, int, tuple[int, int]]:
    first, last = max(0, start), min(picture, end)
    scale = image / (end - start)
    before = min(round((first - start) * scale), image - 1)
    after = max(before + 1, round((last - start) * scale))
    return slice(first, last), after - before, (before, image - after)
