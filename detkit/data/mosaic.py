"""Four pictures as one (Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3: mosaic).

    ┌──────┬────────────┐
    │  0   │     1      │   Where they meet is drawn, and which part of its picture a quarter shows:
    ├──────┼────────────┤   of the quarter's shape, at least half as wide and high as the largest
    │  2   │     3      │   such part.
    └──────┴────────────┘

The four become one picture of the square's size, which then goes through the transform as a file's
would. As in SSD's patches, objects whose centre is not seen are dropped, crowds are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from detkit.data.records import Annotation
from detkit.data.resizing import nearest, resized
from detkit.data.windows import Window, seen_in

STREAM = 4  # behind a sample's seed: its other random changes are the same with a mosaic or without
CORNER = (0.3, 0.7)  # where the four meet, shares of the square's sides
PART = (0.5, 1.0)  # of the largest part of a picture that has its quarter's shape


class Picture(NamedTuple):
    """A picture and all that is known of it, as `Transform` takes them.

    Attributes:
        image: (H, W, C) uint8, or float32 in 0 … 1.
        annotation: its N objects.
        masks: N of (H, W) bool, or None.
        pixels: (H, W) uint8, or None.
        proposals: (P, 4) float32 xyxy, or None.
    """

    image: np.ndarray
    annotation: Annotation
    masks: Sequence[np.ndarray] | np.ndarray | None = None
    pixels: np.ndarray | None = None
    proposals: np.ndarray | None = None


def companions(
    probability: float, seed: tuple[int, ...], index: int, labels: np.ndarray | None, images: int
) -> list[int]:
    """The three pictures beside one, or none where there is to be no mosaic.

    Args:
        probability: of a mosaic.
        seed: of the sample.
        index: of its picture.
        labels: (I,) the class of each picture of which nothing else is known, −1 for all others;
            None: there are no such. These stay alone: what has no box would be background.
        images: I.
    """
    rng = np.random.default_rng((*seed, STREAM))
    if rng.random() >= probability or (labels is not None and labels[index] >= 0):
        return []
    boxed = np.arange(images) if labels is None else np.flatnonzero(labels < 0)
    return rng.choice(boxed, 3).tolist()


def mosaic(pictures: Sequence[Picture], size: tuple[int, int], seed: tuple[int, ...]) -> Picture:
    """
    Args:
        pictures: four, from the left above to the right below.
        size: (height, width) of what comes out.
        seed: of the sample.
    Returns:
        One picture; the first of the four as it is, where a side of one pixel cannot be shared.
    """
    if min(size) < 2:
        return pictures[0]
    rng = np.random.default_rng((*seed, STREAM, 1))
    y, x = (round(side * share) for side, share in zip(size, rng.uniform(*CORNER, 2), strict=True))
    height, width = size
    quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    parts = [_part(*pair, rng) for pair in zip(_alike(pictures), quarters, strict=True)]

    def joined(name: str) -> Any:
        """The (h, w, …) maps of the four as one, or None where there are none."""
        maps = [getattr(part, name) for part in parts]
        if any(of_part is None for of_part in maps):
            return None
        return np.concatenate([np.concatenate(maps[:2], 1), np.concatenate(maps[2:], 1)])

    known = [part.proposals for part in parts if part.proposals is not None]
    notes = [part.annotation for part in parts]
    boxes, labels, crowd, difficult, areas = (
        np.concatenate([note[field] for note in notes]) for field in range(5)
    )
    return Picture(
        joined("image"),
        Annotation(boxes, labels, crowd, difficult, areas, pictures[0].annotation.image_label),
        _masks(parts, quarters, size),
        joined("pixels"),
        np.concatenate(known) if known else None,
    )


def _alike(pictures: Sequence[Picture]) -> list[Picture]:
    """All of one kind of numbers: 8-bit pictures among 16-bit ones become such."""
    if len({picture.image.dtype for picture in pictures}) == 1:
        return list(pictures)
    return [
        p._replace(image=p.image.astype(np.float32) / 255) if p.image.dtype == np.uint8 else p
        for p in pictures
    ]


def _part(picture: Picture, quarter: Window, rng: np.random.Generator) -> Picture:
    """What a quarter shows of a picture: maps of the quarter's size, boxes in the square."""
    x1, y1, x2, y2 = quarter
    high, wide = y2 - y1, x2 - x1
    window = _window(picture.image.shape[:2], (high, wide), rng)
    shown = seen_in(window, (high, wide), *picture)
    factor = [wide / (window[2] - window[0]), high / (window[3] - window[1])]

    def moved(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        placed = boxes * np.tile(factor, 2) + [x1, y1, x1, y1]
        placed = placed.clip([x1, y1, x1, y1], [x2, y2, x2, y2]).astype(np.float32)
        return placed, np.flatnonzero((placed[:, 2:] > placed[:, :2]).all(1))

    boxes, kept = moved(shown.annotation.boxes)
    of_objects = shown.annotation._replace(boxes=boxes, image_label=None)
    of_objects = of_objects._replace(areas=of_objects.areas * factor[0] * factor[1])
    proposals = shown.proposals
    if proposals is not None:
        placed, inside = moved(proposals)
        proposals = placed[inside]
    return Picture(
        resized(shown.image, high, wide, area=True),
        Annotation(*(values[kept] for values in of_objects[:5])),
        None if shown.masks is None else [nearest(shown.masks[n], high, wide) for n in kept],
        None if shown.pixels is None else nearest(shown.pixels, high, wide),
        proposals,
    )


def _window(shape: tuple[int, ...], quarter: tuple[int, int], rng: np.random.Generator) -> Window:
    """A part of a picture of that (height, width), of the shape of a quarter."""
    sides = np.array(quarter) * min(shape[0] / quarter[0], shape[1] / quarter[1])
    high, wide = np.maximum(1, np.floor(sides * rng.uniform(*PART))).astype(int)
    top, left = (int(rng.integers(n + 1)) for n in (shape[0] - high, shape[1] - wide))
    return left, top, left + int(wide), top + int(high)


def _masks(
    parts: Sequence[Picture], quarters: Sequence[Window], size: tuple[int, int]
) -> np.ndarray | None:
    """(N, H, W) bool of all four, each in its quarter; None where one has none."""
    if any(part.masks is None for part in parts):
        return None
    canvases = []
    for part, (x1, y1, x2, y2) in zip(parts, quarters, strict=True):
        canvas = np.zeros((len(part.annotation.boxes), *size), bool)
        for place, mask in zip(canvas, part.masks or (), strict=True):
            place[y1:y2, x1:x2] = mask
        canvases.append(canvas)
    return np.concatenate(canvases)
