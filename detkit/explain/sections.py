"""All that there is to show of a model, and of what it makes of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detkit.backbones.from_run import filled
from detkit.backbones.norms import unfreeze_norms
from detkit.data.loading import collate
from detkit.data.transforms import Transform
from detkit.draw import as_rgb, eight_bit, visible
from detkit.explain import activation, canvas, filters, grids, maps, regions, stages, worked
from detkit.explain.page import Picture, Section
from detkit.explain.watching import Seen, check_layers, watch
from detkit.inference.predictor import sample_of
from detkit.inference.sources import Picture as Source
from detkit.lettering import lettered
from detkit.models.model import Model
from detkit.structures import Batch, Frame

ANSWERS = 8  # in the table of them
PHOTO, SMALL = 1000, 320  # pixels of the long side of the picture with the answer, from and to
FAMILIES = (regions, grids)  # imported for the stages that they register


@dataclass(frozen=True)
class Explained:
    """A model, and what of it was ever learnt.

    Attributes:
        model: in `eval()`, its norms not frozen ones, its parameters without gradients.
        names: of its classes.
        transform: what prepares pictures for it.
        trained: whether all of it comes from a checkpoint; else what the backbone's file filled.
    """

    model: Model
    names: tuple[str, ...]
    transform: Transform
    trained: bool

    def random(self) -> set[str]:
        """Names of the parameters that are as they were drawn."""
        names = [name for name, _ in self.model.named_parameters()]
        if self.trained:
            return set()
        return set(names) - filled(names, self.model.backbone.weights_report)

    def notes(self) -> list[str]:
        """What is to be said of random weights."""
        random = self.random()
        if not random:
            return []
        report = self.model.backbone.weights_report
        if report is None:
            return [
                "The weights are random: nothing was learnt and no file was loaded, so the filters"
                " are noise and the answers mean nothing."
            ]
        parts = sorted({".".join(name.split(".")[:2]) for name in random})
        few = ", ".join(parts[:6]) + (", …" if len(parts) > 6 else "")
        return [f"The weights are from {report.file}; random, since it lacks them: {few}."]


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside what is always shown.

    Attributes:
        layers: modules whose filters and maps are shown; none: the first convolution.
        answer: which answer's activation map is shown, from 1; None: the three surest.
        boxes: (N, 4) xyxy objects, pixels of the picture, that anchors and cells are matched to.
        numbers, kernel: of the worked example.
        regions: of a model of proposals, so many of them at most.
        score_thresh: of the model's own detections that are drawn and matched to.
    """

    layers: Sequence[str] = ()
    answer: int | None = None
    boxes: Sequence[Sequence[float]] | None = None
    numbers: Sequence[Sequence[float]] | None = None
    kernel: Sequence[Sequence[float]] | None = None
    regions: int = 200
    score_thresh: float = 0.5


def of_model(explained: Explained, source: Source | None, wanted: Wanted) -> list[Section]:
    """
    Args:
        source: the picture; None shows what there is without one.
    Raises:
        DetkitError: an unknown layer, numbers that are no picture, not so many answers.
    """
    model = explained.model
    convolutions = filters.convolutions(model)
    layers = list(wanted.layers) or list(convolutions)[:1]
    check_layers(model, layers)
    photo = None if source is None else as_rgb(visible(eight_bit(source.image)))
    example = worked.section(wanted.numbers, wanted.kernel, photo)
    random = explained.random()
    shown = [
        filters.picture(name, part, f"{name}.weight" in random)
        for name, part in convolutions.items()
        if any(name == layer or name.startswith(f"{layer}.") for layer in layers)
    ]
    text = f"Of {len(convolutions)} convolutions; layers=[NAME,…] shows others."
    own = [Section("Filters", text, shown[:ANSWERS])] if shown else []
    if source is None:
        return [example, *own]
    batch, frame = batch_of(explained, source, wanted.regions)
    seen = watch(model, batch, explained.names, layers)
    boxes = None if wanted.boxes is None else to_network(wanted.boxes, frame)
    objects = stages.objects_of(seen, boxes, wanted.score_thresh)
    return [
        answered(seen, frame, photo, wanted.score_thresh),
        activation.section(seen, wanted.answer),
        *stages.every(seen, objects),
        _maps(seen, layers),
        *own,
        example,
    ]


def batch_of(explained: Explained, source: Source, at_most: int) -> tuple[Batch, Frame]:
    """The picture as the network gets it."""
    sample = sample_of(explained.model, explained.transform, source)
    batch = collate([sample], explained.transform.multiple)
    if batch.proposals is not None:
        batch.proposals = [proposals[:at_most] for proposals in batch.proposals]
    return batch, sample.frame


def to_network(boxes: Sequence[Sequence[float]], frame: Frame) -> Tensor:
    """(N, 4) boxes of the file's picture in the network's."""
    (height, width), (h, w) = frame.original, frame.resized
    scale = torch.tensor([w / width, h / height, w / width, h / height])
    offset = torch.tensor([frame.left, frame.top, frame.left, frame.top])
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) * scale + offset


def answered(seen: Seen, frame: Frame, photo: Any, score_thresh: float) -> Section:
    """The picture with what the model says of it."""
    prediction = seen.prediction.detached()
    prediction.names = seen.names
    answers = [answer.text for answer in seen.prediction.answers()]
    table = [["", "answer"], *([str(n), text] for n, text in enumerate(answers[:ANSWERS], 1))]
    sure = prediction.to_image(frame).filter(score_thresh)
    factor = max(1, SMALL // max(photo.shape[:2]))  # so that the letters leave something of it
    large = photo.repeat(factor, 0).repeat(factor, 1)
    drawn = sure.enlarged(photo.shape[:2], factor).draw(large)
    height, width = seen.picture.shape[:2]
    text = f"{len(answers)} answers; the network saw the picture as {width}×{height} pixels."
    shown = [
        Picture(
            "What the model says",
            text,
            canvas.shrunk(drawn, PHOTO),
            table if answers else (),
        )
    ]
    if (inside := prediction.inside(photo)) is not None:
        text = "The picture, and what the model itself has to show of how it came to its answer."
        shown.append(Picture("How it came to it", text, inside))
    return Section("The answer", "What is explained below.", shown)


def _maps(seen: Seen, layers: Sequence[str]) -> Section:
    shown = []
    (height, width), whole = seen.picture.shape[:2], seen.batch.images.shape[2:]
    as_it_is = seen.calls["backbone"][0].inputs[0].shape[2:] == whole
    content = (height / whole[0], width / whole[1]) if as_it_is else (1.0, 1.0)
    for layer in layers:
        outputs = [call.output for call in seen.calls.get(layer, [])]
        silent = [_silent(layer, seen.model.get_submodule(layer))]
        shown += maps.pictures(layer, outputs, content) or silent
    shown += maps.pictures("level", [dict(given) for given in seen.maps[:1]], content)
    text = "What layers answer to the picture: those asked for, and the levels of the backbone."
    return Section("Maps", text, [picture for picture in shown if picture.image.size])


def _silent(layer: str, module: nn.Module) -> Picture:
    kind = type(module).__name__
    text = f"{layer} ({kind}) gave no numbers of its own for this picture."
    return Picture(f"Maps of {layer}", text, lettered("no maps", 16))


def ready(model: nn.Module) -> None:
    """Puts a model in the state that `Explained` speaks of."""
    unfreeze_norms(model)
    model.eval().requires_grad_(False)
