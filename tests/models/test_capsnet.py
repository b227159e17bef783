"""CapsNet where re-makes go wrong: squash, routing, the margin, and which capsule is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from detkit.config import compose
from detkit.data.transforms import build as build_transform
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.capsnet import (
    SHIFTS,
    PrimaryCaps,
    cells,
    margin_loss,
    masked,
    perturbed,
    route,
    squash,
)
from detkit.structures import Classes, Targets

SMALL = {"name": "capsnet", "side": 20, "filters": 8, "types": 2, "dimensions": 6}


def capsnet(classes: int = 4, channels: int = 1, **settings):
    torch.manual_seed(0)
    backbone = {"name": "pixels", "in_channels": channels}
    return build({**SMALL, **settings}, backbone, Classes.numbered(classes))


def targets_of(labels: list[int]) -> list[Targets]:
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    return [Targets(*none, image_label=torch.tensor(label)) for label in labels]


def test_parameters_are_as_many_as_the_paper_says():
    with torch.device("meta"):
        net = build({"name": "capsnet"}, {"name": "pixels", "in_channels": 1}, Classes.numbered(10))
    count = sum(p.numel() for p in net.parameters())
    without = count - sum(p.numel() for p in net.decoder.parameters())
    assert (round(count / 1e6, 1), round(without / 1e6, 1)) == (8.2, 6.8)  # section 5
    assert net.digit.weight.shape == (32 * 6 * 6, 8, 10 * 16)


def test_squash_keeps_the_direction_and_bounds_the_length():
    vectors = torch.tensor([[3.0, 4.0], [0.3, -0.4], [0.0, 0.0]], requires_grad=True)
    short = squash(vectors)
    lengths = [n * n / (1 + n * n) for n in (5.0, 0.5, 0.0)]  # equation 1
    torch.testing.assert_close(short.norm(dim=1), torch.tensor(lengths))
    torch.testing.assert_close(short[:2] / short[:2].norm(dim=1, keepdim=True) * 5,
                               torch.tensor([[3.0, 4.0], [3.0, -4.0]]))  # fmt: skip
    short.sum().backward()
    assert vectors.grad.isfinite().all()


def test_a_primary_capsule_is_squashed_over_its_own_dimensions():
    torch.manual_seed(0)
    layer, features = PrimaryCaps(3, types=2, primary=4), torch.randn(1, 3, 13, 15)
    maps, found = layer.conv(features)[0], layer(features)[0]  # (8, 3, 4), (2 · 12, 4)
    assert found.shape == (24, 4)
    for kind in range(2):
        for row in range(3):
            for column in range(4):
                vector = maps[kind * 4 : kind * 4 + 4, row, column]
                expected = squash(vector)
                torch.testing.assert_close(found[kind * 12 + row * 4 + column], expected)


def routed_by_loops(votes: list, iterations: int) -> list:
    """Procedure 1 for one image in plain numbers: votes[k][n][d] → capsules[k][d]."""
    classes, capsules, size = len(votes), len(votes[0]), len(votes[0][0])
    b = [[0.0] * capsules for _ in range(classes)]
    v: list = []
    for _ in range(iterations):
        v = []
        c = [[0.0] * capsules for _ in range(classes)]
        for n in range(capsules):
            total = sum(math.exp(b[k][n]) for k in range(classes))
            for k in range(classes):
                c[k][n] = math.exp(b[k][n]) / total
        for k in range(classes):
            s = [sum(c[k][n] * votes[k][n][d] for n in range(capsules)) for d in range(size)]
            square = sum(x * x for x in s)
            v.append([square / (1 + square) * x / math.sqrt(square) for x in s])
        for k in range(classes):
            for n in range(capsules):
                b[k][n] += sum(votes[k][n][d] * v[k][d] for d in range(size))
    return v


def test_routing_equals_the_loop():
    generator = torch.Generator().manual_seed(0)
    for iterations in (1, 2, 3, 5):
        for classes, capsules, size in ((3, 7, 4), (2, 1, 3), (5, 11, 2)):
            votes = torch.randn(2, classes, capsules, size, generator=generator).double()
            found = route(votes, iterations)
            expected = [routed_by_loops(one.tolist(), iterations) for one in votes]
            torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


def test_the_margin_is_squared():
    generator = torch.Generator().manual_seed(0)
    lengths, labels = torch.rand(50, 4, generator=generator), torch.arange(50) % 4
    for row, label, loss in zip(
        lengths.tolist(), labels.tolist(), margin_loss(lengths, labels).tolist(), strict=True
    ):
        expected = 0.0
        for k, length in enumerate(row):
            missing, beyond = max(0, 0.9 - length), max(0, length - 0.1)
            expected += missing**2 if k == label else 0.5 * beyond**2  # equation 4
        assert loss == pytest.approx(expected, rel=1e-5)


def test_training_draws_the_true_capsule_and_inference_the_longest():
    net = capsnet().eval()
    images = torch.randint(0, 256, (3, 1, 20, 20), dtype=torch.uint8)
    found = net(images)
    capsules = torch.stack([p.capsules for p in found])
    wrong = [(p.label + 1) % 4 for p in found]
    with torch.no_grad():
        losses = net(images, targets_of([*wrong[:2], -1]))
        drawn = net.decoder(masked(capsules, torch.tensor(wrong)))
        squares = (drawn - images / 255).square().sum((1, 2, 3))  # a sum over pixels, not a mean
        torch.testing.assert_close(losses["reconstruction"], 0.0005 * squares[:2].sum() / 3)
        margins = margin_loss(capsules.norm(dim=2), torch.tensor(wrong))
        torch.testing.assert_close(losses["margin"], margins[:2].sum() / 3)
        longest = net.decoder(masked(capsules, torch.tensor([p.label for p in found])))
    torch.testing.assert_close(torch.stack([p.reconstruction for p in found]), longest)
    assert [p.label for p in found] == capsules.norm(dim=2).argmax(1).tolist()


def test_figure_4_changes_one_dimension_at_a_time():
    net = capsnet().eval()
    (found,) = net(torch.rand(1, 1, 20, 20))
    pictures = perturbed(net.decoder, found.capsules, found.label)
    assert pictures.shape == (6, 11, 1, 20, 20)
    steps = [-0.25, -0.2, -0.15, -0.1, -0.05, 0, 0.05, 0.1, 0.15, 0.2, 0.25]
    torch.testing.assert_close(SHIFTS, torch.tensor(steps))
    for dimension in range(6):
        torch.testing.assert_close(pictures[dimension, 5], found.reconstruction)
    changed = torch.zeros(1, 4, 6)
    changed[0, found.label] = found.capsules[found.label]
    changed[0, found.label, 2] += 0.15
    with torch.no_grad():
        torch.testing.assert_close(pictures[2, 8], net.decoder(changed)[0])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_its_picture_shows_all_of_that(channels):
    net = capsnet(channels=channels).eval()
    image = np.zeros((20, 20, channels), np.uint8)
    (found,) = net(torch.from_numpy(image).permute(2, 0, 1)[None])
    picture = found.inside(image)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[0] > 6 * 56
    assert picture.shape[1] > 11 * 56
    moved = found.relabelled(torch.tensor([3, 2, 1, 0]), list("abcd"))
    assert torch.equal(moved.scores, found.scores.flip(0))
    assert moved.inside(image) is None


def test_pictures_and_backbones_that_do_not_fit_are_refused():
    with pytest.raises(DetkitError, match=r"Images of 24×20 pixels.*\n.*transforms.side=20"):
        capsnet()(torch.rand(1, 1, 20, 24))
    with pytest.raises(DetkitError, match=r"model.side is 16"):
        capsnet(side=16)
    assert (cells(17), cells(28), cells(32)) == (1, 6, 8)
    for name in ("lenet5", "resnet18"):  # with a level of full size, and without
        with pytest.raises(DetkitError, match="set backbone=pixels"):
            build(SMALL, {"name": name}, Classes.numbered(4))


def test_its_default_pictures_fit():
    settings = compose("train", ["model=capsnet", "dataset=shapes"])
    transform = build_transform(settings.transforms, train=False)
    assert transform.square == settings.model["side"] == 28
