"""What goes into a model: Batch, its Targets, and Frame, the way back to the file's image.

Boxes are `xyxy`, float32, absolute pixels and continuous: a box that covers one pixel is
`[x, y, x + 1, y + 1]`. Labels are 0 … K−1; background exists only inside a model's head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detkit.errors import DetkitError

ROWS = 64  # of a file's image that are classified at once
IGNORE = 255  # the pixel label that no loss and no metric counts (VOC's void)


# Metadata of a field: it has a row for each object, or is of the whole image. Where its last two
# axes are the image's, "pad" is the value of a batch's padding.
OF_OBJECTS = {"per": "object"}
OF_IMAGE = {"per": "image"}


class Tensors:
    """Of a dataclass of tensors: all moved, or selected, at once."""

    def to(self, device: torch.device | str, non_blocking: bool = False):
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def float32(self):
        """With half-precision tensors in float32."""
        return self._each(lambda value: value.float() if value.is_floating_point() else value)

    def detached(self):
        """Without the graph that they come from."""
        return self._each(Tensor.detach)

    def select(self, keep: Tensor):
        """The objects that `keep` (a bool mask or indices) names; what is the image's stays."""
        return replace(self, **{k: v[keep] for k, v in self.of_objects().items()})  # type: ignore[type-var]

    def of_objects(self) -> dict[str, Tensor]:
        """The fields with a row for each object that are there."""
        return self._marked("object")

    def of_image(self) -> dict[str, Tensor]:
        """The fields of the whole image that are there."""
        return self._marked("image")

    def _marked(self, per: str) -> dict[str, Tensor]:
        names = (f.name for f in fields(self) if f.metadata.get("per") == per)  # type: ignore[arg-type]
        return {name: v for name in names if (v := getattr(self, name)) is not None}

    def _each(self, change: Any):
        names = (f.name for f in fields(self))  # type: ignore[arg-type]
        values = ((name, getattr(self, name)) for name in names)
        return replace(self, **{k: change(v) for k, v in values if isinstance(v, Tensor)})  # type: ignore[type-var]


@dataclass(frozen=True)
class Classes:
    """What a model tells apart, K = `len(classes)`; the background is none of them.

    Attributes:
        names: K different names.
        category_ids: the data set's numbers for them.
        parents: of a tree of classes (YOLO9000): the label of each one's parent, −1 for a root.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    parents: tuple[int, ...] | None = None

    @staticmethod
    def of(names: Sequence[str], category_ids: Iterable[int] | None = None) -> Classes:
        """With numbers from 1 where there are none."""
        ids = range(1, len(names) + 1) if category_ids is None else map(int, category_ids)
        return Classes(tuple(names), tuple(ids))

    @staticmethod
    def numbered(count: int) -> Classes:
        """So many, called by their labels."""
        return Classes.of([str(label) for label in range(count)])

    @property
    def topmost(self) -> list[int]:
        """(K,) the class at the top of the tree that each one belongs to; itself without a tree."""
        parents = self.parents or (-1,) * len(self)
        found = list(range(len(self)))
        while any(parents[label] >= 0 for label in found):
            found = [parents[label] if parents[label] >= 0 else label for label in found]
        return found

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class Targets(Tensors):
    """What one image shows, in pixels of the network's image.

    Attributes:
        boxes: (N, 4) float32, xyxy.
        labels: (N,) int64, 0 … K−1.
        masks: (N, H, W) bool, one per object, or None.
        crowd: (N,) bool: a group of objects; not trained on, ignored by COCO's metrics.
        difficult: (N,) bool: VOC's flag, ignored by VOC's metrics.
        pixels: (H, W) uint8 class of each pixel, 255 where it does not count, or None.
        image_label: () int64, the class of the whole image, −1 where it is unknown, or None.
    """

    boxes: Tensor = field(metadata=OF_OBJECTS)
    labels: Tensor = field(metadata=OF_OBJECTS)
    masks: Tensor | None = field(default=None, metadata={**OF_OBJECTS, "pad": 0})
    crowd: Tensor | None = field(default=None, metadata=OF_OBJECTS)
    difficult: Tensor | None = field(default=None, metadata=OF_OBJECTS)
    pixels: Tensor | None = field(default=None, metadata={**OF_IMAGE, "pad": IGNORE})
    image_label: Tensor | None = field(default=None, metadata=OF_IMAGE)

    def __len__(self) -> int:
        return len(self.labels)

    def padded(self, height: int, width: int) -> Targets:
        """With its maps as large as the batch."""

        maps = {f.name: p for f in fields(self) if (p := f.metadata.get("pad")) is not None}
        there = {name: v for name in maps if (v := getattr(self, name)) is not None}
        return replace(
            self,
            **{
                name: F.pad(v, (0, width - v.shape[-1], 0, height - v.shape[-2]), value=maps[name])
                for name, v in there.items()
            },
        )


@dataclass(frozen=True)
class Frame:
    """How the network's image came from the file's image, and the way back.

    The file's image is resized to `resized`, put at (`left`, `top`) and padded. The way back stands
    here alone; the way there is `Transform`'s.

    Attributes:
        image_id: the data set's own name of the image (VOC: the file's stem, COCO: an integer).
        index: its place in the records, −1 for an image from elsewhere.
        file: where it came from, for messages and outputs.
        original: (height, width) in pixels of the file's image, upright.
        resized: (height, width) of the same content inside the network's image.
        top, left: pixels of padding before the content; negative, where so much of it is cut off.
    """

    image_id: int | str
    index: int
    file: str
    original: tuple[int, int]
    resized: tuple[int, int]
    top: int = 0
    left: int = 0

    def boxes_to_image(self, boxes: Tensor, clip: bool = True) -> Tensor:
        """(N, 4) boxes of the network's image → the file's image, clipped to it."""
        (height, width), (h, w) = self.original, self.resized
        scale = boxes.new_tensor([width / w, height / h, width / w, height / h])
        offset = boxes.new_tensor([self.left, self.top, self.left, self.top])
        moved = (boxes - offset) * scale
        if not clip:
            return moved
        limit = boxes.new_tensor([width, height, width, height])
        return torch.minimum(moved.clamp(min=0), limit)

    def labels_to_image(self, logits: Tensor) -> Tensor:
        """(K, H, W) maps of the network's image → (height, width) uint8 best class in the file's.

        Raises:
            DetkitError: a part of the file's image was cut off, so that it has no classes.
        """
        strips = self._strips(logits)
        return torch.cat([strip.argmax(0).to(torch.uint8) for strip in strips])

    def scores_to_image(self, logits: Tensor, label: int | None = None) -> Tensor:
        """How sure each class is, or one of them: (K, height, width) or (height, width) float32.

        Raises:
            DetkitError: as `labels_to_image`.
        """
        strips = (strip.softmax(0) for strip in self._strips(logits))
        if label is None:
            return torch.cat(list(strips), 1)
        return torch.cat([strip[label] for strip in strips])

    def _strips(self, logits: Tensor) -> Iterator[Tensor]:
        """The maps of the file's image, some rows after the others.

        They are resized bilinearly; all of a large photo's at once would take gigabytes.
        """
        if min(self.top, self.left) < 0:
            raise DetkitError(
                "The network did not see the edges of the picture, so they have no classes.",
                file=self.file,
                remedy="choose transforms that cut nothing off (transforms=segmentation).",
            )
        (height, width), (h, w) = self.original, self.resized
        content = logits[:, self.top : self.top + h, self.left : self.left + w]
        rows = torch.arange(height, device=logits.device)
        place = ((rows + 0.5) * (h / height) - 0.5).clamp(0, h - 1)
        above = place.long()
        share = (place - above)[None, :, None]
        for strip in rows.split(ROWS):
            low, part = above[strip], share[:, strip]
            high = (low + 1).clamp(max=h - 1)
            mixed = content[:, low].float() * (1 - part) + content[:, high].float() * part
            yield F.interpolate(mixed[None], size=(len(strip), width), mode="bilinear")[0]


@dataclass
class Batch(Tensors):
    """Images of one step, padded at the right and bottom to one size.

    Attributes:
        images: (B, C, H, W) uint8, RGB where C is 3, or float32 in 0 … 1 for 16-bit data.
        sizes: (B, 2) int64, height and width of each image without the padding.
        targets: one per image; empty when the images come without annotations.
        frames: one per image.
        proposals: (P, 4) float32 of each image, xyxy, pixels of the network's image, for models
            that need them; else None.
    """

    images: Tensor
    sizes: Tensor
    targets: list[Targets] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    proposals: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self) -> dict[str, Any]:
        """What a network gets beside the targets: images, sizes, and proposals if there are any."""
        given: dict[str, Any] = {"images": self.images, "sizes": self.sizes}
        return given if self.proposals is None else {**given, "proposals": self.proposals}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        moved = super().to(device, non_blocking)
        proposals = self.proposals
        if proposals is not None:
            proposals = [p.to(device, non_blocking=non_blocking) for p in proposals]
        targets = [t.to(device, non_blocking) for t in self.targets]
        return replace(moved, targets=targets, proposals=proposals)

    def pin_memory(self) -> Batch:
        """With the images where a GPU can fetch them by itself."""
        return replace(self, images=self.images.pin_memory(), sizes=self.sizes.pin_memory())


def full_sizes(images: Tensor) -> Tensor:
    """(B, 2) sizes of images without padding."""
    return torch.tensor([images.shape[2:]] * len(images), device=images.device)


def content_mask(images: Tensor, sizes: Tensor) -> Tensor:
    """(B, H, W) bool: the pixels that are no padding."""
    rows = torch.arange(images.shape[2], device=images.device) < sizes[:, :1]
    columns = torch.arange(images.shape[3], device=images.device) < sizes[:, 1:]
    return rows[:, :, None] & columns[:, None]
