"""The contract of a backbone: images in, one map per level out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from detkit.registry import Registry

backbones: Registry[Backbone] = Registry("backbone", "detkit.backbones")


@dataclass(frozen=True)
class Normalization:
    """What the weights expect: `(images / 255 − mean) / std`, RGB."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class WeightsReport:
    """What a weights file gave a network, for the run record.

    Attributes:
        file: its path.
        loaded: tensors taken from it (batch counters are not counted anywhere).
        missing: the network's tensors that it lacks; they keep their random start.
        not_used: its tensors for parts of the network that are not built (the classifier, a stage).
        unexpected: its tensors that the network does not have at all.
        norms_frozen: batch norms that it filled and that are frozen therefore.
        metadata: what a safetensors file says of itself.
    """

    file: str
    loaded: int
    missing: tuple[str, ...]
    not_used: tuple[str, ...]
    unexpected: tuple[str, ...]
    norms_frozen: int
    metadata: dict[str, str]

    def __str__(self) -> str:
        def some(kind: str, names: tuple[str, ...]) -> str:
            few = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            return f", {len(names)} {kind} ({few})" if names else ""

        return (
            f"{self.file}: {self.loaded} tensors loaded"
            + some("missing", self.missing)
            + some("not used", self.not_used)
            + some("unexpected", self.unexpected)
            + (f"; {self.norms_frozen} norms frozen" if self.norms_frozen else "")
        )


class Backbone(nn.Module):
    """A network that turns images into maps of falling resolution.

    A level's name is the logarithm of its stride: "2" is the last map of stride 4, "5" of 32.

    Attributes:
        channels: width of each level's map, finest level first.
        strides: pixels of the image per cell of each level, same order.
        normalization: what its weights expect of the images.
        tail: the stages behind the last level as a head for RoIs, or None: R-CNN's way of using a
            classifier's upper half (ResNet's layer4, VGG's fc6 and fc7).
        weights_report: what a weights file gave it, None without one.
    """

    channels: dict[str, int]
    strides: dict[str, int]
    normalization: Normalization
    tail: Tail | None
    weights_report: WeightsReport | None

    def __init__(self) -> None:
        super().__init__()
        self.normalization = Normalization()
        self.tail = None
        self.weights_report = None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised float images → level: (B, channels, H/stride, W/stride)."""
        raise NotImplementedError

    def stages(self) -> list[list[nn.Module]]:
        """The modules of each stage, first to last, for freezing the first ones."""
        raise NotImplementedError


class Tail(nn.Module):
    """(R, C, size, size) features of RoIs → (R, channels) vectors.

    Attributes:
        size: cells a side that it takes of each RoI.
        channels: width of the vectors.
    """

    size: int
    channels: int
