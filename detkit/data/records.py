"""A whole data set in a few flat NumPy arrays.

There is no Python object per image or per box, so a forked loader's worker touches no reference
counts and its memory does not grow with the data set.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.data import images
from detkit.errors import DetkitError


class Annotation(NamedTuple):
    """What the data set says of one image, cut out of the flat arrays.

    Attributes:
        boxes: (N, 4) float32, xyxy, pixels of the file's upright image.
        labels: (N,) int64, 0 … K−1.
        crowd, difficult: (N,) bool.
        areas: (N,) float64, as the file states them, else the boxes'.
        image_label: the class of the whole image, −1 where it is unknown, None where the data have
            no such classes.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    areas: NDArray[np.float64]
    image_label: int | None = None


@dataclass(frozen=True)
class Strings(Sequence[str]):
    """Many strings as one byte buffer.

    Attributes:
        buffer: (bytes,) uint8, their UTF-8 one after the other.
        offsets: (n + 1,) int64, where each begins.
    """

    buffer: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @staticmethod
    def of(texts: Iterable[str]) -> Strings:
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return Strings(np.frombuffer(b"".join(encoded), np.uint8), offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i):  # an index gives str; slices are not needed
        i = range(len(self))[i]  # negative ones, and an IndexError beyond the end
        start, end = self.offsets[i], self.offsets[i + 1]
        return self.buffer[start:end].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def take(self, indices: NDArray[np.int64]) -> Strings:
        chosen, offsets = ragged_take(self.offsets, indices)
        return Strings(self.buffer[chosen], offsets)


@dataclass(frozen=True)
class Masks:
    """Instance masks, as polygons or run lengths, in the file's image pixels.

    Attributes:
        points: (P, 2) float64, x and y of all polygon corners (float64: COCO's rasteriser rounds at
            fifths of a pixel, where float32 would fall on the other side).
        rings: (R + 1,) int64, where each polygon begins in `points`.
        objects: (N + 1,) int64, where each object's polygons begin in `rings`.
        rles: N compressed run lengths as COCO writes them, empty where polygons are given.
    """

    points: NDArray[np.float64]
    rings: NDArray[np.int64]
    objects: NDArray[np.int64]
    rles: Strings

    def take(self, indices: NDArray[np.int64]) -> Masks:
        rings, objects = ragged_take(self.objects, indices)
        points, offsets = ragged_take(self.rings, rings)
        return Masks(self.points[points], offsets, objects, self.rles.take(indices))

    def empty(self) -> NDArray[np.bool_]:
        """(N,) objects without a mask: no polygon that has an area, no pixel in the run lengths."""
        from pycocotools import mask

        after = np.arange(1, len(self.points) + 1)
        after[self.rings[1:] - 1] = self.rings[:-1]  # the last corner's next one is the first
        x, y = self.points.T
        twice = np.concatenate([[0.0], np.cumsum(x * y[after] - x[after] * y)])
        ring = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(twice[self.rings])))])
        area = np.diff(ring[self.objects])
        for n in np.flatnonzero(np.diff(self.rles.offsets)).tolist():
            # its size says nothing of the area
            area[n] = mask.area({"size": [1, 1], "counts": self.rles[n].encode()})
        return area <= 0

    def rle(self, n: int, height: int, width: int) -> dict:
        """The nth object as a COCO run-length record (`size`, `counts`)."""
        from pycocotools import mask

        if counts := self.rles[n]:
            return {"size": [height, width], "counts": counts.encode()}
        starts = self.rings[self.objects[n] : self.objects[n + 1] + 1]
        polygons = [self.points[a:b].ravel().tolist() for a, b in pairwise(starts)]
        if not polygons:
            return mask.encode(np.zeros((height, width), np.uint8, order="F"))
        return mask.merge(mask.frPyObjects(polygons, height, width))


@dataclass(frozen=True)
class Bitmaps(Sequence[NDArray[np.bool_]]):
    """The masks of one image, (H, W) bool each, decoded when asked for.

    All of a large photo's at once could be gigabytes; an array of them is `np.array(bitmaps)`.

    Attributes:
        masks: of the data set.
        objects: which of them are the image's.
        size: (H, W).
    """

    masks: Masks
    objects: range
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, i):  # an index gives an array; slices are not needed
        from pycocotools import mask

        return mask.decode(self.masks.rle(self.objects[i], *self.size)).view(bool)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        whole = np.zeros((len(self), *self.size), bool)
        for place, bitmap in zip(whole, self, strict=True):
            place[...] = bitmap
        return whole if dtype is None else whole.astype(dtype)


@dataclass(frozen=True)
class Records:
    """A data set: I images, N objects, K classes.

    Attributes:
        names: K class names; `category_ids` (K,) int64 are the file's numbers for them.
        source: what was read and why it was taken for that format.
        root: the folder that `files` and `pixel_files` are relative to.
        files: I image paths.
        image_ids: I ids; `integer_ids` says whether they are integers to the outside.
        sizes: (I, 2) int32, height and width, upright; 0 where nobody said (no images at hand).
        offsets: (I + 1,) int64, where each image's objects begin.
        boxes: (N, 4) float64, so that evaluation gets the file's own numbers.
        labels, crowd, difficult, areas: of all objects, as in `Annotation`.
        instances: the objects' masks, or None.
        pixel_files: I index images of the class of each pixel, or None.
        pixel_labels: (256,) int16: the label (255: does not count) of each value in those files,
            −1 where the value is not allowed. None: values are labels.
        pixel_colours: (V, 3) RGB that stand for the values from 0 on in files of colours, or None.
        image_labels: (I,) int64, the class of each whole image, −1 where it is unknown, or None.
        crops: (I, 4) int64 xyxy: images are these parts of their files, or None.
        channels: of the images: 3 (RGB, to which grey files are brought), 1, or as many as the
            files have.
        notes: what the user has to be told (boxes dropped, a split that was made).
        render, render_masks, render_pixels: for drawn data, instead of files. They get the integer
            `image_id(i)`, which a subset keeps, and give what `image`, `masks` and `pixels` give.
    """

    names: tuple[str, ...]
    category_ids: NDArray[np.int64]
    source: str
    root: Path
    files: Strings
    image_ids: Strings
    integer_ids: bool
    sizes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    areas: NDArray[np.float64]
    instances: Masks | None = None
    pixel_files: Strings | None = None
    pixel_labels: NDArray[np.int16] | None = None
    pixel_colours: NDArray[np.uint8] | None = None
    image_labels: NDArray[np.int64] | None = None
    crops: NDArray[np.int64] | None = None
    channels: int = 3
    notes: tuple[str, ...] = ()
    render: Callable[[int], NDArray[np.uint8]] | None = None
    render_masks: Callable[[int], NDArray[np.bool_]] | None = None
    render_pixels: Callable[[int], NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def image_id(self, i: int) -> int | str:
        return int(self.image_ids[i]) if self.integer_ids else self.image_ids[i]

    def path(self, i: int) -> Path:
        return self.root / self.files[i]

    def annotation(self, i: int) -> Annotation:
        at = slice(self.offsets[i], self.offsets[i + 1])
        boxes = self.boxes[at].astype(np.float32)
        label = None if self.image_labels is None else int(self.image_labels[i])
        return Annotation(
            boxes, self.labels[at], self.crowd[at], self.difficult[at], self.areas[at], label
        )

    def image(self, i: int) -> NDArray:
        """(H, W, C) uint8, RGB where C is 3, upright; float32 in 0 … 1 for 16-bit files.

        Raises:
            DetkitError: the file is no whole image, or not of the size that was annotated.
        """
        if self.render:
            return self.render(int(self.image_ids[i]))
        height, width = map(int, self.sizes[i])
        if self.crops is None:
            image = images.read(self.path(i))
            was = f"it was {width}x{height} when the data set was opened"
        else:
            x1, y1, x2, y2 = map(int, self.crops[i])
            image = _last_photo(self.path(i))[y1:y2, x1:x2].copy()
            was = f"what its object covers, was {width}x{height} when the data set was opened"
        if image.shape[:2] != (height, width):
            raise DetkitError(
                f"The image is {image.shape[1]}x{image.shape[0]} now, {was}.",
                file=self.path(i),
                remedy="put the annotated image back, then start again.",
            )
        return image

    @property
    def has_masks(self) -> bool:
        """Whether the objects have masks."""
        return self.render_masks is not None or self.instances is not None

    def masks(self, i: int) -> Sequence[NDArray[np.bool_]] | None:
        """n masks (H, W) bool, one per object of the image, or None without instance masks.

        Of drawn data they are an array, of files `Bitmaps`.
        """
        if self.render_masks:
            return self.render_masks(int(self.image_ids[i]))  # type: ignore[return-value]
        if self.instances is None:
            return None
        objects = range(int(self.offsets[i]), int(self.offsets[i + 1]))
        return Bitmaps(self.instances, objects, (int(self.sizes[i, 0]), int(self.sizes[i, 1])))

    def run_lengths(self, i: int) -> list[dict]:
        """The masks of an image's objects as COCO run-length records; only with `has_masks`."""
        if self.instances is not None:
            height, width = map(int, self.sizes[i])
            objects = range(self.offsets[i], self.offsets[i + 1])
            return [self.instances.rle(n, height, width) for n in objects]
        from pycocotools import mask

        bitmaps = self.masks(i)
        assert bitmaps is not None
        return [mask.encode(np.asfortranarray(bitmap, np.uint8)) for bitmap in bitmaps]

    def pixels(self, i: int) -> NDArray[np.uint8] | None:
        """(H, W) uint8 label of each pixel, 255 where it does not count; None without such files.

        Raises:
            DetkitError: a value outside the classes, or a mask of another size than its image.
        """
        if self.render_pixels:
            return self.render_pixels(int(self.image_ids[i]))
        if self.pixel_files is None:
            return None
        path = self.mask_path(i)
        values = images.read_values(path, self.pixel_colours)
        self.check_mask(i, values.shape, self.sizes[i])
        if self.pixel_labels is None:
            return values
        labels = self.pixel_labels[values]
        if (labels < 0).any():
            wrong = np.unique(values[labels < 0])
            raise DetkitError(
                f"The mask holds the value {', '.join(map(str, wrong[:5]))}; "
                f"the {len(self.names)} classes are 0 … {len(self.names) - 1}.",
                file=path,
                remedy="name every class in dataset.classes, map values with dataset.values"
                " (for 0/255 masks {0: 0, 255: 1}), or leave one out with dataset.ignore.",
            )
        return labels.astype(np.uint8)

    def mask_path(self, i: int) -> Path:
        """Where the index image is; only with `pixel_files`."""
        assert self.pixel_files is not None
        return self.root / self.pixel_files[i]

    def check_mask(self, i: int, mask: Sequence[int], image: Sequence[int]) -> None:
        """Raise if the (height, width) of an index image is not that of its image."""
        if tuple(mask) != tuple(image):
            raise DetkitError(
                f"The mask is {mask[1]}x{mask[0]}, its image {self.files[i]} is "
                f"{image[1]}x{image[0]}.",
                file=self.mask_path(i),
                remedy="save the mask at the size of its image, without smoothing.",
            )

    def fingerprint(self) -> str:
        """sha256 of the annotations: the same data give the same text wherever they lie."""
        digest = hashlib.sha256()
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("source", "root", "notes") or value is None or callable(value):
                continue
            if item.name == "channels" and value == 3:
                continue  # as in fingerprints of before there were others
            digest.update(item.name.encode())
            for array in _arrays(value):
                digest.update(array.tobytes())
        return digest.hexdigest()

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> Records:
        """Some of the images, in that order."""
        chosen = np.asarray(indices, np.int64)
        objects, offsets = ragged_take(self.offsets, chosen)
        return replace(
            self,
            files=self.files.take(chosen),
            image_ids=self.image_ids.take(chosen),
            sizes=self.sizes[chosen],
            offsets=offsets,
            pixel_files=None if self.pixel_files is None else self.pixel_files.take(chosen),
            image_labels=None if self.image_labels is None else self.image_labels[chosen],
            crops=None if self.crops is None else self.crops[chosen],
            **self._objects(objects),
        )

    def keep_objects(self, keep: NDArray[np.bool_]) -> Records:
        """All images with only the objects of a (N,) mask."""
        before = np.concatenate([[0], np.cumsum(keep)])
        return replace(self, offsets=before[self.offsets], **self._objects(np.flatnonzero(keep)))

    def _objects(self, chosen: NDArray[np.int64]) -> dict:
        flat = ("boxes", "labels", "crowd", "difficult", "areas")
        taken = {name: getattr(self, name)[chosen] for name in flat}
        instances = None if self.instances is None else self.instances.take(chosen)
        return {**taken, "instances": instances}


@functools.lru_cache(maxsize=1)
def _last_photo(path: Path) -> NDArray:
    """The photo that the last object was cut out of: the next one may be in it, too."""
    return images.read(path)


def _arrays(value: object) -> Iterator[NDArray]:
    """Every array inside a field of Records; other values as the bytes of their text."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (Strings, Masks)):
        for part in vars(value).values():
            yield from _arrays(part)
    else:
        yield np.frombuffer(str(value).encode(), np.uint8)


def offsets_of(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """(n + 1,) where each of n runs of those lengths begins."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def ragged_take(
    offsets: NDArray[np.int64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the elements of the chosen runs, run after run, and their new offsets."""
    lengths = offsets[chosen + 1] - offsets[chosen]
    new = offsets_of(lengths)
    shift = np.repeat(offsets[chosen] - new[:-1], lengths)
    return np.arange(new[-1], dtype=np.int64) + shift, new
