"""From a file's image to the network's: resizing always, and random changes in training.

Resizing is ours, because a Frame needs its exact numbers on the way back; every random change is
albumentations', behind this one adapter. All randomness comes from the seed handed in, so a sample
depends on (seed, epoch, image) and on nothing else.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from detkit.data.records import Annotation
from detkit.data.resizing import nearest, resized
from detkit.data.windows import Window, seen_in
from detkit.registry import Registry
from detkit.structures import IGNORE, Frame, Targets

transforms: Registry[Transform] = Registry("transforms preset", "detkit.data", context=["train"])

KINDS = (np.uint8, np.float32)  # of images
FILL = (124, 116, 104)  # ImageNet's mean colour: about zero after normalisation
OTHER_FILL = 114  # the same for pictures that are not RGB
STRIDE = 32  # batches are padded to a multiple of it: the coarsest level of every backbone

NOTHING = Annotation(
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.int64),
    np.zeros(0, bool),
    np.zeros(0, bool),
    np.zeros(0, np.float64),
)

Sizes = Callable[[int, int], tuple[int, int]]
Steps = Callable[[Any, tuple[float, ...]], list]
Choice = Callable[[np.random.Generator, np.ndarray, int, int], Window]


@dataclass(frozen=True)
class Loaded:
    """What a batch is made of.

    Attributes:
        image: (C, H, W).
        targets, frame: of the image.
        proposals: (P, 4) float32, xyxy, pixels of `image`, where the model needs them.
    """

    image: torch.Tensor
    targets: Targets
    frame: Frame
    proposals: torch.Tensor | None = None


class Sample(NamedTuple):
    """One image as the network gets it.

    Attributes:
        image: (H, W, C) uint8, or float32 in 0 … 1 where the file had 16 bits.
        targets: what it shows, in its pixels.
        resized, top, left: for the Frame, negative where the image is cut; random crops and zooms
            of training are not in them.
        proposals: (P, 4) float32, xyxy, in its pixels, or None.
    """

    image: np.ndarray
    targets: Targets
    resized: tuple[int, int]
    top: int
    left: int
    proposals: torch.Tensor | None = None

    def loaded(
        self, image_id: int | str, index: int, file: str, original: tuple[int, int]
    ) -> Loaded:
        """What a batch is made of; the arguments are those of the Frame."""
        frame = Frame(image_id, index, file, original, self.resized, self.top, self.left)
        image = np.ascontiguousarray(self.image.transpose(2, 0, 1))
        return Loaded(torch.from_numpy(image), self.targets, frame, self.proposals)


class Transform:
    """Resize, put on a square or not, then change at random or not.

    Args:
        sizes: (height, width) of an image → those that it is resized to.
        scale: in training both are also multiplied by a random number from this range.
        square: pixels a side of a canvas (or its height and width) that the image is centred on,
            and cut by where it is larger; 0 fits it to the image; None goes without.
        window: (generator, (N, 4) boxes of objects, height, width) → what is shown of the file's
            image in its place, or more than it; objects whose centre is not are dropped. None is
            all of it. With `square` left None.
        area: an image that shrinks is averaged over areas, so that fine texture does not turn into
            noise; else it is bilinear, as Darknet and OpenCV's networks have it.
        steps: (albumentations, fill colour) → random changes, or None.
        min_visibility: objects of which a crop leaves less than this part of the box are dropped;
            crowds are cut to what is left, which is no background.
        multiple: the sides of a batch are padded to a multiple of so many pixels.
        variants: the same transform for other sides of the square; in training each step takes one
            of them (YOLOv2, section 2: multi-scale training).
        mosaic: how often four pictures become one before all this (`data.mosaic`).
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        scale: Sequence[float] = (1.0, 1.0),
        square: int | tuple[int, int] | None = None,
        window: Choice | None = None,
        area: bool = True,
        steps: Steps | None = None,
        min_visibility: float = 0.0,
        multiple: int = STRIDE,
        variants: Mapping[int, Transform] | None = None,
        mosaic: float = 0.0,
    ) -> None:
        self.sizes = sizes
        self.scale = scale
        self.square = square
        self.window = window
        self.area = area
        self.steps = steps
        self.min_visibility = min_visibility
        self.multiple = multiple
        self.variants = dict(variants or {})
        self.mosaic = mosaic
        self._composed: dict[tuple[Any, int, float], Any] = {}
        if steps is not None:  # now, and not once more in each loading process
            for dtype, least in itertools.product(KINDS, {min_visibility, 0.0}):
                self._compose(np.empty((1, 1, 3), dtype), least)

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that four pictures become one on: the square's, else the first's."""
        if isinstance(self.square, tuple):
            return self.square
        return (self.square, self.square) if self.square else (height, width)

    def __call__(
        self,
        image: np.ndarray,
        annotation: Annotation | None = None,
        masks: Sequence[np.ndarray] | np.ndarray | None = None,
        pixels: np.ndarray | None = None,
        proposals: np.ndarray | None = None,
        *,
        seed: tuple[int, ...] = (0,),
    ) -> Sample:
        """
        Args:
            image: (H, W, C) uint8 or float32, RGB where C is 3.
            annotation: what it shows; None for nothing.
            masks: N of (H, W) bool; they are resized one by one.
            pixels: (H, W) uint8.
            proposals: (P, 4) xyxy; they go through the same changes.
            seed: what this sample's randomness depends on; without random changes it is not used.
        """
        height, width = image.shape[:2]
        h, w = self.sizes(height, width)
        rng = np.random.default_rng(seed)
        if tuple(self.scale) != (1.0, 1.0):
            factor = np.exp(rng.uniform(*np.log(self.scale)))
            h, w = max(1, round(h * factor)), max(1, round(w * factor))
        tall, wide = (
            self.square if isinstance(self.square, tuple) else [self.square or max(h, w)] * 2
        )
        below, beside = (0, 0) if self.square is None else (tall - h, wide - w)
        top, left = below // 2, beside // 2
        border = ((max(top, 0), max(below - top, 0)), (max(left, 0), max(beside - left, 0)))
        rows = slice(max(-top, 0), h - max(top - below, 0))
        columns = slice(max(-left, 0), w - max(left - beside, 0))
        cut = below < 0 or beside < 0
        if annotation is None:
            annotation = NOTHING
        if self.window:
            objects = annotation.boxes[~annotation.crowd.astype(bool)]
            window = self.window(rng, objects, height, width)
            shown = seen_in(window, (h, w), image, annotation, masks, pixels, proposals)
            image, annotation, masks, pixels, proposals, (h, w), border = shown
            (top, _), (left, _) = border
            rows, columns = slice(h), slice(w)
            height, width = image.shape[:2]
        count = 0 if proposals is None else len(proposals)
        boxes = annotation.boxes if proposals is None else np.vstack([annotation.boxes, proposals])
        boxes = boxes.astype(np.float64) * np.tile([w / width, h / height], 2)
        boxes = np.clip(boxes, 0, [w, h, w, h])
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
        boxes = boxes[kept] + [left, top, left, top]
        if cut:
            boxes = boxes.clip(0, np.tile([w + min(beside, 0), h + min(below, 0)], 2))
            seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
            boxes, kept = boxes[seen], kept[seen]
        image = _bordered(resized(image, h, w, self.area)[rows, columns], border)
        objects = len(annotation.boxes)  # whatever comes behind them is a proposal
        if masks is not None:
            masks = _resized_masks(masks, kept[kept < objects], (h, w), (rows, columns), border)
        if pixels is not None:
            pixels = nearest(pixels, h, w)[rows, columns]
            pixels = np.pad(pixels, border, constant_values=IGNORE)
        if self.steps:
            crowd = np.append(annotation.crowd.astype(bool), np.zeros(count, bool))[kept]
            changed = self._change(image, boxes, crowd, masks, pixels, rng)
            image, boxes, chosen, masks, pixels = changed
            kept = kept[chosen]
        drawn, kept = kept < objects, kept[kept < objects]
        label = annotation.image_label
        targets = Targets(
            boxes=torch.from_numpy(boxes[drawn].astype(np.float32)),
            labels=torch.from_numpy(annotation.labels[kept].astype(np.int64)),
            masks=None if masks is None else torch.from_numpy(np.ascontiguousarray(masks)),
            crowd=torch.from_numpy(annotation.crowd[kept].astype(bool)),
            difficult=torch.from_numpy(annotation.difficult[kept].astype(bool)),
            pixels=None if pixels is None else torch.from_numpy(np.ascontiguousarray(pixels)),
            image_label=None if label is None else torch.tensor(label),
        )
        offered = torch.from_numpy(boxes[~drawn].astype(np.float32)) if count else None
        if proposals is not None and offered is None:
            offered = torch.zeros(0, 4)
        return Sample(image, targets, (h, w), top, left, offered)

    def _change(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        crowd: np.ndarray,
        masks: np.ndarray | None,
        pixels: np.ndarray | None,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Everything through albumentations, with the indices of the boxes that are left.

        Args:
            boxes: those of objects, then proposals. masks: of the objects.
        """
        compose = self._compose(image, self.min_visibility)
        # One stream for all steps: set_random_seed would give each step the same numbers, and two
        # coins would always fall alike.
        streams = rng, random.Random(int(rng.integers(2**63)))
        cut_too = crowd.any() and self.min_visibility > 0
        again = copy.deepcopy(streams) if cut_too else streams
        compose.set_random_state(*streams)
        height, width = image.shape[:2]
        data: dict[str, Any] = {
            "image": image,
            "bboxes": boxes / [width, height, width, height],
            "kept": np.arange(len(boxes)),
        }
        if masks is not None and len(masks):
            data["masks"] = list(masks.view(np.uint8))
        if pixels is not None:
            # wraps: IGNORE is 0, what albumentations fills with
            data["mask"] = pixels + np.uint8(1)
        given, data = data, compose(**data)
        image = data["image"]
        height, width = image.shape[:2]
        boxes, kept = _left(data)
        if cut_too:  # once more, the crowds alone: the same changes
            compose = self._compose(image, 0.0)
            compose.set_random_state(*again)
            alone = {key: given[key][crowd] for key in ("bboxes", "kept")}
            crowds, theirs = _left(compose(image=np.zeros_like(given["image"]), **alone))
            plain = ~crowd[kept]
            boxes = np.concatenate([boxes[plain], crowds])
            kept = np.concatenate([kept[plain], theirs])
        boxes = boxes * np.tile([width, height], 2)
        if masks is not None:
            empty = np.zeros((0, height, width), bool)
            own = kept[kept < len(masks)]
            masks = np.stack(data["masks"]).astype(bool)[own] if "masks" in data else empty
        if pixels is not None:
            pixels = data["mask"] - np.uint8(1)
        return image, boxes, kept, masks, pixels

    def _compose(self, image: np.ndarray, min_visibility: float) -> Any:
        """The random changes for images of that kind, made once."""
        key = (image.dtype, image.shape[2], min_visibility)
        if key not in self._composed:
            import albumentations as A  # 2 s, which prediction does not have to wait for

            assert self.steps is not None
            self._composed[key] = A.Compose(
                self.steps(A, _fill(image)),
                bbox_params=A.BboxParams(
                    "albumentations",
                    label_fields=["kept"],
                    min_visibility=min_visibility,
                    min_width=1,
                    min_height=1,
                ),
            )
        return self._composed[key]


def _left(data: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The boxes that are left, as fractions of the sides, and whose they are."""
    boxes = np.asarray(data["bboxes"], np.float64).reshape(-1, 4)
    return boxes, np.asarray(data["kept"], np.int64).reshape(-1)


def fitted_size(
    short: int | None, long: int | None, grow: bool, height: int, width: int
) -> tuple[int, int]:
    """The short side becomes `short` unless the long one would exceed `long`.

    Without `short` the size is kept below the limit, or with `grow` the long side made `long`.
    """
    factor = short / min(height, width) if short else 1.0
    if long and (grow or factor * max(height, width) > long):
        factor = long / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def contained_size(limit: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """The largest size of that shape within a height and width."""
    factor = min(limit[0] / height, limit[1] / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def stretched_size(side: int | None, height: int, width: int) -> tuple[int, int]:
    """A square of that side, else of the longer side's."""
    side = side or max(height, width)
    return side, side


def _fill(image: np.ndarray) -> tuple[float, ...]:
    """The colour around such images."""
    channels = image.shape[2]
    colour = FILL if channels == 3 else (OTHER_FILL,) * channels
    return colour if image.dtype == np.uint8 else tuple(value / 255 for value in colour)


def _bordered(image: np.ndarray, border: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    """With so many pixels of the fill colour above and below, at the left and right."""
    (above, below), (left, right) = border
    if not (above or below or left or right):
        return image
    height, width, channels = image.shape
    canvas = np.empty((above + height + below, left + width + right, channels), image.dtype)
    canvas[:] = _fill(image)
    canvas[above : above + height, left : left + width] = image
    return canvas


def _resized_masks(
    masks: Sequence[np.ndarray] | np.ndarray,
    chosen: np.ndarray,
    size: tuple[int, int],
    part: tuple[slice, slice],
    border: tuple[tuple[int, int], tuple[int, int]],
) -> np.ndarray:
    """(chosen, …) bool on the canvas, one of the file's size in memory at a time.

    Args:
        size: that they are resized to. part: what of it lies on the canvas. border: around it.
    """
    (above, below), (left, right) = border
    height, width = (len(range(*p.indices(s))) for p, s in zip(part, size, strict=True))
    canvas = np.zeros((len(chosen), above + height + below, left + width + right), bool)
    for place, n in zip(canvas, chosen.tolist(), strict=True):
        place[above : above + height, left : left + width] = nearest(masks[n], *size)[part]
    return canvas


def build(settings: Mapping[str, Any], train: bool) -> Transform:
    """The preset `settings["name"]` with the other settings; the random changes only in training.

    Raises:
        DetkitError: no such preset or setting, or a value that it cannot have.
    """
    return transforms.build(settings["name"], settings, train)
