"""A network as a chain of modules, cut where its resolution falls."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from detkit.backbones.backbone import Backbone, Tail
from detkit.backbones.norms import run


class Trunk(Backbone):
    """A backbone of one chain: what a network's file describes, `build` cuts to what is asked.

    A subclass makes its modules under torchvision's names and calls `cut` at the end.

    Attributes:
        tail_size: cells a side that its tail takes of an RoI, None where there is no tail.
        classifier: how the keys of the parts that are never built begin (for the weights' report).
    """

    tail_size: ClassVar[int | None] = 14
    classifier: ClassVar[tuple[str, ...]] = ("fc.",)

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

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps, x = {}, images
        for level, names in self.path.items():
            x = run(map(self.get_submodule, names), x)
            if level in self.channels:
                maps[level] = x
        return maps

    def stages(self) -> list[list[nn.Module]]:
        return [[self.get_submodule(name) for name in names] for names in self.path.values()]

    def keep(self, levels: Sequence[str], tail: bool = False) -> None:
        """Drop what these levels (and the tail) don't need."""
        if tail:
            self.tail = self.make_tail()
        last = max(map(int, levels))
        dropped = [self.path.pop(level) for level in list(self.path) if int(level) > last]
        needed = {name for names in self.path.values() for name in names}
        for name in {name for names in dropped for name in names} - needed:
            parent, _, child = name.rpartition(".")
            delattr(self.get_submodule(parent), child)
        self.channels = {level: n for level, n in self.channels.items() if level in levels}
        self.strides = {level: n for level, n in self.strides.items() if level in levels}

    def make_tail(self) -> Tail:
        """The stages behind level "4" and a mean."""
        modules = {name: self.get_submodule(name) for name in self.path["5"]}
        return MeanTail(modules, self.tail_size or 0, self.channels["5"])

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
        return run(map(self.get_submodule, self.names), rois).mean(dim=(2, 3))


class FullyConnectedTail(Tail):
    """fc6 and fc7 of a classifier, as in Fast R-CNN (Girshick 2015, section 2.2).

    Args:
        layers: what `classifier` consists of, without its last layer.
        size: cells a side that fc6 takes.
        channels: width of fc7.
    """

    def __init__(self, layers: Sequence[nn.Module], size: int, channels: int) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.classifier = nn.Sequential(*layers)
        initialize(self)

    def forward(self, rois: Tensor) -> Tensor:
        return self.classifier(rois.flatten(1))


def initialize(module: nn.Module) -> None:
    """He's normal initialisation of everything with a weight; biases zero, norms the identity."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest multiple of 8, at least 8; as it is at width 1."""
    return channels if width == 1 else max(8, int(channels * width / 8 + 0.5) * 8)
