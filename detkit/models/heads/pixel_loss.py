"""What a class for each pixel is learnt by: cross-entropy, Dice, focal, or a sum of them.

Of each image a loss is its own mean over the pixels that count, and of the batch the mean over the
images.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.errors import DetkitError, unknown
from detkit.structures import IGNORE

TERMS = {"cross_entropy": "pixels", "dice": "dice", "focal": "focal"}  # and what their losses are


class PixelLoss(nn.Module):
    """The terms of a sum.

    Args:
        text: `cross_entropy`, `dice`, `focal`, or a sum such as `cross_entropy+0.5*dice`.
        class_weights: (K,) factors of the classes in each of them.
        gamma: of the focal loss.
    Raises:
        DetkitError: a term that is none of them.
    """

    class_weights: Tensor

    def __init__(self, text: str, class_weights: Tensor, gamma: float) -> None:
        super().__init__()
        self.factors, self.gamma = factors_of(text), gamma
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, logits: Tensor, labels: Tensor, border: Tensor | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            logits: (B, K, H, W) float32.
            labels: (B, H, W) int64, `IGNORE` where nothing counts.
            border: (B, H, W) float32, added to the weight of each pixel's class in the
                cross-entropy and the focal loss.
        """
        found = {}
        for term, factor in self.factors.items():
            if term == "dice":
                loss = dice_loss(logits, labels, self.class_weights)
            else:
                gamma = self.gamma if term == "focal" else 0.0
                loss = focal_loss(logits, labels, self.class_weights, gamma, border)
            found[TERMS[term]] = factor * loss if factor != 1 else loss
        return found


def factors_of(text: str) -> dict[str, float]:
    """The factor of each term of `model.loss`."""
    factors: dict[str, float] = {}
    for part in text.replace(" ", "").split("+"):
        number, _, term = part.rpartition("*")
        if term not in TERMS:
            remedy = f"model.loss is {', '.join(TERMS)}, or a sum of them: cross_entropy+0.5*dice."
            raise unknown("loss", term or text, TERMS, remedy)
        known = re.fullmatch(r"(\d+\.?\d*|\.\d+)?", number)
        if term in factors or not known or (number and not float(number)):
            raise DetkitError(
                f"model.loss is {text!r}.",
                remedy="name each loss once, with its factor (above 0) before it if that is not 1,"
                " such as cross_entropy+0.5*dice.",
            )
        factors[term] = float(number or 1)
    return factors


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor,
    gamma: float,
    border: Tensor | None = None,
) -> Tensor:
    """−w (1 − p)^γ log p of the true class, over the sum of w (Lin et al. 2017, equation 5).

    With γ = 0 it is the weighted cross-entropy.

    Args:
        logits, labels, border: as `PixelLoss` takes them. class_weights: (K,).
    """
    counts = labels != IGNORE
    each = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    weight = class_weights[labels.where(counts, 0)]
    weight = (weight if border is None else weight + border) * counts
    if gamma:  # 1 − p is not 0, where a root of it (γ < 1) has no gradient
        each = each * (-(-each).expm1()).clamp(min=1e-6).pow(gamma)
    return ((each * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-6)).mean()


def dice_loss(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """1 − 2 Σ p t / (Σ p + Σ t), its mean over the classes that an image has (Milletari 2016).

    Args:
        logits, labels: as `PixelLoss` takes them.
        class_weights: (K,) of that mean.
    """
    counts = (labels != IGNORE)[:, None]
    scores = logits.softmax(1) * counts
    true = torch.zeros_like(scores).scatter_(1, labels.where(labels != IGNORE, 0)[:, None], 1.0)
    true = true * counts
    area = true.sum((2, 3))
    common = (scores * true).sum((2, 3))
    dice = 2 * common / (scores.sum((2, 3)) + area).clamp(min=1e-6)
    weight = class_weights * (area > 0)
    return (((1 - dice) * weight).sum(1) / weight.sum(1).clamp(min=1e-6)).mean()
