"""The contract of a model, and what a model asks of its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from detkit.backbones.backbone import Backbone
from detkit.errors import DetkitError
from detkit.registry import Registry
from detkit.structures import Prediction, Targets

models: Registry[Model] = Registry("model", "detkit.models")


@dataclass(frozen=True)
class Wants:
    """What a model asks of its backbone: levels (those that exist are built), maybe a tail."""

    levels: tuple[str, ...]
    tail: bool = False


class Model(nn.Module):
    """Images in; losses out when there are targets, predictions when there are none.

    What comes back depends on the arguments alone, never on `train()` or `eval()`.

    Attributes:
        task: what it predicts (`detect`, `segment_pixels`); chooses evaluator and writers.
        num_classes: K, without the background.
        mean_std: (2, 3, 1, 1), what the backbone's weights expect of images; a checkpoint has it.
    """

    task: ClassVar[str]
    mean_std: Tensor

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        mean_std = torch.tensor([backbone.normalization.mean, backbone.normalization.std])
        self.register_buffer("mean_std", mean_std.reshape(2, 3, 1, 1))

    @classmethod
    def wants(cls, fpn: bool) -> Wants:
        """What the backbone has to offer, with an FPN on it or without."""
        raise NotImplementedError

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        """
        Args:
            images: (B, 3, H, W) uint8 RGB, or float in 0 … 1.
            targets: one per image, in pixels of `images`.
            sizes: (B, 2) height and width of each image without its padding; all of it if None.
        Returns:
            With targets scalar losses by name, their sum the loss; else one prediction per image.
            A loss is the mean over the images of what each gives alone: processes average their
            gradients, which then are those of one process with all their images.
        """
        raise NotImplementedError


def weights_of_classes(weights: Sequence[float] | None, num_classes: int) -> Tensor:
    """(K,) float32 factors of the classes in a loss; ones where there are none.

    Raises:
        DetkitError: not one weight a class.
    """
    if weights is None:
        return torch.ones(num_classes)
    if len(weights) != num_classes:
        raise DetkitError(
            f"{len(weights)} class weights for {num_classes} classes.",
            record="model.class_weights",
            remedy="give one weight per class, or null.",
        )
    return torch.tensor(weights, dtype=torch.float32)
