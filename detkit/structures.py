"""What travels between rooms: Targets and Batch go in, Detections and Segmentation come out.

Boxes are `xyxy`, float32, absolute pixels and continuous: a box that covers one pixel is
`[x, y, x + 1, y + 1]`. Labels are 0 … K−1; background exists only inside a model's head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detkit.errors import unknown
from detkit.values import number

if TYPE_CHECKING:
    import numpy as np

ROWS = 64  # of a file's image that are classified at once
IGNORE = 255  # the pixel label that no loss and no metric counts (VOC's void)


class _Tensors:
    """Moves every tensor of a dataclass at once."""

    def to(self, device: torch.device | str, non_blocking: bool = False):
        return replace(  # type: ignore[type-var]
            self,
            **{
                f.name: value.to(device, non_blocking=non_blocking)
                for f in fields(self)  # type: ignore[arg-type]
                if isinstance(value := getattr(self, f.name), Tensor)
            },
        )


@dataclass
class Targets(_Tensors):
    """What one image shows, in pixels of the network's image.

    Attributes:
        boxes: (N, 4) float32, xyxy.
        labels: (N,) int64, 0 … K−1.
        masks: (N, H, W) bool, one per object, or None.
        crowd: (N,) bool: a group of objects; not trained on, ignored by COCO's metrics.
        difficult: (N,) bool: VOC's flag, ignored by VOC's metrics.
        pixels: (H, W) uint8 class of each pixel, 255 where it does not count, or None.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None
    crowd: Tensor | None = None
    difficult: Tensor | None = None
    pixels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, keep: Tensor) -> Targets:
        """The objects that `keep` (a bool mask or indices) names; `pixels` stay."""
        per_object = ("boxes", "labels", "masks", "crowd", "difficult")
        kept = {k: v[keep] for k in per_object if (v := getattr(self, k)) is not None}
        return replace(self, **kept)


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
        top, left: pixels of padding before the content.
    """

    image_id: int | str
    index: int
    file: str
    original: tuple[int, int]
    resized: tuple[int, int]
    top: int = 0
    left: int = 0

    def boxes_to_image(self, boxes: Tensor) -> Tensor:
        """(N, 4) boxes of the network's image → the file's image, clipped to it."""
        (height, width), (h, w) = self.original, self.resized
        scale = boxes.new_tensor([width / w, height / h, width / w, height / h])
        offset = boxes.new_tensor([self.left, self.top, self.left, self.top])
        limit = boxes.new_tensor([width, height, width, height])
        return torch.minimum(((boxes - offset) * scale).clamp(min=0), limit)

    def labels_to_image(self, logits: Tensor) -> Tensor:
        """(K, H, W) maps of the network's image → (height, width) uint8 best class in the file's.

        The maps are resized bilinearly, some rows at a time: all of a large photo's at once would
        take gigabytes.
        """
        (height, width), (h, w) = self.original, self.resized
        content = logits[:, self.top : self.top + h, self.left : self.left + w].float()
        rows = torch.arange(height, device=logits.device)
        place = ((rows + 0.5) * (h / height) - 0.5).clamp(0, h - 1)
        above = place.long()
        share = (place - above)[None, :, None]
        strips = []
        for strip in rows.split(ROWS):
            low, part = above[strip], share[:, strip]
            mixed = content[:, low] * (1 - part) + content[:, (low + 1).clamp(max=h - 1)] * part
            wide = F.interpolate(mixed[None], size=(len(strip), width), mode="bilinear")[0]
            strips.append(wide.argmax(0).to(torch.uint8))
        return torch.cat(strips)


@dataclass
class Batch(_Tensors):
    """Images of one step, padded at the right and bottom to one size.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, or float32 in 0 … 1 for 16-bit data.
        sizes: (B, 2) int64, height and width of each image without the padding.
        targets: one per image; empty when the images come without annotations.
        frames: one per image.
    """

    images: Tensor
    sizes: Tensor
    targets: list[Targets] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        moved = super().to(device, non_blocking)
        return replace(moved, targets=[t.to(device, non_blocking) for t in self.targets])

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


@dataclass
class Detections(_Tensors):
    """The objects found in one image, best first.

    Attributes:
        boxes: (N, 4) float32, xyxy; pixels of the network's image until `to_image`.
        scores: (N,) float32, 0 … 1.
        labels: (N,) int64, 0 … K−1.
        names: the K class names, or empty inside a model, which does not know them.
        masks: (N, H, W) bool or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: int | slice | Tensor | np.ndarray | Sequence[int]) -> Detections:
        """Some of them, by a slice, indices or a bool mask; an integer gives a set of one."""
        if not isinstance(keep, slice):
            keep = torch.as_tensor(keep, device=self.scores.device)
            if keep.dtype != torch.bool:  # also an empty list, which is of floats
                keep = keep.long().reshape(-1)
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            masks=None if self.masks is None else self.masks[keep],
        )

    def __iter__(self) -> Iterator[Detections]:
        return (self[i] for i in range(len(self)))

    def filter(
        self, score_thresh: float = 0.0, classes: Sequence[str | int] | None = None
    ) -> Detections:
        """Those at or above a score, of some classes (names or labels).

        Raises:
            DetkitError: a class name that the detector does not know.
        """
        remedy = "pass a score of 0 … 1; classes come behind it: filter(0.5, ['dog'])."
        keep = self.scores >= number("score_thresh", score_thresh, remedy)
        if classes is not None:
            chosen = [classes] if isinstance(classes, str) else classes
            wanted = [self._label(c) for c in chosen]
            keep &= torch.isin(self.labels, self.labels.new_tensor(wanted))
        return self[keep]

    def _label(self, name: str | int) -> int:
        if isinstance(name, str) and name in self.names:
            return self.names.index(name)
        if not hasattr(name, "__index__"):  # a label
            raise unknown("class", str(name)[:80], self.names)
        return int(name)

    def to_image(self, frame: Frame) -> Detections:
        """The same in pixels of the file's image; what lies in the padding alone is left out."""
        found = replace(self, boxes=frame.boxes_to_image(self.boxes))
        return found[(found.boxes[:, 2:] > found.boxes[:, :2]).all(1)]

    def draw(self, image: Any) -> np.ndarray:
        """An (H, W, 3) uint8 RGB copy of a picture with the boxes, names and scores on it.

        Args:
            image: an (H, W, 3) RGB array, or whatever else the predictor takes.
        Raises:
            DetkitError: it is no picture.
        """
        from detkit.draw import draw_boxes

        return draw_boxes(image, self)

    def to_coco(self, image_id: int | str, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """COCO result records: `bbox` is x, y, width, height."""
        boxes = self.boxes.cpu().double()
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        return [
            {"image_id": image_id, "category_id": category_ids[k], "bbox": b, "score": s}
            for b, s, k in rows
        ]


@dataclass
class Segmentation(_Tensors):
    """The class of each pixel of one image.

    Attributes:
        logits: (K, H, W) float32, pixels of the network's image.
        names: the K class names, or empty inside a model.
        frame: the way to the file's image, after `to_image`.
    """

    logits: Tensor
    names: tuple[str, ...] = ()
    frame: Frame | None = None

    @cached_property
    def labels(self) -> Tensor:
        """(H, W) uint8, the best class of each pixel: of the network's image until `to_image`."""
        if self.frame is not None:
            return self.frame.labels_to_image(self.logits)
        return self.logits.argmax(0).to(torch.uint8)

    def to_image(self, frame: Frame) -> Segmentation:
        """The same in pixels of the file's image."""
        return replace(self, frame=frame)

    def draw(self, image: Any) -> np.ndarray:
        """An (H, W, 3) uint8 RGB copy of a picture with the classes laid over it in colour.

        Args:
            image: an (H, W, 3) RGB array, or whatever else the predictor takes.
        Raises:
            DetkitError: it is no picture.
        """
        from detkit.draw import draw_pixels

        return draw_pixels(image, self.labels.cpu().numpy(), self.names)


Prediction = Detections | Segmentation
