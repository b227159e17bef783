"""Which part of a picture SSD trains on, and how it lies in the network's image.

    file's image ─▶ zoomed out (on a larger canvas), or not ─▶ a patch of it, or all ─▶ resized

Only a rectangle is chosen, which may reach beyond the picture; what is resized is the picture's
part in it, so a large canvas costs nothing (Liu et al. 2016, sections 2.2 and 3.6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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


def placed(
    window: Window, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[slice, slice, tuple[int, int], tuple[int, int, int, int]]:
    """How the picture's part in a window lies in an image of `size` that shows the window.

    Args:
        window: it overlaps the picture.
        shape, size: (height, width) of the picture and of the image.
    Returns:
        rows, columns: of the picture that are shown.
        inner: the (height, width) that they are resized to.
        around: pixels of the image above, below, left and right of them.
    """
    x1, y1, x2, y2 = window
    rows, high, above, below = _side(y1, y2, shape[0], size[0])
    columns, wide, left, right = _side(x1, x2, shape[1], size[1])
    return rows, columns, (high, wide), (above, below, left, right)


def _side(start: int, end: int, picture: int, image: int) -> tuple[slice, int, int, int]:
    first, last = max(0, start), min(picture, end)
    scale = image / (end - start)
    before = min(round((first - start) * scale), image - 1)
    after = max(before + 1, round((last - start) * scale))
    return slice(first, last), after - before, before, image - after
