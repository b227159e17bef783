"""The losses of pixels against loops over them; border weights against all distances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from detkit.errors import DetkitError
from detkit.models.heads.border_weights import border_weights
from detkit.models.heads.pixel_loss import PixelLoss
from detkit.structures import IGNORE

WEIGHTS = [0.5, 2.0, 1.0]


def batch(seed: int):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, 3, 5, 4, generator=generator)
    labels = torch.randint(0, 4, (3, 5, 4), generator=generator)
    labels[labels == 3] = IGNORE
    labels[1][labels[1] == 2] = 0  # an image without one of the classes
    labels[2] = IGNORE  # and one without a pixel that counts
    border = torch.rand(3, 5, 4, generator=generator)
    return logits, labels, border


def slow(term: str, logits, labels, border) -> float:
    means = []
    for image, truth, extra in zip(logits, labels, border, strict=True):
        scores = image.softmax(0)
        places = [(y, x) for y in range(5) for x in range(4) if truth[y, x] != IGNORE]
        if term == "dice":
            total, weight = 0.0, 0.0
            for k in range(3):
                true = [float(truth[p] == k) for p in places]
                found = [float(scores[k][p]) for p in places]
                if sum(true):
                    both = sum(t * f for t, f in zip(true, found, strict=True))
                    total += WEIGHTS[k] * (1 - 2 * both / (sum(true) + sum(found)))
                    weight += WEIGHTS[k]
        else:
            total, weight = 0.0, 0.0
            for p in places:
                k = int(truth[p])
                w, s = WEIGHTS[k] + float(extra[p]), float(scores[k][p])
                total += w * -math.log(s) * ((1 - s) ** 2 if term == "focal" else 1)
                weight += w
        means.append(total / weight if weight else 0.0)
    return sum(means) / len(means)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("term", "key"), [("cross_entropy", "pixels"), ("dice", "dice"), ("focal", "focal")]
)
def test_a_loss_is_its_slow_twin(term, key, seed):
    logits, labels, border = batch(seed)
    loss = PixelLoss(term, torch.tensor(WEIGHTS), 2)(logits, labels, border)
    assert list(loss) == [key]
    assert loss[key].item() == pytest.approx(slow(term, logits, labels, border), rel=1e-4)


def test_a_sum_has_each_term_with_its_factor():
    logits, labels, border = batch(0)
    logits.requires_grad_()
    weights = torch.tensor(WEIGHTS)
    loss = PixelLoss("cross_entropy + 0.5*dice+focal", weights, 2)(logits, labels, border)
    assert list(loss) == ["pixels", "dice", "focal"]
    alone = PixelLoss("dice", weights, 2)(logits, labels)["dice"]
    torch.testing.assert_close(loss["dice"], alone / 2)
    sum(loss.values()).backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[labels[:, None].expand_as(logits) == IGNORE].any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dise", "Did you mean dice"),
        ("dice+", "no loss|loss"),
        ("dice+dice", "each loss once"),
        ("x*dice", "with its factor"),
        ("-1*dice", "with its factor"),
    ],
)
def test_other_texts_are_refused(text, words):
    with pytest.raises(DetkitError, match=words):
        PixelLoss(text, torch.ones(2), 2)


def drawn(box) -> np.ndarray:
    mask = np.zeros((40, 50), bool)
    mask[box] = True
    return mask


def test_border_weights_are_those_of_all_distances():
    rng = np.random.default_rng(0)
    labels = np.zeros((40, 50), np.uint8)
    objects = []
    for n in range(7):
        y, x = int(rng.integers(0, 34)), int(rng.integers(0, 44))
        box = (slice(y, y + 4), slice(x, x + 3 + n % 3))
        grown = (slice(max(y - 1, 0), y + 5), slice(max(x - 1, 0), x + 4 + n % 3))
        if not labels[grown].any():
            labels[box] = 1 + n % 2
            objects.append(np.argwhere(drawn(box)))
    assert len(objects) > 3
    labels[0, :5][labels[0, :5] == 0] = IGNORE
    found = border_weights(labels, 0, 10.0, 3.0)
    for y in range(40):
        for x in range(50):
            wanted = 0.0
            if labels[y, x] == 0:
                near = sorted(np.hypot(*(o - [y, x]).T).min() for o in objects)
                wanted = 10 * math.exp(-((near[0] + near[1]) ** 2) / (2 * 3.0**2))
            assert found[y, x] == pytest.approx(wanted, abs=1e-4)


def test_one_object_alone_has_no_border():
    labels = np.zeros((9, 9), np.uint8)
    assert not border_weights(labels, 0, 10.0, 5.0).any()
    labels[2:5, 2:5] = 1
    assert not border_weights(labels, 0, 10.0, 5.0).any()
