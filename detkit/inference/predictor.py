"""A trained model in Python: `predictor = detkit.load("runs/…"); predictor("photo.jpg")`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from detkit import restore, stored
from detkit.data import images
from detkit.data.loading import collate
from detkit.data.transforms import Loaded, Transform
from detkit.draw import as_rgb, eight_bit
from detkit.errors import DetkitError, unknown
from detkit.evaluation.text import number
from detkit.evaluation.thresholds import Chosen, thresholds_of
from detkit.folders import in_home
from detkit.inference.run import predictions, prepare
from detkit.inference.selecting import overlapping, reselect, resized
from detkit.inference.sources import Item, Picture, Source
from detkit.inference.tasks import tasks
from detkit.inference.tiles import Tiled
from detkit.models.heads.truncated import truncate
from detkit.models.model import Model
from detkit.ops.device import pick_device
from detkit.predictions import Prediction
from detkit.structures import Batch


class Predictor:
    """Pictures in, a `Prediction` of each out, in its own pixels: `Detections`, `Segmentation` …

    Attributes:
        model: the module as the checkpoint holds it; predictions come from a faster copy of it.
        names, category_ids: of its K classes.
        meta: what else the checkpoint says: its resolved config, metrics, versions.
        thresholds: from which scores on detections count, and where those come from.
        score_thresh: the same as a number, or by class name; detections below it are left out. The
            model's own limit holds as well.
        classes: names of those that are kept, None: all.

    Raises:
        DetkitError: a score that is none, or a class that is not there.
    """

    def __init__(
        self,
        model: Model,
        meta: dict[str, Any],
        transform: Transform,
        *,
        device: torch.device | str,
        precision: str = "auto",
        score_thresh: Chosen = None,
        classes: Sequence[str] | None = None,
        agnostic_nms: bool = False,
    ) -> None:
        self.model, self.meta, self.transform = model, meta, transform
        self.names: tuple[str, ...] = tuple(meta["names"])
        self.category_ids: list[int] = list(meta["category_ids"])
        self.device, self.precision = torch.device(device), precision
        self.thresholds = thresholds_of(score_thresh, meta.get("operating_point"), self.names)
        self.score_thresh = self.thresholds.value(self.names)
        self.classes = None if classes is None else self._known(classes)
        self._agnostic_nms = stored.nms_iou(agnostic_nms, meta)
        self._fast: nn.Module = prepare(model, device, precision)

    @property
    def channels(self) -> int:
        """Of the pictures that the network takes."""
        return int(self.model.mean_std.shape[1])

    def in_tiles(self, side: int) -> Predictor:
        """Itself, from now on seeing pictures in overlapping tiles of so many pixels a side.

        Raises:
            DetkitError: a model that is not of pixels, or tiles below its receptive field.
        """
        self._fast = Tiled(prepare(self.model, self.device, self.precision), side)
        return self

    def __repr__(self) -> str:
        name, few = self.meta["config"]["model"]["name"], ", ".join(self.names[:5])
        more = ", …" if len(self.names) > 5 else ""
        count = number(len(self.names), "class")
        least = f"; score {self.thresholds}" if tasks[self.model.task].scored else ""
        return f"<Predictor: {name} on {self.device}, {count}: {few}{more}{least}>"

    def __call__(self, pictures: Any, batch_size: int = 1) -> Any:
        """
        Args:
            pictures: a path, an (H, W, 3) RGB or (H, W) grey uint8 array, a (3, H, W) uint8
                tensor, a PIL image, or a list of these.
            batch_size: images at once, of a list; 1 or more.
        Returns:
            One prediction, or a list of them for a list.
        Raises:
            DetkitError: a picture that cannot be read, an array of another kind, a batch of none.
        """
        several = isinstance(pictures, (list, tuple))
        given = pictures if several else [pictures]
        items = (self._picture(picture, place) for place, picture in enumerate(given))
        found = [p for _, batch in self.batches(items, batch_size) for p in batch]
        for prediction, picture in zip(found, given, strict=True):
            prediction.picture = picture
        return found if several else found[0]

    def stream(self, source: str | Path | int, batch_size: int = 1) -> Iterator[Prediction]:
        """Predictions one after the other, of a video, a folder, a pattern or a camera's number.

        Each has its `picture`, an (H, W, 3) RGB array; one batch at a time is in memory.

        Raises:
            DetkitError: nothing is there; or, once the others are through, the first picture or
                video that cannot be read.
        """
        given = Source(str(source), channels=self.channels)
        for pictures, found in self.batches(given.pictures(), batch_size):
            for picture, prediction in zip(pictures, found, strict=True):
                prediction.picture = picture.image
                yield prediction
        if given.faults:
            raise given.faults[0]

    def batches(
        self, pictures: Iterable[Picture], batch_size: int = 1
    ) -> Iterator[tuple[list[Picture], list[Prediction]]]:
        """Predictions of a stream such as `Source("video.mp4").pictures()`, one batch in memory."""
        waiting: deque[list[Picture]] = deque()

        def stream() -> Iterator[Batch]:
            for chunk in _chunks(pictures, batch_size):
                waiting.append(chunk)
                samples = [self._sample(picture) for picture in chunk]
                yield collate(samples, self.transform.multiple)

        found = predictions(
            self._fast,
            stream(),
            device=self.device,
            precision=self.precision,
            names=self.names,
            agnostic_nms=self._agnostic_nms,
        )
        for _, batch in found:
            yield waiting.popleft(), [p.filter(self.score_thresh, self.classes) for p in batch]

    def _known(self, classes: Sequence[str]) -> list[str]:
        if not tasks[self.model.task].scored:
            raise DetkitError(
                f"{self.meta['config']['model']['name']} finds no objects of classes to choose.",
                remedy="leave classes out.",
            )
        chosen = [classes] if isinstance(classes, str) else list(classes)
        for name in chosen:
            if name not in self.names:
                raise unknown("class", str(name)[:80], self.names)
        return chosen

    def _sample(self, picture: Picture) -> Loaded:
        return sample_of(self.model, self.transform, picture)

    def _picture(self, picture: Any, place: int) -> Picture:
        if isinstance(picture, (str, Path)):
            path = str(in_home(picture))
            image = images.read_as(path, self.channels)
            return Picture(image, Item(path, Path(path).stem, False))
        return Picture(as_rgb(picture), Item(f"picture {place}", str(place), False))


def sample_of(model: Model, transform: Transform, picture: Picture) -> Loaded:
    """A picture as the model gets it, with the proposals that it needs."""
    image_id, file = picture.image_id, picture.item.file
    proposals = None
    if model.proposer is not None:
        proposals = model.proposer(picture.image, image_id=image_id, file=file)
    image = images.with_channels(picture.image, model.mean_std.shape[1], Path(file))
    sample = transform(image, proposals=proposals)
    return sample.loaded(image_id, -1, file, (image.shape[0], image.shape[1]))


def _chunks(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    if not isinstance(size, int) or size < 1:
        raise DetkitError(f"batch_size is {size!r:.80}.", remedy="set it to 1 or more.")
    stream = iter(pictures)
    while chunk := list(islice(stream, size)):
        yield chunk


@as_rgb.register(str)
@as_rgb.register(Path)
def _from_file(path: str | Path) -> np.ndarray:
    return eight_bit(images.read(in_home(path)))


@as_rgb.register(Image.Image)
def _from_pillow(picture: Image.Image) -> np.ndarray:
    if picture.mode[0] in "IF":  # 32-bit integers, floats, and I;16
        raise DetkitError(
            f"A PIL image of mode {picture.mode} has no known range.",
            remedy="pass its path, or convert it to 8 bits a channel.",
        )
    if not (picture.width and picture.height):
        raise DetkitError(
            f"A PIL image of {picture.width}x{picture.height} is not a picture.",
            remedy="pass one with pixels in it.",
        )
    try:
        upright = ImageOps.exif_transpose(picture)
    except Exception as fault:  # Pillow decodes only now, and on foreign bytes raises anything
        raise DetkitError(
            f"The PIL image cannot be decoded ({fault}).",
            file=getattr(picture, "filename", None) or None,
            remedy="fetch or save the file again.",
        ) from fault
    return images.on_white(upright)


def load(
    path: str | Path,
    device: str = "auto",
    precision: str = "auto",
    score_thresh: Chosen = None,
    *,
    classes: Sequence[str] | None = None,
    nms_iou: float | None = None,
    detections: int | None = None,
    short_side: int | None = None,
    cfg: str | Path | None = None,
    names: str | Path | None = None,
    letterbox: bool | None = None,
    truncated_svd: Sequence[int] | None = None,
    agnostic_nms: bool = False,
) -> Predictor:
    """A predictor from a run folder, a checkpoint folder or its `model.safetensors`.

    Darknet's `FILE.weights` is one too, with its `.cfg` and `.names` beside it.

    Args:
        device: `auto` (CUDA, MPS, else the CPU), `cpu`, `cuda`, `cuda:1` or `mps`.
        precision: `auto` (bf16 where the device is fast at it), `fp32`, `bf16` or `fp16`.
        score_thresh: detections below it are left out. None: the best score on the validation
            split, which training stores in the checkpoint (`predictor.thresholds` tells), else 0.5;
            a number; scores of some classes by name; or `per_class`, the best of each.
        classes: names of those that are kept; None: all.
        nms_iou: of two of a class that overlap by more the worse one goes; None: as trained.
        detections: at most so many of a picture, the best; None: as trained.
        short_side: pixels that a picture's shorter side is brought to; None: as trained.
        cfg, names: of a Darknet file, where they lie elsewhere.
        letterbox: of a Darknet file, whether pictures keep their aspect ratio.
        truncated_svd: singular values that are left of each fully connected layer behind the RoIs.
        agnostic_nms: whether of two objects that overlap by more than the model's `nms_iou` the
            less sure one goes also where their classes differ.
    Raises:
        DetkitError: no checkpoint there, one that cannot be read, a class that it does not know, or
            a setting that its model lacks.
    """
    picked = pick_device(device)
    cfg, names = (None if file is None else str(file) for file in (cfg, names))
    model, meta = restore.load_model(path, picked, beside=restore.Beside(cfg, names, letterbox))
    stored.point_of(meta, path)
    reselect(model, nms_iou, detections)
    meta = resized(overlapping(meta, nms_iou), short_side)
    transform = stored.transform_of(meta, path)
    truncate(model, truncated_svd or ())
    return Predictor(
        model,
        meta,
        transform,
        device=picked,
        precision=precision,
        score_thresh=score_thresh,
        classes=classes,
        agnostic_nms=agnostic_nms,
    )
