"""The contract of a model, and what a model asks of its backbone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from detkit.backbones.backbone import Backbone
from detkit.errors import DetkitError
from detkit.models.stages import Stage
from detkit.predictions import Prediction
from detkit.registry import Registry
from detkit.structures import Classes, Targets

models: Registry[Model] = Registry("model", "detkit.models", context=["tail"])


@dataclass(frozen=True)
class Wants:
    """What a model asks of its backbone.

    Attributes:
        levels: those that exist are built; (`backbones.build.COARSEST`,) is the network's last,
            None all of them.
        tail: whether the stages behind the last of them come along, as the argument `tail`.
        logits: whether that tail has the network's last layer, for the K classes.
        padded: whether its convolutions are padded.
    """

    levels: tuple[str, ...] | None
    tail: bool = False
    logits: bool = False
    padded: bool = True


class Model(nn.Module):
    """Images in; losses out when there are targets, predictions when there are none.

    What comes back depends on the arguments alone, never on `train()` or `eval()`.

    Attributes:
        task: what it predicts (`detect`, `segment_pixels`): a key of `inference.tasks.tasks`.
        needs: what it learns from: a subset of `boxes`, `masks`, `pixels`, `image_labels`; with
            `one_object` images that have exactly one; with `proposals` it also takes those, as an
            argument, in training and at inference.
        also: what it learns from as well where the data have it: images with a class alone.
        proposer: where its proposals come from, if it needs any.
        reach: pixels around its own that matter to an output, so that a picture can be taken in
            overlapping tiles (`inference/tiles.py`); None where it cannot.
        margin: pixels of surroundings that the backbone sees before the image, above and at the
            left; behind it at least as many.
        renamed: beginnings of keys in checkpoints of format 1, and what they are now.
        training_only: beginnings of the keys of heads that only help to learn.
        class_list: K classes, without the background.
        num_classes: K.
        mean_std: (2, C, 1, 1), what the backbone's weights expect of images of C channels; a
            checkpoint has it.
    """

    task: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    also: ClassVar[frozenset[str]] = frozenset()
    proposer: Any = None
    reach: int | None = None
    margin: int = 0
    renamed: ClassVar[Mapping[str, str]] = {}
    training_only: ClassVar[tuple[str, ...]] = ()
    mean_std: Tensor

    def __init__(self, backbone: Backbone, classes: Classes) -> None:
        super().__init__()
        self.backbone = backbone
        self.class_list = classes
        self.num_classes = len(classes)
        mean_std = torch.tensor([backbone.normalization.mean, backbone.normalization.std])
        self.register_buffer("mean_std", mean_std[..., None, None])

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        """What the backbone has to offer, with an FPN on it or without.

        Args:
            settings: all arguments of the model.
        """
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        """A copy with the same proposer, which may hold the boxes of a whole data set."""
        memo[id(self.proposer)] = self.proposer
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def check_size(self, height: int, width: int) -> None:
        """Raise where it is not made for images of that size; any will do for most models."""

    def stages(self) -> Sequence[Stage]:
        """The steps of its recipe, first to last."""
        return (Stage("train"),)

    def pictures(
        self, outputs: Mapping[str, Sequence[Any]]
    ) -> Sequence[tuple[str, str, np.ndarray]]:
        """What `detkit explain` shows of its inside beside what it shows of every model.

        Args:
            outputs: what its modules gave for one picture, by their names, call by call: of all
                modules but those inside the backbone. Nothing of it is to be computed again.
        Returns:
            A title, a sentence and an (H, W, 3) uint8 picture, of each.
        """
        return ()

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        """
        Args:
            images: (B, C, H, W) uint8, RGB where C is 3, or float in 0 … 1.
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
