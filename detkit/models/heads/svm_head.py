"""The head of R-CNN and SPPnet: a softmax to fine-tune with, then SVMs and ridge regressions.

    features ─┬─▶ softmax over K + 1     fine-tuning, and scores while there are no SVMs
              ├─▶ an SVM a class ─▶ logistic ─▶ scores
              └─▶ a ridge regression a class ─▶ boxes

The SVMs and regressions are solved for (`heads.solving`) and are buffers. `SVMs` alone may score in
place of another head's softmax (Fast R-CNN, section 5.4).

Shapes: R RoIs of the whole batch, C features, K classes (background is index K).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.models.heads.box_head import SoftmaxBoxes
from detkit.models.model import weights_of_classes
from detkit.ops.boxes import BoxCoder

NORM = 20.0  # the features' mean norm, once they are scaled (the published code's)


@dataclass(frozen=True)
class SVMRules:
    """What the SVMs and regressions are solved from.

    Attributes:
        penalty: C of the SVMs. positive_weight: times C for the objects (published code: 2).
        neg_iou: a proposal is background to a class below it (R-CNN, section 2.3).
        distinct_iou: of two such that overlap by more one is left out (SPPnet, section 4.1); None
            keeps all.
        box_iou: proposals that overlap an object by more learn its box (appendix C).
        box_penalty: λ of the regressions (appendix C).
    """

    penalty: float
    positive_weight: float
    neg_iou: float
    distinct_iou: float | None
    box_iou: float
    box_penalty: float


RULES = SVMRules(0.001, 2.0, 0.3, None, 0.6, 1000.0)  # R-CNN's


class SVMs(nn.Module):
    """An SVM a class.

    Args:
        channels: C.
        num_classes: K.
        rules: how they are solved for.

    Attributes:
        solved: bool, whether there are SVMs.
        scale: what features are multiplied with for SVMs and regressions.
        svm_weight, svm_bias: (K, C), (K,).
    """

    solved: Tensor
    scale: Tensor
    svm_weight: Tensor
    svm_bias: Tensor

    def __init__(self, channels: int, num_classes: int, rules: SVMRules = RULES) -> None:
        super().__init__()
        self.num_classes, self.rules = num_classes, rules
        self.register_buffer("solved", torch.tensor(False))
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("svm_weight", torch.zeros(num_classes, channels))
        self.register_buffer("svm_bias", torch.zeros(num_classes))

    def scaled(self, features: Tensor) -> Tensor:
        """The features as SVMs and regressions see them, float32."""
        return features.float() * self.scale

    def scores(self, features: Tensor) -> Tensor:
        """(R, C) → (R, K) in 0 … 1, the logistic function of the SVMs': 0.5 is their boundary, 0.27
        and 0.73 are their margins of −1 and +1.
        """
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(self.scaled(features), self.svm_weight, self.svm_bias).sigmoid()


class SVMHead(SVMs):
    """See the figure above.

    Args:
        channels: C.
        num_classes: K.
        rules: how the buffers are solved for.
        class_weights: weight of each class in the softmax's loss; the background's is 1.

    Attributes:
        box_coder: what the regressions' four numbers mean.
        box_weight, box_bias: (K, C, 4), (K, 4).
    """

    class_weights: Tensor
    box_weight: Tensor
    box_bias: Tensor

    def __init__(
        self,
        channels: int,
        num_classes: int,
        rules: SVMRules,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(channels, num_classes, rules)
        self.box_coder = BoxCoder()
        self.logits = nn.Linear(channels, num_classes + 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.zeros_(self.logits.bias)
        weights = torch.cat([weights_of_classes(class_weights, num_classes), torch.ones(1)])
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("box_weight", torch.zeros(num_classes, channels, 4))
        self.register_buffer("box_bias", torch.zeros(num_classes, 4))

    def loss(self, features: Tensor, wanted: Tensor, valid: Tensor) -> Tensor:
        """The softmax's loss, averaged over the valid RoIs.

        Args:
            features: (R, C).
            wanted: (R,) int64, the class of each, K for background.
            valid: (R,) bool, which count.
        """
        logits = self.logits(features).float()
        each = F.cross_entropy(logits, wanted, self.class_weights, reduction="none")
        return (each * valid).sum() / valid.sum().clamp(min=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C) → scores (R, K) in 0 … 1 (`SVMs.scores`), deltas (R, K, 4)."""
        with torch.autocast(features.device.type, enabled=False):
            x = self.scaled(features)
            deltas = (x @ self.box_weight.permute(1, 0, 2).flatten(1)).unflatten(1, (-1, 4))
        if self.solved:
            return self.scores(features), deltas + self.box_bias
        return self.logits(features).float().softmax(-1)[:, :-1], deltas + self.box_bias


class SVMBoxes(SoftmaxBoxes):
    """`SoftmaxBoxes` whose scores are those of SVMs, once they are solved for."""

    def __init__(
        self,
        channels: int,
        num_classes: int,
        class_agnostic: bool = False,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(channels, num_classes, class_agnostic, class_weights)
        self.svms = SVMs(channels, num_classes)

    def scores(self, features: Tensor, logits: Tensor) -> Tensor:
        if self.svms.solved:
            return self.svms.scores(features)
        return super().scores(features, logits)
