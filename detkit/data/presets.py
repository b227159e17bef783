"""The presets: what `transforms=NAME` builds. Their keyword arguments are the keys of its file."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import cv2

from detkit.data.elastic import grid_deformation
from detkit.data.transforms import (
    Transform,
    fitted_size,
    stretched_size,
    transforms,
)
from detkit.errors import DetkitError
from detkit.ranges import Count

SMOOTH = 24  # pixels over which the shifts of elastic bending are alike


@transforms.register("detection")
def detection(
    train: bool,
    *,
    short_side: int | None = 600,
    long_side: int | None = 1000,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    scale: Sequence[float] = (1.0, 1.0),
    crop: int | None = None,
    colour: float = 0.0,
    min_visibility: float = 0.25,
    mosaic: float = 0.0,
) -> Transform:
    """Keeps the aspect ratio (Faster R-CNN, section 3.3: short side 600, long side at most 1000).

    Args:
        short_side: pixels that the shorter side is resized to; None keeps the file's size.
        long_side: what the longer side may not exceed, whatever the shorter one becomes, before
            `scale`.
        flip, vertical_flip: probabilities.
        scale: range of a random factor on the size.
        crop: train on random squares of this many pixels a side, after scaling.
        colour: strength of random brightness, contrast, saturation (± 0.4) and hue (± 0.1).
        mosaic: how often four pictures become one (YOLOv4, section 3.3).
        min_visibility: part of a box that has to be left by a crop. In training objects less than a
            pixel wide or high are left out.
    """
    check(short_side=short_side, long_side=long_side, crop=crop, scale=scale)
    check_shares(
        mosaic=mosaic,
        flip=flip,
        vertical_flip=vertical_flip,
        colour=colour,
        min_visibility=min_visibility,
    )

    def steps(A: Any, fill: tuple[float, ...]) -> list:
        return [*crops(A, crop, fill), *flips(A, flip, vertical_flip), *colours(A, colour)]

    sizes = functools.partial(fitted_size, short_side, long_side, False)
    if not train:
        return Transform(sizes)
    return Transform(sizes, scale=scale, steps=steps, min_visibility=min_visibility, mosaic=mosaic)


@transforms.register("segmentation")
def segmentation(
    train: bool,
    *,
    short_side: int | None = None,
    long_side: int | None = None,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    quarter_turns: float = 0.0,
    elastic: float = 0.0,
    elastic_grid: Count | None = None,
    scale: Sequence[float] = (1.0, 1.0),
    crop: int | None = None,
    colour: float = 0.0,
) -> Transform:
    """As `detection`, with the deformations of U-Net (Ronneberger 2015, section 3.1).

    Args:
        quarter_turns: probability of a turn by 90, 180 or 270 degrees.
        elastic: standard deviation, in pixels, of the smooth shifts that bend the image
            (U-Net: 10 pixels).
        elastic_grid: points a side of a coarse grid at which these shifts are drawn (U-Net: 3),
            with bicubic interpolation between them; None: every 24 pixels.
        short_side, long_side, flip, vertical_flip, scale, crop, colour: as for `detection`.
    """
    check(short_side=short_side, long_side=long_side, crop=crop, scale=scale)
    if not 0 <= elastic <= 100:
        raise DetkitError(f"transforms.elastic is {elastic}.", remedy="choose 0 … 100 pixels.")
    check_shares(flip=flip, vertical_flip=vertical_flip, colour=colour, quarter_turns=quarter_turns)

    def steps(A: Any, fill: tuple[float, ...]) -> list:
        # uniform noise from −1 … 1 smoothed by sigma has a deviation of 1 / (sigma sqrt(12 pi))
        alpha = elastic * SMOOTH * math.sqrt(12 * math.pi)
        bend = []
        if elastic and elastic_grid:
            bend = [grid_deformation(A, elastic_grid, elastic)]
        elif elastic:
            smooth = {"fill": fill, "noise_distribution": "uniform"}
            bend = [A.ElasticTransform(alpha, SMOOTH, **smooth, p=1)]
        turn = [A.RandomRotate90(p=quarter_turns)] if quarter_turns else []
        mirrored = flips(A, flip, vertical_flip)
        return [*bend, *crops(A, crop, fill), *turn, *mirrored, *colours(A, colour)]

    sizes = functools.partial(fitted_size, short_side, long_side, False)
    return Transform(sizes, scale=scale, steps=steps) if train else Transform(sizes)


@transforms.register("digits", defaults={"side": 28, "resize": None, "flip": 0.0})
@transforms.register("classification")
def classification(
    train: bool,
    *,
    side: Count = 224,
    resize: Count | None = 256,
    scale: Sequence[float] = (0.08, 1.0),
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    jitter: float = 0.0,
    colour: float = 0.0,
) -> Transform:
    """A square of one size, for classifiers (Krizhevsky 2012, section 2; Szegedy 2014, section 6).

    Args:
        side: pixels a side of the square.
        resize: pixels that the shorter side is resized to at inference, whose centre is the square;
            None: the picture is stretched to it, also in training.
        scale: in training, unless it is stretched, the square is a random part of the picture: of
            so much of its area, with sides of 3:4 to 4:3.
        flip, vertical_flip, colour: as for `detection`.
        jitter: the picture is shifted by ± this part of its sides and turned by ± this angle, in
            radians; 0.1 suits digits.
    """
    check(side=side, resize=resize, scale=scale)
    check_shares(flip=flip, vertical_flip=vertical_flip, colour=colour, jitter=jitter)
    if scale[1] > 1:
        raise DetkitError(
            f"transforms.scale is {list(scale)}: shares of the picture's area.",
            remedy="end at 1, such as [0.08, 1].",
        )
    if resize is not None and not side <= resize <= 2 * side:  # else filled up, or hardly a part
        raise DetkitError(
            f"transforms.resize is {resize}, the square that is cut out of it has {side} pixels.",
            remedy=f"choose {side} … {2 * side} pixels (usual: {side * 8 // 7}), or null, which"
            " stretches the picture to the square.",
        )

    def steps(A: Any, fill: tuple[float, ...]) -> list:
        part = []
        if resize is not None:
            size, ratio = (side, side), (3 / 4, 4 / 3)
            by_areas = "image"  # where it shrinks, as at inference
            crop = A.RandomResizedCrop(size, tuple(scale), ratio, area_for_downscale=by_areas, p=1)
            part = [crop]
        shift, turn = (-jitter, jitter), math.degrees(jitter)
        move = A.Affine(  # what comes in from outside is like the picture's edge
            translate_percent={"x": shift, "y": shift},
            rotate=(-turn, turn),
            border_mode=cv2.BORDER_REPLICATE,
            p=1,
        )
        mirrored = flips(A, flip, vertical_flip) if flip or vertical_flip else []
        return [*part, *([move] if jitter else []), *mirrored, *colours(A, colour)]

    if train and resize is not None:
        whole = functools.partial(fitted_size, None, None, False)
        return Transform(whole, steps=steps, multiple=1)
    sizes = functools.partial(stretched_size, side)
    if resize is not None:
        sizes = functools.partial(fitted_size, resize, None, False)
    changes = steps if train and (flip or vertical_flip or jitter or colour) else None
    return Transform(sizes, square=side, steps=changes, multiple=1)


def crops(A: Any, crop: int | None, fill: tuple[float, ...]) -> list:
    """Random squares; what is too small is padded at the right and bottom, as in a batch."""
    if crop is None:
        return []
    return [A.RandomCrop(crop, crop, True, pad_position="top_left", fill=fill, p=1)]


def flips(A: Any, flip: float, vertical_flip: float) -> list:
    return [A.HorizontalFlip(p=flip), A.VerticalFlip(p=vertical_flip)]


def colours(A: Any, strength: float) -> list:
    if not strength:
        return []
    reach = (1 - 0.4 * strength, 1 + 0.4 * strength)
    return [A.ColorJitter(reach, reach, reach, (-0.1 * strength, 0.1 * strength), p=1)]


def check(scale: Sequence[float] = (1.0, 1.0), **pixels: int | None) -> None:
    for name, value in pixels.items():
        if value is not None and not 1 <= value <= 16384:
            raise DetkitError(f"transforms.{name} is {value}.", remedy="choose 1 … 16384 pixels.")
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 16:
        raise DetkitError(
            f"transforms.scale is {list(scale)}.",
            remedy="give the smallest and the largest factor, such as [0.8, 1.25].",
        )


def check_shares(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise DetkitError(f"transforms.{name} is {value}.", remedy="choose 0 … 1.")
