"""The stages of a detector on one picture; each family's are in a file of their own.

A module's class chooses what is shown: `stages_of.register` takes one more. All of it comes from
what the hooks recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor, nn

from detkit.draw import colour
from detkit.explain import canvas
from detkit.explain.page import Picture, Section
from detkit.explain.watching import Seen
from detkit.ops.boxes import paired_overlap
from detkit.structures import Targets

SIDE = 560  # pixels of a picture that is drawn on, at least
ROWS = 12  # of a table
SURE = 20  # detections on a picture
MATCHED = 100  # anchors


@dataclass(frozen=True)
class Objects:
    """What anchors and cells are matched to.

    Attributes:
        targets: in pixels of the network's image.
        given: whether somebody named them; else they are what the model itself found.
    """

    targets: Targets
    given: bool

    @property
    def noun(self) -> str:
        return "the objects that were given" if self.given else "what the model itself found"


@singledispatch
def stages_of(module: nn.Module, name: str, seen: Seen, objects: Objects) -> list[Section]:
    """What a part of a model shows of its work; nothing, unless its class has something to show.

    Args:
        module: of that name in `seen.model`, which was called.
    """
    return []


def every(seen: Seen, objects: Objects) -> list[Section]:
    """The stages of a model in the order in which its parts are listed, its own pictures last."""
    parts = [(name, part) for name, part in seen.model.named_modules() if name in seen.calls]
    found = [*stages_of(seen.model, "", seen, objects)]
    for name, part in parts:
        found += stages_of(part, name, seen, objects)
    if own := seen.model.pictures(seen.outputs()):
        text = "What this model alone has to show."
        found.append(Section("Its own pictures", text, [Picture(*each) for each in own]))
    return found


def objects_of(seen: Seen, boxes: Tensor | None, score_thresh: float) -> Objects:
    """
    Args:
        boxes: (N, 4) xyxy, pixels of the network's image, that somebody named.
        score_thresh: of the model's own detections, where there are any.
    """
    found = seen.prediction
    if boxes is None and hasattr(found, "boxes"):
        sure = found.scores.detach() >= score_thresh
        boxes, labels = found.boxes.detach()[sure], found.labels[sure]
        return Objects(Targets(boxes, labels), False)
    boxes = torch.zeros(0, 4) if boxes is None else boxes.float()
    targets = Targets(boxes, torch.zeros(len(boxes), dtype=torch.int64))
    return Objects(targets.to(seen.batch.images.device), True)


def scene(seen: Seen) -> tuple[np.ndarray, float]:
    """The picture as the network got it, large enough to draw on, and how much larger it is."""
    height, width = seen.picture.shape[:2]
    factor = max(1.0, SIDE / max(height, width))
    return canvas.resized(seen.picture, round(height * factor), round(width * factor)), factor


def drawn(
    seen: Seen, boxes: Tensor, labels: Sequence[int] | None = None, line: int = 2
) -> np.ndarray:
    """Boxes of the network's image on it, in the colours of labels, the first on top."""
    picture, factor = scene(seen)
    corners = boxes.detach().cpu().numpy().reshape(-1, 4)[::-1] * factor
    colours = [colour(k) for k in labels][::-1] if labels else [colour(0)]
    return canvas.boxes(picture, corners, colours, line)


def detections(seen: Seen, tried: int, noun: str) -> Picture:
    """What is left after non-maximum suppression of each class.

    Args:
        tried: how many boxes it chose from.
        noun: what they are.
    """
    boxes, labels = seen.prediction.boxes, seen.prediction.labels.tolist()
    text = f"{len(boxes)} of {tried:,} {noun} are left after NMS of each class."
    if len(boxes) > SURE:
        text += f" Shown are the {SURE} surest."
    return Picture("Detections", text, drawn(seen, boxes[:SURE], labels[:SURE]))


def positives(anchors: Tensor, matched: Tensor, objects: Objects) -> list[tuple[int, int, float]]:
    """Each anchor that answers for an object, that object, and their IoU; the largest IoU first.

    Args:
        anchors: (A, 4) xyxy. matched: (A,) int64, the object of each; below 0 it is none's.
    """
    chosen = torch.nonzero(matched >= 0)[:, 0]
    which = matched[chosen]
    iou = paired_overlap(anchors[chosen], objects.targets.boxes[which])
    order = iou.argsort(descending=True)
    columns = chosen[order].tolist(), which[order].tolist(), iou[order].tolist()
    return list(zip(*columns, strict=True))


def matched_boxes(
    seen: Seen, anchors: Tensor, positive: Sequence[tuple[int, int, float]], objects: Objects
) -> np.ndarray:
    """The anchors that answer, thin, a colour an object, and the objects in white."""
    shown = positive[:MATCHED]
    boxes = anchors[[anchor for anchor, _, _ in shown]]
    picture = drawn(seen, boxes, [which + 1 for _, which, _ in shown], 1)
    return outlined(picture, seen, objects.targets.boxes)


def outlined(picture: np.ndarray, seen: Seen, boxes: Tensor) -> np.ndarray:
    """White boxes of the network's image on a picture that `scene` made."""
    factor = picture.shape[1] / seen.picture.shape[1]
    return canvas.boxes(picture, boxes.cpu().numpy().reshape(-1, 4) * factor, [canvas.WHITE])


def word(seen: Seen, objects: Objects, which: int) -> str:
    """An object's number, and its class where that is known."""
    if objects.given:
        return f"{which + 1}"
    return f"{which + 1} ({name_of(seen, int(objects.targets.labels[which]))})"


def corners(box: Tensor) -> str:
    """A box in words: x1, y1, x2, y2."""
    return ", ".join(f"{value:.0f}" for value in box.tolist())


def map_over(seen: Seen, values: Tensor) -> np.ndarray:
    """(h, w) numbers of a map's cells over the picture, cell by cell.

    What lies in the padding of the batch is cut off.
    """
    picture, _ = scene(seen)
    shares = values.detach().float().cpu().numpy()
    tall, wide = seen.batch.images.shape[2:]
    height, width = seen.picture.shape[:2]
    rows = max(1, round(shares.shape[0] * height / tall))
    columns = max(1, round(shares.shape[1] * width / wide))
    return canvas.cells_over(picture, shares[:rows, :columns])


def name_of(seen: Seen, label: int) -> str:
    return seen.names[label] if label < len(seen.names) else str(label)
