"""Any network that Darknet's own description (.cfg) draws, as a backbone.

    [net] ─▶ layers.0 ─▶ layers.1 ─▶ … ─┬─▶ [yolo]  stride 32: level "5"
                                        └─▶ … ─▶ [yolo]  stride 16: level "4"

The levels are the maps that [yolo] and [region] read, before any sigmoid: a head on them needs no
convolution. What those sections say is data (`Output`). Modules have Darknet's numbers as names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detkit.backbones import darknet_weights
from detkit.backbones.backbone import MeanTail, Normalization, Tail, Trunk, backbones, initialize
from detkit.backbones.darknet_layers import OUTPUTS, Layer, Shape, build
from detkit.backbones.darknet_outputs import (
    COORDS,
    Output,
    anchors_here,
    first_classes,
    outputs,
)
from detkit.backbones.darknet_sections import LARGEST, Section, cfg_text, sections
from detkit.errors import DetkitError, unknown
from detkit.ranges import Count, Positive

DEFAULT = Path(__file__).with_suffix(".cfg")
MOST_LAYERS = 10_000
ALL_WEIGHTS = 2**29  # of a network; YOLOv4's largest has 287 million
FINEST = Fraction(1, 4)  # stride of a map that is wider than the image


class Graph(nn.ModuleDict):
    """Layers by number, each reading any that are before it.

    Args:
        layers: in their order; those that are not in it are not run.
    """

    def __init__(self, layers: Mapping[int, Layer]) -> None:
        super().__init__({str(index): layer.module for index, layer in layers.items()})
        self.inputs = {index: layer.inputs for index, layer in layers.items()}

    def forward(self, image: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
        """The outputs of some layers, by number; none is kept longer than it is needed."""
        last_use = {i: index for index, inputs in self.inputs.items() for i in inputs}
        last_use |= dict.fromkeys(wanted, -1)
        maps = {-1: image}
        for index, inputs in self.inputs.items():
            maps[index] = self[str(index)](*(maps[i] for i in inputs))
            for i in {*inputs, index}:
                if last_use.get(i, index) == index:
                    del maps[i]
        return {index: maps[index] for index in wanted}

    def keep(self, wanted: Sequence[int]) -> None:
        """Drop the layers that these don't need."""
        needed, open_ones = set(), [*wanted]
        while open_ones:
            index = open_ones.pop()
            if index >= 0 and index not in needed:
                needed.add(index)
                open_ones += self.inputs[index]
        for index in [i for i in self.inputs if i not in needed]:
            del self.inputs[index], self[str(index)]


@backbones.register("darknet_cfg")
class DarknetCfg(Trunk):
    """The network of a .cfg file; without one a small YOLOv3 of detkit's own.

    Args:
        cfg: the file. Its text has to stand in `text` where another machine is to rebuild the
            network: see `self_contained`.
        text: the description itself, in place of a file.
        classes: in place of the classes that the description says; the convolutions in front of
            its outputs get the filters for them.
        width: multiplies every channel count but those of the outputs.
        in_channels: of the images, whatever the description says.

    Attributes:
        outputs: what reads the maps, in the description's order.
        net: the options of [net], as they stand (width, height, learning_rate …).
        darknet_layout: the convolutions in the order of a weights file.

    Raises:
        DetkitError: a description that is none, or has a layer, option or value that is unknown
            here, or that gives a network without [yolo] and [region].
    """

    tail_size = None
    darknet_exact = True

    def __init__(
        self,
        *,
        cfg: str | None = None,
        text: str | None = None,
        classes: Count | None = None,
        width: Positive = 1.0,
        in_channels: Count = 3,
    ) -> None:
        super().__init__(in_channels)
        head, *parts = _description(cfg, text)
        layers = plan([head, *parts], width, classes, in_channels)
        self.net = dict(head.options)
        self.layers = Graph(layers)
        self.darknet_layout = darknet_weights.layout(self)
        self.outputs = outputs(parts, layers, classes)
        if not self.outputs:
            raise head.error(
                "The network has no [yolo] or [region].",
                "name the description of a detector; Darknet's classifiers are backbone=darknet19"
                " and darknet53.",
            )
        by_stride = sorted(self.outputs, key=lambda one: (one.stride, one.level))
        self.sources = {one.level: layers[one.layer].inputs[0] for one in by_stride}
        self.channels = {level: layers[i].channels for level, i in self.sources.items()}
        self.strides = {one.level: one.stride for one in by_stride}
        self.path = _stages(layers)
        self.normalization = Normalization.plain(in_channels)
        self.keep(list(self.channels))
        initialize(self)

    def forward(self, images: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        layers = {f"layers.{number}": number for number in range(len(self.layers))}
        if missing := [tap for tap in taps if tap not in layers]:
            raise unknown("layer of DarknetCfg", missing[0], layers)
        wanted = self.sources | {tap: layers[tap] for tap in taps}
        maps = self.layers(images, list(wanted.values()))
        return {name: maps[index] for name, index in wanted.items()}

    def keep(self, levels: Sequence[str]) -> None:
        self.sources = {level: i for level, i in self.sources.items() if level in levels}
        self.channels = {level: self.channels[level] for level in self.sources}
        self.strides = {level: self.strides[level] for level in self.sources}
        self.outputs = [one for one in self.outputs if one.level in self.sources]
        self.layers.keep(list(self.sources.values()))
        kept = {f"layers.{index}" for index in self.layers.inputs}
        path = {key: tuple(n for n in names if n in kept) for key, names in self.path.items()}
        self.path = {key: names for key, names in path.items() if names}

    def unfilled(self) -> Iterator[tuple[Output, nn.Conv2d]]:
        """Outputs with the convolution in front of each, where no file has the weights of that."""
        report = self.weights_report
        for output in self.outputs:
            place = self.sources[output.level]
            convs = [m for m in self.layers[str(place)].modules() if isinstance(m, nn.Conv2d)]
            new = report is None or any(k.startswith(f"layers.{place}.") for k in report.missing)
            if new and len(convs) == 1 and convs[0].bias is not None:
                yield output, convs[0]

    def make_tail(self, after: str) -> Tail:
        """The mean of a level's map: nothing lies behind an output."""
        return MeanTail({}, 0, self.channels[after])

    @classmethod
    def self_contained(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        cfg, text = settings.get("cfg"), settings.get("text")
        if cfg is None:
            return {**settings, "text": cfg_text(DEFAULT) if text is None else text}
        # where the data's classes are to come
        own: dict[str, Any] = {"classes": first_classes(_description(cfg, text))}
        for key in ("classes", "width", "in_channels"):
            if settings.get(key) is not None:
                own[key] = settings[key]
        with torch.device("meta"):  # errors name the file, which is not known later
            cls(cfg=cfg, text=text, **own)
        return {**settings, "cfg": None, "text": cfg_text(cfg)}


def plan(
    found: Sequence[Section],
    width: float = 1.0,
    classes: int | None = None,
    in_channels: int | None = None,
) -> dict[int, Layer]:
    """The layers of a description, by number; a classifier's too.

    Args:
        found: [net] and its layers.
        width, classes, in_channels: as for `DarknetCfg`; None leaves the description's.
    Raises:
        DetkitError: what is unknown or does not fit, with its line and layer.
    """
    head, *parts = found
    channels = in_channels or head.integer("channels", 3, 1)
    if len(parts) > MOST_LAYERS:
        raise head.error(
            f"The network has {len(parts):,} layers.", "correct the file; no network has so many."
        )
    before = [Shape(channels, Fraction(1))]
    layers, weights = {}, 0
    for section, following in zip(parts, [*parts[1:], None], strict=True):
        exact = None
        if following is not None and following.name in OUTPUTS:
            if classes is not None:
                exact = len(anchors_here(following)) * (COORDS + 1 + classes)
            elif width != 1:
                exact = section.integer("filters", 1, 1)
        layer = build(section, before, width, exact)
        weights += sum(weight.numel() for weight in layer.module.parameters())
        _check_size(section, layer, weights)
        before.append(Shape(layer.channels, layer.stride))
        layers[section.layer] = layer
    return layers


def _check_size(section: Section, layer: Layer, weights: int) -> None:
    """
    Args:
        weights: of all layers so far.
    Raises:
        DetkitError: a layer whose numbers no memory holds; a file may say anything.
    """
    finer = layer.stride is not None and layer.stride < FINEST
    if layer.channels <= LARGEST and weights <= ALL_WEIGHTS and not finer:
        return
    what = f"{layer.channels:,} channels"
    if finer:
        what = f"maps {1 / layer.stride} times as wide as the image"  # type: ignore[operator]
    elif weights > ALL_WEIGHTS:
        what = f"{weights:,} weights with the layers before it"
    raise section.error(f"It has {what}.", "correct the file; no network has so many.")


def _description(cfg: str | None, text: str | None) -> list[Section]:
    if cfg is None:
        if text is None:
            return sections(cfg_text(DEFAULT), DEFAULT.name)
        return sections(text, "backbone.text")
    stands = cfg_text(cfg)
    if text is not None and text != stands:
        raise DetkitError(
            "backbone.text and backbone.cfg describe two networks.",
            file=cfg,
            remedy="set one of the two to null.",
        )
    return sections(stands, cfg)


def _stages(layers: Mapping[int, Layer]) -> dict[str, tuple[str, ...]]:
    """The layers up to the first of each stride, for freezing the first ones: "0", "1", …"""
    stages: dict[str, tuple[str, ...]] = {}
    deepest = Fraction(0)
    for index, layer in layers.items():
        deepest = max(deepest, layer.stride or deepest)
        key = str(int(deepest).bit_length() - 1)
        stages[key] = (*stages.get(key, ()), f"layers.{index}")
    return stages
