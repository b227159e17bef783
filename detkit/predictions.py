"""What comes out of a model: Detections, Segmentation, Classification, one for each image.

Each of them knows how it is brought to the file's image, to other class lists and to a larger copy
of the picture, how it is filtered and drawn; nobody outside asks which of them it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detkit.errors import unknown
from detkit.ops.mask_paste import Window, paste
from detkit.prediction import Answer, Prediction
from detkit.structures import OF_OBJECTS, Frame
from detkit.values import number


@dataclass
class Detections(Prediction):
    """The objects found in one image, best first.

    Attributes:
        boxes: (N, 4) float32, xyxy; pixels of the network's image until `to_image`.
        scores: (N,) float32, 0 … 1.
        labels: (N,) int64, 0 … K−1.
        names: the K class names, or empty inside a model, which does not know them.
        masks: (N, m, m) float32, how surely each of m × m cells of `mask_boxes` is the object's;
            or (N, H, W) bool, pixels of the whole image; or None.
        mask_boxes: (N, 4), where those cells lie: the box that the network drew them for.
        size: (height, width) of the image that they are in pixels of, where that is known.
        annotated: drawn without scores.
    """

    every_class: ClassVar[bool] = False

    boxes: Tensor = field(metadata=OF_OBJECTS)
    scores: Tensor = field(metadata=OF_OBJECTS)
    labels: Tensor = field(metadata=OF_OBJECTS)
    names: tuple[str, ...] = ()
    masks: Tensor | None = field(default=None, metadata=OF_OBJECTS)
    mask_boxes: Tensor | None = field(default=None, metadata=OF_OBJECTS)
    size: tuple[int, int] | None = None
    annotated: bool = False

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: int | slice | Tensor | np.ndarray | Sequence[int]) -> Detections:
        """Some of them, by a slice, indices or a bool mask; an integer gives a set of one."""
        if not isinstance(keep, slice):
            keep = torch.as_tensor(keep, device=self.scores.device)
            if keep.dtype != torch.bool:  # also an empty list, which is of floats
                keep = keep.long().reshape(-1)
        chosen = self.select(keep)  # type: ignore[arg-type]
        chosen.picture = self.picture
        return chosen

    def __iter__(self) -> Iterator[Detections]:
        return (self[i] for i in range(len(self)))

    def filter(
        self,
        score_thresh: float | Mapping[str, float] = 0.0,
        classes: Sequence[str | int] | None = None,
    ) -> Detections:
        """Those at or above a score, of some classes (names or labels).

        Args:
            score_thresh: one for all, or by class name: of the others every detection stays.
        Raises:
            DetkitError: a class name that the detector does not know.
        """
        remedy = "pass a score of 0 … 1; classes come behind it: filter(0.5, ['dog'])."
        if isinstance(score_thresh, Mapping):
            least = self.scores.new_zeros(len(self.names))
            for name, value in score_thresh.items():
                least[self._label(name)] = number(f"score_thresh of {name}", value, remedy)
            keep = self.scores >= least[self.labels]
        else:
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
        moved = replace(self, boxes=frame.boxes_to_image(self.boxes), size=frame.original)
        if self.mask_boxes is not None:
            moved.mask_boxes = frame.boxes_to_image(self.mask_boxes, clip=False)
        return moved[(moved.boxes[:, 2:] > moved.boxes[:, :2]).all(1)]

    def relabelled(self, label_of: Tensor, names: Sequence[str]) -> Detections:
        labels = label_of[self.labels]
        return replace(self, labels=labels, names=tuple(names))[labels >= 0]

    def separate(self, nms_iou: float, per_class: bool = False) -> Detections:
        groups = self.labels if per_class else torch.zeros_like(self.labels)
        return self[batched_nms(self.boxes, self.scores, groups, nms_iou)]

    def enlarged(self, size: tuple[int, int], factor: int) -> Detections:
        large = self.to_image(Frame("", -1, "", (size[0] * factor, size[1] * factor), size))
        if large.masks is not None and large.mask_boxes is None:
            masks = large.masks.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
            large.masks = masks
        return large

    def caption(self, score_thresh: float | Mapping[str, float]) -> str:
        least = min(score_thresh.values()) if isinstance(score_thresh, Mapping) else score_thresh
        return f"{'found' if len(self) else 'nothing found'} (score from {least:g})"

    def ground_truth(self) -> Detections:
        return replace(self, annotated=True)

    def answers(self) -> list[Answer]:
        names = [self.names[k] if self.names else str(k) for k in self.labels.tolist()]
        texts = [f"{n} {s:.2f}" for n, s in zip(names, self.scores.tolist(), strict=True)]
        parts = zip(texts, self.scores, self.boxes, strict=True)
        return [Answer(text, score, True, box) for text, score, box in parts]

    def draw(self, image: Any) -> np.ndarray:
        """A copy of a picture with the boxes, names, scores and masks on it; see `Prediction`."""
        from detkit.draw import draw_boxes

        return draw_boxes(image, self, scores=not self.annotated)

    def window(self, i: int) -> Window:
        """Where the mask of object i may be: rows and columns of the image, (h, w) bool there."""
        assert self.masks is not None
        mask = self.masks[i].cpu().numpy()
        if self.mask_boxes is None:
            return slice(0, mask.shape[0]), slice(0, mask.shape[1]), mask.astype(bool)
        return paste(mask, self.mask_boxes[i].tolist(), self.image_size)

    def bitmap(self, i: int) -> np.ndarray:
        """(H, W) bool, the pixels of the whole image that are object i; see `image_size`."""
        whole = np.zeros(self.image_size, bool)
        rows, columns, mask = self.window(i)
        whole[rows, columns] = mask
        return whole

    def run_lengths(self) -> list[dict[str, Any]]:
        """Each mask as COCO's run lengths (`size`, `counts`); one bitmap at a time is in memory."""
        from pycocotools import mask as coco

        canvas = np.zeros(self.image_size, np.uint8, order="F")
        found = []
        for i in range(len(self)):
            rows, columns, mask = self.window(i)
            canvas[rows, columns] = mask
            packed = coco.encode(canvas)
            canvas[rows, columns] = 0
            found.append({"size": list(packed["size"]), "counts": packed["counts"].decode()})
        return found

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image that the masks are of.

        Raises:
            ValueError: it is not known: a model's own output before `to_image`.
        """
        if self.masks is not None and self.mask_boxes is None:
            return self.masks.shape[1], self.masks.shape[2]
        if self.size is None:
            raise ValueError("the size of the image is not known before to_image")
        return self.size

    def to_pandas(self) -> Any:
        """See `notebook.table`."""
        from detkit import notebook

        return notebook.table(self)

    def to_supervision(self) -> Any:
        """See `notebook.supervision`."""
        from detkit import notebook

        return notebook.supervision(self)

    def to_coco(self, image_id: int | str, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """COCO result records: `bbox` is x, y, width, height; `segmentation` where masks are."""
        boxes = self.boxes.cpu().double()
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        records: list[dict[str, Any]] = [
            {"image_id": image_id, "category_id": category_ids[k], "bbox": b, "score": s}
            for b, s, k in rows
        ]
        if self.masks is not None:
            for record, mask in zip(records, self.run_lengths(), strict=True):
                record["segmentation"] = mask
        return records


@dataclass
class Segmentation(Prediction):
    """The class of each pixel of one image.

    Attributes:
        logits: (K, H, W) float32, pixels of the network's image.
        names: the K class names, or empty inside a model.
        frame: the way to the file's image, after `to_image`.
        annotated: (H, W) uint8 classes that somebody drew, instead of logits.
    """

    logits: Tensor
    names: tuple[str, ...] = ()
    frame: Frame | None = None
    annotated: Tensor | None = None

    @cached_property
    def labels(self) -> Tensor:
        """(H, W) uint8, the best class of each pixel: of the network's image until `to_image`."""
        if self.annotated is not None:
            return self.annotated
        if self.frame is not None:
            return self.frame.labels_to_image(self.logits)
        return self.logits.argmax(0).to(torch.uint8)

    def scores(self, label: int | None = None) -> Tensor:
        """How sure each class is of each pixel, or one class: (K, H, W) or (H, W) float32."""
        if self.frame is not None:
            return self.frame.scores_to_image(self.logits, label)
        every = self.logits.softmax(0)
        return every if label is None else every[label]

    def to_image(self, frame: Frame) -> Segmentation:
        return replace(self, frame=frame)

    def relabelled(self, label_of: Tensor, names: Sequence[str]) -> Segmentation:
        return replace(self, logits=self.logits[label_of.argsort()], names=tuple(names))

    def enlarged(self, size: tuple[int, int], factor: int) -> Segmentation:
        if self.annotated is not None:
            large = self.annotated.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
            return replace(self, annotated=large)
        original = (size[0] * factor, size[1] * factor)
        return replace(self, frame=replace(self.frame, original=original)) if self.frame else self

    def answers(self) -> list[Answer]:
        labels = self.logits.argmax(0)
        sizes = labels.flatten().bincount(minlength=len(self.logits)) / labels.numel()
        found = []
        for k in sizes.argsort(descending=True)[: int((sizes > 0).sum())].tolist():
            name = self.names[k] if self.names else str(k)
            value = self.logits[k][labels == k].mean()
            found.append(Answer(f"{name}, {float(sizes[k]):.0%} of the pixels", value, True))
        return found

    def draw(self, image: Any) -> np.ndarray:
        """A copy of a picture with the classes laid over it in colour; see `Prediction`."""
        from detkit.draw import draw_pixels

        return draw_pixels(image, self.labels.cpu().numpy(), self.names)


@dataclass
class Classification(Prediction):
    """The class of one image.

    Attributes:
        scores: (K,) float32, 0 … 1, how sure each class is; their sum is 1 but for CapsNet's.
        names: the K class names, or empty inside a model.
        annotated: drawn without scores.
        logits: (K,) what the scores are the softmax of, where a model says it.
    """

    scores: Tensor
    names: tuple[str, ...] = ()
    annotated: bool = False
    logits: Tensor | None = None

    @property
    def label(self) -> int:
        """The best class."""
        return int(self.scores.argmax())

    def best(self, count: int = 5) -> list[tuple[str, float]]:
        """Name (its number where names are not known) and score of the likeliest classes."""
        scores, labels = self.scores.topk(min(count, len(self.scores)))
        pairs = zip(labels.tolist(), scores.tolist(), strict=True)
        return [(self.names[k] if self.names else str(k), score) for k, score in pairs]

    def to_image(self, frame: Frame) -> Classification:
        return self

    def relabelled(self, label_of: Tensor, names: Sequence[str]) -> Classification:
        scores = self.scores[label_of.argsort()]
        return replace(self, scores=scores, names=tuple(names), logits=None)

    def answers(self) -> list[Answer]:
        # a softmax's gradient vanishes where it is sure
        values = self.scores.clamp(min=1e-30).log() if self.logits is None else self.logits
        labels = self.scores.argsort(descending=True).tolist()
        words = self.best(len(labels))
        return [
            Answer(f"{name} {score:.2f}", values[k], False)
            for k, (name, score) in zip(labels, words, strict=True)
        ]

    def caption(self, score_thresh: float | Mapping[str, float]) -> str:
        name, score = self.best(1)[0]
        return f"{name} {score:.2f}"

    def ground_truth(self) -> Classification:
        return replace(self, annotated=True)

    def draw(self, image: Any) -> np.ndarray:
        """A copy of a picture with the likeliest classes written on it; see `Prediction`."""
        from detkit.draw import draw_labels

        rows = self.best(1) if self.annotated else [r for r in self.best(3) if r[1] >= 0.005]
        texts = [name if self.annotated else f"{name} {score:.2f}" for name, score in rows]
        labels = self.scores.topk(len(rows)).indices.tolist()
        return draw_labels(image, texts, labels)
