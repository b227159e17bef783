"""The contract of a backbone, and the chain of modules that each network here is.

normalised images ─▶ modules … ─▶ map of level "2" ─▶ modules … ─▶ map of level "3" ─▶ …
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from detkit.backbones.report import WeightsReport
from detkit.errors import unknown
from detkit.registry import Registry
from detkit.structures import content_mask

backbones: Registry[Backbone] = Registry("backbone", "detkit.backbones")


@dataclass(frozen=True)
class Normalization:
    """What the weights expect: `(images − mean) / std` of each channel, in 0 … 1."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @staticmethod
    def of(channels: int) -> Normalization:
        """ImageNet's for RGB; for other pictures the mean of its channels for each."""
        if channels == 3:
            return Normalization()
        return Normalization((0.449,) * channels, (0.226,) * channels)

    @staticmethod
    def plain(channels: int) -> Normalization:
        """Pixels in 0 … 1 as they are: what Darknet's weights expect."""
        return Normalization((0.0,) * channels, (1.0,) * channels)


def normalize(images: Tensor, mean_std: Tensor, sizes: Tensor | None = None) -> Tensor:
    """Float images as weights expect them, zero (the mean colour) in the padding.

    Args:
        images: (B, C, H, W) uint8, or float in 0 … 1.
        mean_std: (2, C, 1, 1), of a `Normalization`.
        sizes: (B, 2) height and width of each image without its padding; all of it if None.
    """
    mean, std = mean_std
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    # in place: fresh memory for each step would take a CPU several times as long
    normalized = images.to(mean.dtype, copy=True).sub_(mean * scale).div_(std * scale)
    if sizes is None:
        return normalized
    return normalized.mul_(content_mask(images, sizes)[:, None].to(mean.dtype))


class Backbone(nn.Module):
    """A network that turns images into maps of falling resolution.

    A level's name is the logarithm of its stride: "2" is the last map of stride 4, "5" of 32.

    Attributes:
        channels: width of each level's map, finest level first.
        strides: pixels of the image per cell of each level, same order.
        normalization: what its weights expect of the images.
        weights_report: what a weights file gave it, None without one.
        least_side: pixels a side of the smallest images that it takes.
        auxiliary: inner modules on whose maps a classifier has heads of its own in training, and
            the channels of these; empty where the paper has none.
    """

    channels: dict[str, int]
    strides: dict[str, int]
    normalization: Normalization
    weights_report: WeightsReport | None
    least_side: int = 1
    auxiliary: Mapping[str, int] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        self.normalization = Normalization()
        self.weights_report = None

    def forward(self, images: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        """
        Args:
            images: (B, C, H, W), normalised.
            taps: names of inner modules whose maps are wanted too (GoogLeNet's auxiliary heads).
        Returns:
            level: (B, channels, H/stride, W/stride); behind the levels each tap by its name.
        """
        raise NotImplementedError

    def make_auxiliary(self, tap: str, classes: int) -> nn.Module:
        """The head on the map of an inner module, (B, C, H, W) → (B, K) logits."""
        raise NotImplementedError

    def stages(self) -> list[list[nn.Module]]:
        """The modules of each stage, first to last, for freezing the first ones."""
        raise NotImplementedError


class Tail(nn.Module):
    """(R, C, size, size) features of RoIs, or of whole images → (R, channels) vectors.

    It is what a classifier has behind a level: ResNet's layer4 and a mean, VGG's fc6 and fc7.

    Attributes:
        size: cells a side that it takes of each RoI.
        channels: width of the vectors.
        logits: a classifier's last layer, behind the vectors, where one was asked for.
    """

    size: int
    channels: int
    logits: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.logits = None
        self.dropout = 0.0

    def add_logits(self, classes: int, dropout: float) -> None:
        """Make the last layer, which sees the vectors through a dropout."""
        self.logits, self.dropout = last_layer(nn.Linear(self.channels, classes)), dropout

    def classify(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) maps of whole images → (B, K) logits; with a last layer only."""
        assert self.logits is not None
        return self.logits(F.dropout(self(maps), self.dropout, self.training))


class Trunk(Backbone):
    """A backbone of one chain: what a network's file describes, `build` cuts to what is asked.

    A subclass makes its modules under torchvision's names and calls `cut` at the end.

    Attributes:
        in_channels: C of the images; a subclass takes it as a setting unless it is always 3.
        tail_size: cells a side that its tail behind level "4" takes of an RoI, None where it has no
            such tail.
        classifier: how the keys of the parts that are never built begin (for the weights' report).
        published: the network whose ImageNet weights torchvision publishes and this one takes; None
            is the one of its own name.
        logits: what published files call the last layer of a classifier.
        logits_dropout: in front of that layer.
        darknet_layout: the whole network's convolutions in the order of a Darknet weights file
            (key → shape); empty where none is of it.
        darknet_exact: whether such a file holds this network alone, or may go on behind it.
    """

    tail_size: ClassVar[int | None] = 14
    classifier: ClassVar[tuple[str, ...]] = ("fc.",)
    published: ClassVar[str | None] = None
    logits: ClassVar[str] = "fc"
    logits_dropout: ClassVar[float] = 0.0
    darknet_layout: Sequence[Mapping[str, tuple[int, ...]]] = ()
    darknet_exact: ClassVar[bool] = False

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.normalization = Normalization.of(in_channels)

    def cut(self, path: Mapping[str, tuple[int, Sequence[str]]]) -> None:
        """Say which modules lead to which level, and initialise them (He et al. 2015, eq. 10).

        Args:
            path: level → (channels of its map, names of the modules between the level before and
                this map), finest first.
        """
        self.path = {level: tuple(names) for level, (_, names) in path.items()}
        self.channels = {level: channels for level, (channels, _) in path.items()}
        self.strides = {level: 2 ** int(level) for level in path}
        initialize(self)

    def forward(self, images: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        maps, tapped, x = {}, {}, images
        for level, names in self.path.items():
            for run in _runs(names, taps):
                x = run_chain(map(self.get_submodule, run), x)
                if run[-1] in taps:
                    tapped[run[-1]] = x
            if level in self.channels:
                maps[level] = x
        if missing := [tap for tap in taps if tap not in tapped]:
            inside = [name for names in self.path.values() for name in names]
            raise unknown(f"layer of {type(self).__name__}", missing[0], inside)
        return maps | tapped

    def stages(self) -> list[list[nn.Module]]:
        return [[self.get_submodule(name) for name in names] for names in self.path.values()]

    def keep(self, levels: Sequence[str]) -> None:
        """Drop what these levels don't need."""
        last = max(map(int, levels))
        dropped = [self.path.pop(level) for level in list(self.path) if int(level) > last]
        needed = {name for names in self.path.values() for name in names}
        for name in {name for names in dropped for name in names} - needed:
            parent, _, child = name.rpartition(".")
            delattr(self.get_submodule(parent), child)
        self.channels = {level: n for level, n in self.channels.items() if level in levels}
        self.strides = {level: n for level, n in self.strides.items() if level in levels}

    def make_tail(self, after: str) -> Tail:
        """The stages behind a level, and a mean; they are copies, `keep` drops the originals."""
        above = [names for level, names in self.path.items() if int(level) > int(after)]
        modules = {name: self.get_submodule(name) for names in above for name in names}
        return MeanTail(modules, self.tail_size or 0, list(self.channels.values())[-1])

    @classmethod
    def self_contained(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with what files they name written into them, for a checkpoint."""
        return dict(settings)

    def adapted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file's tensors in the form that this network has them in, where it is another one."""
        return dict(tensors)

    def check_metadata(self, metadata: Mapping[str, str], file: str) -> None:
        """Raise a DetkitError where a weights file says that it is of a network built otherwise."""


class MeanTail(Tail):
    """A network's last stage and the mean of its map, as in ResNet-C4 (He et al. 2015, appendix A).

    Its modules keep their names, so that they are `tail.layer4.…` in a state dict.
    """

    def __init__(self, modules: Mapping[str, nn.Module], size: int, channels: int) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.names = tuple(modules)
        for name, module in modules.items():
            *parents, child = name.split(".")
            place: nn.Module = self
            for parent in parents:  # "features.14" lives in a container called "features"
                if not hasattr(place, parent):
                    place.add_module(parent, nn.Module())
                place = place.get_submodule(parent)
            place.add_module(child, copy.deepcopy(module))

    def forward(self, rois: Tensor) -> Tensor:
        return self.last_map(rois).mean(dim=(2, 3))

    def last_map(self, rois: Tensor) -> Tensor:
        """(R, C, size, size) → (R, channels, h, w), before the mean."""
        return run_chain(map(self.get_submodule, self.names), rois)


class CellTail(MeanTail):
    """A mean; but its last layer looks at each cell, and the logits are the mean of what it finds.

    So in SqueezeNet (Iandola et al. 2016, table 1: conv10, ReLU and a global mean).
    """

    def __init__(self, channels: int) -> None:
        super().__init__({}, 0, channels)

    def add_logits(self, classes: int, dropout: float) -> None:
        self.logits, self.dropout = last_layer(nn.Conv2d(self.channels, classes, 1)), dropout

    def classify(self, maps: Tensor) -> Tensor:
        assert self.logits is not None
        cells = torch.relu(self.logits(F.dropout(maps, self.dropout, self.training)).float())
        return cells.mean(dim=(2, 3))


class FullyConnectedTail(Tail):
    """fc6 and fc7 of a classifier, as in Fast R-CNN (Girshick 2015, section 2.2).

    Args:
        layers: what `classifier` consists of, without its last layer.
        size: cells a side that fc6 takes; larger maps are averaged to it.
        channels: width of fc7.
    """

    def __init__(self, layers: Sequence[nn.Module], size: int, channels: int) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.classifier = nn.Sequential(*layers)
        initialize(self)

    def forward(self, rois: Tensor) -> Tensor:
        if rois.shape[2:] != (self.size, self.size):
            rois = F.adaptive_avg_pool2d(rois, self.size)
        return self.classifier(rois.flatten(1))


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """`norm(conv(x))`, a frozen norm folded into the weight so that one convolution does both.

    (conv(x) − mean) · s + bias with s = weight / √(var + eps) is a convolution by s · conv.weight;
    the gradient of conv.weight flows through that product.

    Args:
        x: (B, C, H, W).
    Returns:
        (B, D, H', W'), a tensor that nothing else holds: an activation may work in place.
    """
    if not isinstance(norm, FrozenBatchNorm2d):
        return norm(conv(x))
    weight, bias = folded(conv, norm)
    if conv.padding_mode != "zeros":
        raise ValueError(f"conv_norm knows zero padding only, not {conv.padding_mode!r}")
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def run_chain(chain: Iterable[nn.Module], x: Tensor) -> Tensor:
    """The modules one after the other, each convolution together with the frozen norm behind it."""
    modules = list(chain)
    while modules:
        module = modules.pop(0)
        if isinstance(module, nn.Conv2d) and modules and isinstance(modules[0], FrozenBatchNorm2d):
            x = conv_norm(x, module, modules.pop(0))
        else:
            x = module(x)
    return x


def _runs(names: Sequence[str], taps: Sequence[str]) -> list[Sequence[str]]:
    """The names in runs that end at a tap, or at the end."""
    ends = [i + 1 for i, name in enumerate(names) if name in taps or i + 1 == len(names)]
    return [names[start:end] for start, end in pairwise([0, *ends])]


class Chain(nn.Sequential):
    """A Sequential that runs by `run_chain`."""

    def forward(self, x: Tensor) -> Tensor:
        return run_chain(self, x)


def folded(conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that both are."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    return conv.weight * scale[:, None, None, None], norm.bias - mean * scale


def initialize(module: nn.Module) -> None:
    """He's normal initialisation of everything with a weight; biases zero, norms the identity."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def last_layer(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """The layer with small weights: all classes begin alike (Krizhevsky 2012, section 5)."""
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest multiple of 8, at least 8; as it is at width 1."""
    return channels if width == 1 else max(8, int(channels * width / 8 + 0.5) * 8)
