"""A classifier of whole images: the network that a backbone was made as.

    image ─▶ backbone ─▶ coarsest map ─▶ tail ─▶ vector ─▶ linear ─▶ K logits ─▶ softmax
             conv layers    stride 32     VGG, AlexNet: fc6, fc7
                                          LeNet: C5, F6
                                          GoogLeNet, ResNet …: a mean
                                          SqueezeNet: linear first, ReLU, then a mean
                 └─▶ inner maps ─▶ GoogLeNet's auxiliary heads ─▶ K logits, in training alone

Shapes: B images, C channels of the coarsest map, K classes.

Every backbone is one; its file says which paper that is, and with published weights it classifies
ImageNet at once: the last layer is the file's own where it has K classes, else it is made anew.
A backbone with an FPN has a mean of the pyramid's coarsest map.

Images should fill their batch (`transforms=classification`): padding counts in the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, MeanTail, Tail, normalize
from detkit.backbones.build import COARSEST
from detkit.errors import DetkitError
from detkit.models.model import Model, Wants, models, weights_of_classes
from detkit.predictions import Classification, Prediction
from detkit.ranges import NotNegative, Positive, Share
from detkit.structures import Classes, Targets


@models.register("classifier")
class Classifier(Model):
    """The class of each image.

    Args:
        label_smoothing: part of the target that is shared out over all classes (Szegedy et al.
            2015, arXiv:1512.00567, section 7).
        class_weights: weight of each class in the cross-entropy.
        auxiliary: weight of the losses of a network's auxiliary heads; 0 builds none. Only
            GoogLeNet has them (Szegedy et al. 2014, arXiv:1409.4842, section 5).

    Raises:
        DetkitError: class weights that are not K.
    """

    task, needs = "classify", frozenset({"image_labels"})
    training_only = ("auxiliary.",)
    class_weights: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        tail: Tail | None = None,
        label_smoothing: Share = 0.0,
        class_weights: Sequence[Positive] | None = None,
        auxiliary: NotNegative = 0.3,
    ) -> None:
        super().__init__(backbone, classes)
        self.label_smoothing = label_smoothing
        weights = weights_of_classes(class_weights, len(classes))
        self.register_buffer("class_weights", weights, persistent=False)
        self.level = list(backbone.channels)[-1]
        if tail is None:
            tail = MeanTail({}, 0, backbone.channels[self.level])
            tail.add_logits(len(classes), dropout=0.0)
        self.tail = tail
        self.auxiliary_weight, self.taps = auxiliary, tuple(backbone.auxiliary) if auxiliary else ()
        heads = {tap: backbone.make_auxiliary(tap, len(classes)) for tap in self.taps}
        self.auxiliary = nn.ModuleDict(heads)

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants((COARSEST,), tail=not fpn, logits=not fpn)

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        maps = self.maps(images, sizes, learns=targets is not None)
        logits = self.tail.classify(maps[self.level]).float()
        if targets is None:
            pairs = zip(logits.softmax(1), logits, strict=True)
            return [Classification(scores, logits=own) for scores, own in pairs]
        return self.class_losses(maps, logits, labels_of(targets))

    def maps(self, images: Tensor, sizes: Tensor | None, learns: bool) -> dict[str, Tensor]:
        """The backbone's maps, in training those below the auxiliary heads too."""
        pixels = normalize(images, self.mean_std, sizes)
        return self.backbone(pixels, taps=self.taps) if learns else self.backbone(pixels)

    def class_losses(
        self, maps: dict[str, Tensor], logits: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """The loss of the logits and those of the auxiliary heads."""
        losses = {"class": self.loss(logits, labels)}
        for tap in self.taps:
            beside = self.auxiliary[tap](maps[tap]).float()
            losses[f"auxiliary_{tap[-2:]}"] = self.auxiliary_weight * self.loss(beside, labels)
        return losses

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy times the class's weight, averaged over the images.

        An image whose class is unknown counts as one of loss 0, so that the loss of a batch is the
        mean of its parts' whoever computes them.

        Args:
            logits: (B, K) float32. labels: (B,) int64, −1 where nothing is known.
        """
        known = labels >= 0
        each = F.cross_entropy(
            logits,
            labels.clamp(min=0),
            self.class_weights,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return (each * known).mean()


def labels_of(targets: Sequence[Targets]) -> Tensor:
    """(B,) int64 classes of the images, −1 where they are not known.

    Raises:
        DetkitError: an image came without one.
    """
    labels = [target.image_label for target in targets if target.image_label is not None]
    if len(labels) < len(targets):
        raise DetkitError(
            "An image of the batch has no class of its own.",
            remedy="train this model on images sorted into folders of classes, on digits, on shapes"
            " or on crops of objects.",
        )
    return torch.stack(labels)
