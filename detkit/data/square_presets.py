"""The presets with one size for all images, as the networks of YOLO and SSD want it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from detkit.data.presets import check, check_shares, colours, flips
from detkit.data.transforms import (
    STRIDE,
    Transform,
    contained_size,
    fitted_size,
    stretched_size,
    transforms,
)
from detkit.data.windows import ssd_window
from detkit.errors import DetkitError
from detkit.ranges import Count

OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # SSD, section 2.2


@transforms.register("stretched", defaults={"long_side": 448, "letterbox": False})
@transforms.register("square")
def square(
    train: bool,
    *,
    short_side: int | None = None,
    long_side: int | None = 416,
    letterbox: bool = True,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    jitter: float = 0.2,
    colour: float = 0.5,
    min_visibility: float = 0.25,
    sides: Sequence[Count] | None = None,
    mosaic: float = 0.0,
) -> Transform:
    """One size for all images (YOLO, Redmon 2016, section 2.2: scaling and shifts up to 20 %).

    Args:
        short_side: what the image's shorter side is resized to, unless the longer one would
            exceed the square; None lets the longer side fill it.
        long_side: pixels a side of the square; None makes it as large as each image's longer side.
        letterbox: keep the aspect ratio and fill the rest, else stretch to the square.
        jitter: each side is scaled by 1 ± this, and the image shifted by ± this part of a side.
        flip, vertical_flip, colour, min_visibility, mosaic: as for `detection`.
        sides: of the square in training, one of which every ten steps have (YOLOv2, section 2:
            320, 352 … 608); None: always `long_side`.
    """
    check(short_side=short_side, long_side=long_side)
    for side in sides or ():
        check(sides=side)
    check_shares(
        mosaic=mosaic,
        flip=flip,
        vertical_flip=vertical_flip,
        colour=colour,
        jitter=jitter,
        min_visibility=min_visibility,
    )

    def steps(A: Any, fill: tuple[float, ...]) -> list:
        moves = _moves(A, jitter, fill)
        return [*moves, *flips(A, flip, vertical_flip), *colours(A, colour)]

    if not letterbox and short_side is not None:
        raise DetkitError(
            f"transforms.short_side ({short_side}) has no meaning where sides are stretched.",
            remedy="set transforms.short_side=null or transforms.letterbox=true.",
        )

    def of(side: int | None, variants: Mapping[int, Transform] | None = None) -> Transform:
        sizes = functools.partial(stretched_size, side)
        if letterbox:
            sizes = functools.partial(fitted_size, short_side, side, short_side is None)
        multiple = 1 if side else STRIDE  # images of one size need no padding
        if not train:
            return Transform(sizes, square=side or 0, multiple=multiple)
        return Transform(
            sizes,
            square=side or 0,
            steps=steps,
            min_visibility=min_visibility,
            multiple=multiple,
            variants=variants,
            mosaic=mosaic,
        )

    return of(long_side, {side: of(side) for side in sides or ()})


@transforms.register("ssd512", defaults={"long_side": 512})
@transforms.register("ssd")
def ssd(
    train: bool,
    *,
    short_side: int | None = None,
    long_side: int | None = 300,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    zoom_out: float = 0.5,
    canvas: float = 4.0,
    crop: float = 1.0,
    overlaps: Sequence[float] = OVERLAPS,
    colour: float = 1.0,
    mosaic: float = 0.0,
) -> Transform:
    """SSD's (Liu et al. 2016, sections 2.2 and 3.6): stretched to a square, parts of any size.

    Args:
        short_side: keeps the aspect ratio: pixels of the shorter side, unless the longer one would
            exceed `long_side`; null stretches.
        long_side: pixels a side of the square; null makes it as large as each image's longer side.
        zoom_out: how often the picture is put on a larger canvas of the mean colour.
        canvas: side of the canvas at most, of the picture's.
        crop: how often a patch is cut: all, any patch, or one that overlaps an object by one of
            `overlaps`. Objects whose centre is in it are kept.
        overlaps: least IoU of a patch with an object.
        colour: 0 … 1: strength of random brightness, contrast, saturation and hue, each for half of
            the images.
        flip, vertical_flip, mosaic: as for `detection`.
    """
    check(short_side=short_side, long_side=long_side)
    check_shares(
        mosaic=mosaic,
        flip=flip,
        vertical_flip=vertical_flip,
        colour=colour,
        zoom_out=zoom_out,
        crop=crop,
    )
    for overlap in overlaps:
        check_shares(overlaps=overlap)
    if not 1 <= canvas <= 16:
        raise DetkitError(f"transforms.canvas is {canvas}.", remedy="choose 1 … 16.")

    def steps(A: Any, fill: tuple[float, ...]) -> list:
        mirrored = flips(A, flip, vertical_flip)
        if not colour:
            return mirrored
        even, half, hue = (1, 1), (1 - 0.5 * colour, 1 + 0.5 * colour), 0.05 * colour
        bright = (1 - 0.125 * colour, 1 + 0.125 * colour)
        return [
            *mirrored,
            A.ColorJitter(bright, even, even, (0, 0), p=0.5),
            A.ColorJitter(even, half, even, (0, 0), p=0.5),
            A.ColorJitter(even, even, half, (0, 0), p=0.5),
            A.ColorJitter(even, even, even, (-hue, hue), p=0.5),
        ]

    if short_side is None:
        sizes, multiple = functools.partial(stretched_size, long_side), 1 if long_side else STRIDE
    else:
        sizes, multiple = functools.partial(fitted_size, short_side, long_side, False), STRIDE
    if not train:
        return Transform(sizes, multiple=multiple)
    window = functools.partial(ssd_window, zoom_out, crop, canvas, tuple(overlaps))
    return Transform(sizes, window=window, steps=steps, multiple=multiple, mosaic=mosaic)


@transforms.register("darknet")
def darknet(
    train: bool,
    *,
    width: Count = 416,
    height: Count = 416,
    letterbox: bool = True,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    jitter: float = 0.2,
    colour: float = 0.5,
    min_visibility: float = 0.25,
    mosaic: float = 0.0,
) -> Transform:
    """Pictures as Darknet's networks and OpenCV's reader of them get them: bilinear, one size.

    Args:
        width, height: of the network's image, those of a .cfg's [net]; best multiples of 32.
        letterbox: keep the aspect ratio and fill the rest, as Darknet once did, else stretch.
        jitter: as for `square`.
        flip, vertical_flip, colour, min_visibility, mosaic: as for `detection`.
    """
    check(width=width, height=height)
    check_shares(
        mosaic=mosaic,
        flip=flip,
        vertical_flip=vertical_flip,
        colour=colour,
        jitter=jitter,
        min_visibility=min_visibility,
    )

    def steps(A: Any, fill: tuple[float, ...]) -> list:
        moves = _moves(A, jitter, fill)
        return [*moves, *flips(A, flip, vertical_flip), *colours(A, colour)]

    canvas = (height, width)

    def sizes(tall: int, wide: int) -> tuple[int, int]:
        return contained_size(canvas, tall, wide) if letterbox else canvas

    if not train:
        return Transform(sizes, square=canvas, area=False)
    return Transform(
        sizes,
        square=canvas,
        area=False,
        steps=steps,
        min_visibility=min_visibility,
        mosaic=mosaic,
    )


def _moves(A: Any, jitter: float, fill: tuple[float, ...]) -> list:
    """Other sides, and another place."""
    if not jitter:
        return []
    zoom, shift = (1 - jitter, 1 + jitter), (-jitter, jitter)
    axes = {"scale": {"x": zoom, "y": zoom}, "translate_percent": {"x": shift, "y": shift}}
    return [A.Affine(**axes, balanced_scale=False, fill=fill, p=1)]
