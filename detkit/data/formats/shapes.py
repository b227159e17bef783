"""The built-in data set: coloured shapes on textured backgrounds, drawn from a seed when asked for.

Every image is a pure function of (seed, number). The splits number their images from far apart
places, so what one trains on the other never shows. Shape tells the class; colour and texture are
random.

Only the geometry is worked out when the data set is opened (0.6 ms an image of 160 pixels); pixels
and masks are drawn when asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detkit.data.formats import Needs, formats
from detkit.data.formats.shapes_scene import (
    NAMES,
    Arrange,
    Layout,
    alone,
    generator,
    layout,
    withholding,
)
from detkit.data.records import Records, Strings, offsets_of
from detkit.errors import DetkitError, unknown

FIRST = {"train": 0, "val": 10_000_000}  # the number of each split's first image


@formats.register("shapes")
def read(
    root: str | Path | None,
    split: str,
    *,
    needs: Needs,
    images: bool,
    train_images: int = 2000,
    val_images: int = 200,
    size: int = 160,
    seed: int = 0,
    unboxed: Sequence[str] = (),
) -> Records:
    """The drawn data set.

    Args:
        root, images: nothing to this format, which has no files.
        split: `train` or `val`.
        needs: for `pixels` there is one class more, `background`, with label 0; for `image_labels`
            and `one_object` each image has one object, which fills 40 to 90 % of its sides; for
            the former also that one's class.
        size: pixels a side.
        seed: another one is another data set.
        unboxed: classes whose boxes are withheld of `train`. An image whose first object is of one
            of these is drawn anew with objects of that class alone, and has it and no box; from
            all others such objects are left out.
    Raises:
        DetkitError: another split, no such class, or numbers that make no images.
    """
    counts = {"train": train_images, "val": val_images}
    for name in unboxed:
        if name not in NAMES:
            raise unknown("shape", name, NAMES)
    withheld = frozenset(map(NAMES.index, unboxed if split == "train" else ()))
    if split not in counts:
        raise unknown("split of the shapes", split, counts)
    if not (0 < counts[split] <= FIRST["val"] and 32 <= size <= 4096 and seed >= 0):
        raise DetkitError(
            f"{counts[split]} {split} images of {size} pixels a side with seed {seed} "
            "cannot be drawn.",
            remedy="set dataset.train_images and dataset.val_images to 1 … 10,000,000, "
            "dataset.size to 32 … 4096, dataset.seed to 0 or more.",
        )
    numbers = range(FIRST[split], FIRST[split] + counts[split])
    background = int("pixels" in needs)
    names = ("background",) * background + NAMES
    boxes, labels, areas = [], [], []
    image_labels: list[int] = []
    arrange = alone if needs & {"image_labels", "one_object"} else layout
    if withheld:
        arrange = functools.partial(withholding, withheld)
    for number in numbers:
        scene = arrange(seed, number, size)
        label = scene.shapes[0].label if scene.shapes else -1
        known = arrange is alone or label in withheld
        image_labels.append(label if known else -1)
        if known and withheld:
            scene = Layout([], scene.owner, scene.boxes[:0])
        boxes.append(scene.boxes)
        labels.append(scene.labels + background)
        areas.append(np.bincount(scene.owner.ravel(), minlength=256)[: len(scene.shapes)])
    objects = sum(map(len, labels))
    return Records(
        names=names,
        category_ids=np.arange(len(names)) + 1 - background,
        source=f"shapes, drawn with seed {seed}: images {numbers[0]:,} to {numbers[-1]:,}",
        root=Path("shapes"),
        files=Strings.of(f"{number:08d}.png" for number in numbers),
        image_ids=Strings.of(map(str, numbers)),
        integer_ids=True,
        sizes=np.full((len(numbers), 2), size, np.int32),
        offsets=offsets_of([len(some) for some in labels]),
        boxes=np.concatenate(boxes).astype(np.float32),
        labels=np.concatenate(labels),
        image_labels=np.array(image_labels) if "image_labels" in needs or withheld else None,
        crowd=np.zeros(objects, bool),
        difficult=np.zeros(objects, bool),
        areas=np.concatenate(areas).astype(np.float64),
        render=functools.partial(_image, arrange, seed, size),
        render_masks=functools.partial(_masks, arrange, seed, size),
        render_pixels=functools.partial(_pixels, arrange, seed, size),
    )


def _image(arrange: Arrange, seed: int, size: int, number: int) -> np.ndarray:
    return paint(seed, number, arrange(seed, number, size))


def _masks(arrange: Arrange, seed: int, size: int, number: int) -> np.ndarray:
    return arrange(seed, number, size).masks


def _pixels(arrange: Arrange, seed: int, size: int, number: int) -> np.ndarray:
    return arrange(seed, number, size).pixels


def _waves(random: np.ndarray, height: int, width: int, mean: float, swing: float) -> np.ndarray:
    """(height, width) uint8 stripes around a mean; three numbers in 0 … 1 turn and space them."""
    angle, phase, length = random * [np.pi, 2 * np.pi, 12] + [0, 0, 4]
    x = np.arange(width) * (np.cos(angle) * 2 * np.pi / length) + phase
    y = np.arange(height) * (np.sin(angle) * 2 * np.pi / length)
    # sin(y + x), from the sines of the rows and of the columns
    rows = np.stack([np.sin(y), np.cos(y), np.ones(height)], 1).astype(np.float32)
    columns = np.stack([np.cos(x) * swing, np.sin(x) * swing, np.full(width, mean)])
    return (rows @ columns.astype(np.float32)).astype(np.uint8)


def paint(seed: int, number: int, scene: Layout) -> np.ndarray:
    """(size, size, 3) uint8 RGB: the objects of a layout on a textured background."""
    rng = generator(seed, number, 1)
    size = len(scene.owner)
    cells, swing = int(rng.integers(3, 16)), rng.random(4)
    base = rng.random(3) * 160 + 48
    grid = base + (rng.random((cells, cells, 3)) - 0.5) * (30 + 80 * swing[0])
    canvas = cv2.resize(np.clip(grid, 0, 255).astype(np.uint8), (size, size))
    stripes = _waves(rng.random(3), size, size, 128, 18 * swing[1])
    canvas = cv2.addWeighted(canvas, 1, cv2.cvtColor(stripes, cv2.COLOR_GRAY2RGB), 1, -128)
    for shape in scene.shapes:
        part = canvas[shape.window]
        height, width = shape.alpha.shape
        stripes = _waves(rng.random(3), height, width, 32, 22 * rng.random())
        fill = cv2.add(cv2.cvtColor(stripes, cv2.COLOR_GRAY2RGB), _colour(rng, base))
        alpha = cv2.merge([shape.alpha] * 3)
        part[...] = cv2.add(
            cv2.multiply(fill, alpha, scale=1 / 255), cv2.multiply(part, 255 - alpha, scale=1 / 255)
        )
    grain = np.frombuffer(rng.bytes(canvas.size), np.uint8).reshape(canvas.shape)
    strength = 0.02 + 0.14 * swing[2]
    return cv2.addWeighted(canvas, 1, grain, strength, -127.5 * strength)


def _colour(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """(4,) a random colour in −32 … 223 that is not too near to the background's, and a zero."""
    colours = rng.random((8, 3)) * 255
    far = np.abs(colours - background).sum(1) > 150
    return np.append(colours[far.argmax()] - 32, 0)
