"""CapsNet (Sabour, Frosst, Hinton 2017, arXiv:1710.09829).

    image ─▶ Conv1 ─▶ PrimaryCaps ─▶ DigitCaps ──▶ ‖v‖ of each class            (figure 1)
    28×28    9×9      9×9, stride 2   K × 16-D     margin loss
             20×20    6×6 × 32 × 8-D     │
                                         └─▶ the true class's v ─▶ 512 ─▶ 1024 ─▶ image   (figure 2)

A capsule is a vector: its length says how surely something is there, its direction how it is. Each
primary capsule says what each class's capsule would be (û = W·u), and routing lets it speak to the
class that most others agree on.

Shapes: B images, C channels, N primary capsules of I dimensions, K classes of D dimensions.

Differences from the paper:
- without a true class, at inference, the longest capsule is the one that is reconstructed;
- pictures of C channels and of any side, which is fixed when the model is made;
- an image whose class is unknown learns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone, initialize, normalize
from detkit.backbones.pixels import Pixels
from detkit.errors import DetkitError
from detkit.models.capsule_picture import capsule_picture
from detkit.models.classifier import labels_of
from detkit.models.model import Model, Wants, models, weights_of_classes
from detkit.predictions import Classification, Prediction
from detkit.ranges import Count, Positive
from detkit.structures import Classes, Targets

KERNEL = 9  # of both convolutions
PRESENT, ABSENT, DOWN = 0.9, 0.1, 0.5  # equation 4: m⁺, m⁻ and λ
SHIFTS = torch.arange(-5, 6) * 0.05  # figure 4
UNITS = (512, 1024)  # of the decoder's layers


@models.register("capsnet")
class CapsNet(Model):
    """The class of each image, and what the image looks like to the capsule of that class.

    Args:
        side: pixels a side of the images.
        filters: channels of Conv1.
        types: of primary capsules, each with one in every cell.
        primary: I, dimensions of a primary capsule.
        dimensions: D, of a class's capsule.
        iterations: of the routing.
        reconstruction: weight of the sum of squared differences to the image.
        class_weights: weight of each class in the margin loss.

    Raises:
        DetkitError: another backbone than `pixels`, images too small, or class weights not K.
    """

    task, needs = "classify", frozenset({"image_labels"})
    class_weights: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        side: Count = 28,
        filters: Count = 256,
        types: Count = 32,
        primary: Count = 8,
        dimensions: Count = 16,
        iterations: Count = 3,
        reconstruction: Positive = 0.0005,
        class_weights: Sequence[Positive] | None = None,
    ) -> None:
        check(backbone, side)
        super().__init__(backbone, classes)
        self.side, self.reconstruction = side, reconstruction
        weights = weights_of_classes(class_weights, len(classes))
        self.register_buffer("class_weights", weights, persistent=False)
        channels = backbone.channels["0"]
        self.conv1 = nn.Conv2d(channels, filters, KERNEL)
        self.primary = PrimaryCaps(filters, types, primary)
        self.digit = DigitCaps(
            types * cells(side) ** 2, primary, len(classes), dimensions, iterations
        )
        self.decoder = Decoder(len(classes) * dimensions, (channels, side, side))
        initialize(self)

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(None)  # whatever there is: `check` says what is wrong with another backbone

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        self.check_size(images.shape[2], images.shape[3])
        pixels = normalize(images, self.mean_std, sizes)
        features = F.relu(self.conv1(self.backbone(pixels)["0"]), inplace=True)
        capsules = self.digit(self.primary(features))  # (B, K, D)
        if targets is None:
            return self.predictions(capsules)
        labels = labels_of(targets)
        drawn = self.decoder(masked(capsules, labels.clamp(min=0)))
        return self.losses(capsules, drawn, pixels, labels)

    def losses(
        self, capsules: Tensor, drawn: Tensor, pixels: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Means over the images, of which those without a known class have no loss.

        Args:
            capsules: (B, K, D). labels: (B,) int64, −1 where nothing is known.
            drawn, pixels: (B, C, side, side), the reconstruction of the true capsule; the image.
        """
        known = labels >= 0
        true = labels.clamp(min=0)
        margins = margin_loss(capsules.norm(dim=2), true) * self.class_weights[true]
        squares = (drawn - pixels.float()).square().sum((1, 2, 3))
        return {
            "margin": (margins * known).mean(),
            "reconstruction": self.reconstruction * (squares * known).mean(),
        }

    def predictions(self, capsules: Tensor) -> list[Prediction]:
        lengths = capsules.norm(dim=2)
        drawn = self.decoder(masked(capsules, lengths.argmax(1)))
        rows = zip(lengths, capsules, drawn, strict=True)
        return [
            Capsules(length, capsules=of_image, reconstruction=image, decoder=self.decoder)
            for length, of_image, image in rows
        ]

    def check_size(self, height: int, width: int) -> None:
        """Raise where images are of another size than the capsules are made for."""
        if (height, width) != (self.side, self.side):
            raise DetkitError(
                f"Images of {width}×{height} pixels: the capsules are made for"
                f" {self.side}×{self.side}, a matrix for each place in the image.",
                remedy=f"set transforms=digits transforms.side={self.side}, or train for other"
                " squares with model.side.",
            )


class PrimaryCaps(nn.Module):
    """A convolution whose channels are `types` capsules of I dimensions in each cell (section 4).

    They are squashed over their own dimensions: I neighbouring channels of one cell.
    """

    def __init__(self, channels: int, types: int, primary: int) -> None:
        super().__init__()
        self.types, self.primary = types, primary
        self.conv = nn.Conv2d(channels, types * primary, KERNEL, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, N, I) float32, N = types · cells, type by type."""
        maps = self.conv(features).float().flatten(2)
        vectors = maps.unflatten(1, (self.types, self.primary)).transpose(2, 3)  # type, cell, I
        return squash(vectors.flatten(1, 2))


class DigitCaps(nn.Module):
    """The capsule of each class, routed to from all primary ones (equation 2, procedure 1).

    Attributes:
        weight: (N, I, K·D), W of each primary capsule to all classes.
    """

    def __init__(
        self, capsules: int, primary: int, classes: int, dimensions: int, iterations: int
    ) -> None:
        super().__init__()
        self.classes, self.dimensions, self.iterations = classes, dimensions, iterations
        self.weight = nn.Parameter(torch.randn(capsules, primary, classes * dimensions) * 0.1)

    def forward(self, capsules: Tensor) -> Tensor:
        """(B, N, I) → (B, K, D) float32."""
        votes = torch.bmm(capsules.transpose(0, 1), self.weight)  # (N, B, K·D), û
        of_classes = votes.unflatten(2, (self.classes, self.dimensions)).permute(1, 2, 0, 3)
        return route(of_classes.contiguous(), self.iterations)


class Decoder(nn.Module):
    """Three layers from the capsules, all but one of them zero, to the image (figure 2)."""

    def __init__(self, inputs: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        first, second = UNITS
        self.layers = nn.Sequential(
            nn.Linear(inputs, first),
            nn.ReLU(inplace=True),
            nn.Linear(first, second),
            nn.ReLU(inplace=True),
            nn.Linear(second, int(np.prod(shape))),
        )

    def forward(self, masked: Tensor) -> Tensor:
        """(B, K, D) capsules → (B, C, side, side) float32 in 0 … 1."""
        weight = next(self.layers.parameters())
        return self.layers(masked.flatten(1).to(weight)).float().sigmoid().unflatten(1, self.shape)


@dataclass
class Capsules(Classification):
    """The class of an image whose scores are the lengths of capsules: their sum is not 1.

    Attributes:
        capsules: (K, D) float32.
        reconstruction: (C, side, side) float32 in 0 … 1, from the longest of them.
        decoder: draws such pictures: (B, K, D) → (B, C, side, side).
    """

    capsules: Tensor | None = None
    reconstruction: Tensor | None = None
    decoder: nn.Module | None = None

    def relabelled(self, label_of: Tensor, names: Sequence[str]) -> Capsules:
        order = label_of.argsort()
        assert self.capsules is not None
        # the decoder knows the capsules by the places they were trained in
        moved = replace(self, capsules=self.capsules[order], decoder=None)
        return replace(moved, scores=self.scores[order], names=tuple(names))

    def inside(self, image: Any) -> np.ndarray | None:
        """The picture, its reconstruction, and figure 4 of it."""
        if self.decoder is None or self.capsules is None or self.reconstruction is None:
            return None
        shifted = perturbed(self.decoder, self.capsules, self.label)
        return capsule_picture(image, self.reconstruction, shifted, SHIFTS.tolist())


@torch.no_grad()
def perturbed(decoder: nn.Module, capsules: Tensor, label: int) -> Tensor:
    """Figure 4: what is drawn where one dimension of a capsule is a little more or less.

    Args:
        capsules: (K, D) float32. label: whose is changed; the others are zero.
    Returns:
        (D, 11, C, side, side) float32 in 0 … 1, by dimension and by its change, −0.25 … 0.25.
    """
    classes, dimensions = capsules.shape
    moved = capsules[label] + torch.eye(dimensions)[:, None] * SHIFTS[:, None]  # (D, 11, D)
    vectors = torch.zeros(dimensions * len(SHIFTS), classes, dimensions)
    vectors[:, label] = moved.flatten(0, 1)
    return decoder(vectors).cpu().unflatten(0, (dimensions, len(SHIFTS)))


def squash(vectors: Tensor) -> Tensor:
    """Equation 1, over the last axis: the same direction, a length of n²/(1 + n²) for n."""
    length = vectors.norm(dim=-1, keepdim=True)
    return vectors * (length / (1 + length.square()))


def route(votes: Tensor, iterations: int) -> Tensor:
    """Procedure 1: primary capsules turn to the classes that agree with what they say.

    Args:
        votes: (B, K, N, D), û: what each of N capsules says that of each class is.
    Returns:
        (B, K, D) float32, squashed.
    """
    agreed = votes.new_zeros(votes.shape[:3], dtype=torch.float32)  # b, over K for each of N
    for iteration in range(iterations):
        share = agreed.softmax(1).to(votes.dtype)
        capsules = squash((share[:, :, None] @ votes)[:, :, 0].float())
        if iteration + 1 < iterations:
            agreed = agreed + (votes @ capsules[..., None].to(votes.dtype))[..., 0]
    return capsules


def margin_loss(lengths: Tensor, labels: Tensor) -> Tensor:
    """(B,) equation 4 of (B, K) lengths, summed over the classes; `labels` is (B,) int64."""
    present = F.one_hot(labels, lengths.shape[1])
    missing = (PRESENT - lengths).clamp(min=0).square()
    beyond = (lengths - ABSENT).clamp(min=0).square()
    return (present * missing + DOWN * (1 - present) * beyond).sum(1)


def masked(capsules: Tensor, labels: Tensor) -> Tensor:
    """(B, K, D) capsules of which only that of each image's label, (B,) int64, is not zero."""
    return capsules * F.one_hot(labels, capsules.shape[1])[..., None].to(capsules.dtype)


def cells(side: int) -> int:
    """Cells a side that the primary capsules have: 6 for 28 pixels."""
    return (side - 2 * (KERNEL - 1) - 1) // 2 + 1


def check(backbone: Backbone, side: int) -> None:
    """Raise for another backbone than none, or for pictures that the convolutions don't fit in."""
    if not isinstance(backbone, Pixels):
        raise DetkitError(
            f"capsnet brings all its layers itself: it does not stand on a"
            f" {type(backbone).__name__}.",
            remedy="set backbone=pixels, or choose model=classifier for this backbone.",
        )
    if cells(side) < 1:
        raise DetkitError(
            f"model.side is {side}: two convolutions of 9×9 leave nothing of it.",
            remedy=f"set it to {2 * KERNEL - 1} pixels or more (and transforms.side too).",
        )
