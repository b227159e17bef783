"""Where the built-in data set's shapes stand: a pure function of (seed, number)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import cv2
import numpy as np

NAMES = ("circle", "square", "star", "triangle")
SIDES = (0.08, 0.5)  # of the image's side
ALONE = (0.4, 0.9)  # the same, where an image has but one object
MOST_HIDDEN = 0.6  # of an object's own pixels
MOST_OBJECTS = 8
BACKGROUND = 255  # in the map of owners

Box = tuple[int, int, int, int]
_SUBPIXEL = 4  # bits of cv2's fixed-point coordinates


def _outline(corners: int, inner: float = 1.0) -> np.ndarray:
    """(P, 2) corners on the unit circle, every second one drawn in to `inner` if that is not 1."""
    points = corners if inner == 1.0 else 2 * corners
    angles = 2 * np.pi * np.arange(points) / points - np.pi / 2
    radii = np.where(np.arange(points) % 2, inner, 1.0)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]


_TURN = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)  # by 45 degrees: a square stands on a side
OUTLINES = (_outline(40), _outline(4) @ _TURN, _outline(5, inner=0.45), _outline(3))


@dataclass(frozen=True)
class Shape:
    """One object: where it is, and how much of each of its pixels it covers.

    Attributes:
        label: 0 … 3, into NAMES.
        left, top: of its window, in pixels of the image.
        alpha: (h, w) uint8, 255 where it covers the pixel.
        solid: (h, w) uint8, 1 where it covers at least half of it.
        area: pixels of `solid`.
    """

    label: int
    left: int
    top: int
    alpha: np.ndarray
    solid: np.ndarray
    area: int

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True)
class Layout:
    """The geometry of one image: its objects from back to front, and whose each pixel is.

    Attributes:
        shapes: N objects, later ones cover earlier ones.
        owner: (size, size) uint8, the index of the object that is seen, 255 where none is.
        boxes: (N, 4) int64, xyxy around what is seen of each.
    """

    shapes: list[Shape]
    owner: np.ndarray
    boxes: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return np.array([shape.label for shape in self.shapes], np.int64)

    @property
    def masks(self) -> np.ndarray:
        """(N, size, size) bool, what is seen of each object."""
        return self.owner == np.arange(len(self.shapes), dtype=np.uint8)[:, None, None]

    @property
    def pixels(self) -> np.ndarray:
        """(size, size) uint8: 0 background, 1 + label elsewhere."""
        classes = np.zeros(256, np.uint8)
        classes[: len(self.shapes)] = self.labels + 1
        return classes[self.owner]


Arrange = Callable[[int, int, int], Layout]  # (seed, number, size) → the objects


def generator(seed: int, number: int, part: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, number, part]))


def _shape(random: list[float], size: int, sides: tuple[float, float] = SIDES) -> Shape:
    """The shape that six numbers in 0 … 1 describe."""
    kind, side, aspect, turn, x, y = random
    label = int(kind * len(NAMES))
    low, high = sides[0] * size, sides[1] * size
    stretch = 0.75 ** (aspect - 0.5)
    side = low + side * (high - low)
    width = min(max(side * stretch, math.ceil(low)), math.floor(high))
    height = min(max(side / stretch, math.ceil(low)), math.floor(high))
    x, y = x * (size - width), y * (size - height)
    left, top = int(x), int(y)
    cos, sin = math.cos((turn - 0.5) * math.pi / 3), math.sin((turn - 0.5) * math.pi / 3)
    points = OUTLINES[label] @ np.array([[cos, sin], [-sin, cos]])
    points -= points.min(0)
    # cv2 draws the outline half a pixel to either side, so that much is left free
    points *= np.array([width - 1, height - 1]) / points.max(0)
    points += (x - left, y - top)
    alpha = np.zeros((math.ceil(y + height) - top, math.ceil(x + width) - left), np.uint8)
    fixed = (points * (1 << _SUBPIXEL) + 0.5).astype(np.int32)
    cv2.fillPoly(alpha, [fixed], 255, cv2.LINE_AA, _SUBPIXEL)
    solid = cv2.threshold(alpha, 127, 1, cv2.THRESH_BINARY)[1]
    return Shape(label, left, top, alpha, solid, cv2.countNonZero(solid))


def layout(seed: int, number: int, size: int, without: Collection[int] = ()) -> Layout:
    """The objects of one image: 1 to 8, none hidden by more than 60 %, none seen smaller than 8 %.

    A placement that would break one of these is drawn again, at most 40 times an image; an image
    whose place runs out has fewer objects.

    Args:
        without: labels of which there is to be no object.
    """
    rng = generator(seed, number, 0)
    wanted = int(rng.integers(1, MOST_OBJECTS + 1))
    owner = np.full((size, size), BACKGROUND, np.uint8)
    shapes: list[Shape] = []
    boxes: list[Box] = []
    for random in rng.random((40, 6)).tolist():
        if len(shapes) == wanted:
            break
        shape = _shape(random, size)
        if shape.label in without:
            continue
        trial = owner.copy()
        cv2.copyTo(np.full_like(shape.solid, len(shapes)), shape.solid, trial[shape.window])
        seen = _extents(trial, [*shapes, shape], boxes)
        if seen is not None:
            owner, boxes = trial, seen
            shapes.append(shape)
    return Layout(shapes, owner, np.array(boxes, np.int64).reshape(-1, 4))


def alone(seed: int, number: int, size: int) -> Layout:
    """One object, of 40 to 90 % of the image's sides."""
    (random,) = generator(seed, number, 2).random((1, 6)).tolist()
    shape = _shape(random, size, ALONE)
    owner = np.full((size, size), BACKGROUND, np.uint8)
    cv2.copyTo(np.zeros_like(shape.solid), shape.solid, owner[shape.window])
    rows, columns = shape.window
    x, y, width, height = cv2.boundingRect(shape.solid)
    left, top = columns.start + x, rows.start + y
    return Layout([shape], owner, np.array([[left, top, left + width, top + height]], np.int64))


def withholding(classes: Collection[int], seed: int, number: int, size: int) -> Layout:
    """Objects of one class where the first one is of these, else those of all other classes."""
    first = layout(seed, number, size).shapes[0].label
    others = set(range(len(NAMES))) - {first} if first in classes else classes
    return layout(seed, number, size, without=others)


def _extents(owner: np.ndarray, shapes: list[Shape], boxes: list[Box]) -> list[Box] | None:
    """What is seen of each shape after the last one came, or None if that is too little of one.

    `boxes` are those from before: whoever the last one does not meet keeps its own.
    """
    low, high = SIDES[0] * len(owner), SIDES[1] * len(owner)
    rows, columns = shapes[-1].window
    seen = [*boxes, (columns.start, rows.start, columns.stop, rows.stop)]
    for i, (x0, y0, x1, y1) in enumerate(seen):
        if x0 >= columns.stop or x1 <= columns.start or y0 >= rows.stop or y1 <= rows.start:
            continue
        mask = (owner[y0:y1, x0:x1] == i).view(np.uint8)
        if cv2.countNonZero(mask) < (1 - MOST_HIDDEN) * shapes[i].area:
            return None
        x, y, width, height = cv2.boundingRect(mask)
        if not low <= min(width, height) <= max(width, height) <= high:
            return None
        seen[i] = x0 + x, y0 + y, x0 + x + width, y0 + y + height
    return seen
