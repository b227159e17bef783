"""A softmax over siblings, sums along paths and walks, against plain Python."""

from __future__ import annotations

import math
import random

import pytest
import torch

from detkit.ops.tree import conditional, of_labels, tree_of, walk


def random_tree(draw: random.Random, count: int) -> list[int]:
    """Parents in any order of the labels."""
    order = list(range(count))
    draw.shuffle(order)
    parents = [0] * count
    for i, label in enumerate(order):
        parents[label] = draw.choice([-1, *order[:i]])
    return parents


def slow_conditional(logits: list[float], parents: list[int]) -> list[float]:
    totals: dict[int, float] = {}
    for logit, parent in zip(logits, parents, strict=True):
        totals[parent] = totals.get(parent, 0.0) + math.exp(logit)
    return [math.exp(z) / totals[p] for z, p in zip(logits, parents, strict=True)]


def slow_walk(shares: list[float], parents: list[int], threshold: float) -> tuple[int, float]:
    node, sure = -1, 1.0
    while children := [k for k, parent in enumerate(parents) if parent == node]:
        best = max(children, key=lambda k: shares[k])
        if node >= 0 and sure * shares[best] < threshold:
            break
        node, sure = best, sure * shares[best]
    return node, sure


def test_all_is_as_in_the_loops():
    deep = 0
    for seed in range(200):
        draw = random.Random(seed)
        parents = random_tree(draw, draw.choice([1, 2, 5, 20]))
        tree = tree_of(parents)
        logits = [[draw.gauss(0, 3) for _ in parents] for _ in range(4)]
        threshold = draw.choice([0.0, 0.3, 0.6, 1.0])
        label = draw.randrange(len(parents))
        found = conditional(torch.tensor(logits, dtype=torch.float64), tree)
        on_path = of_labels(found, torch.tensor([label]), tree)
        nodes, log_p = walk(found, tree, threshold)
        for i, row in enumerate(logits):
            shares = slow_conditional(row, parents)
            assert found[i].exp().tolist() == pytest.approx(shares)
            product, node = 1.0, label
            while node >= 0:
                product, node = product * shares[node], parents[node]
            assert on_path[i].exp().item() == pytest.approx(product)
            expected, sure = slow_walk(shares, parents, threshold)
            assert nodes[i] == expected
            assert log_p[i].exp().item() == pytest.approx(sure)
            deep += parents[expected] >= 0
    assert deep > 50


def test_only_what_is_at_a_label_or_above_it_learns():
    #    0 ─┬─ 1 ─── 3, 4        5 beside 0
    #       └─ 2
    tree = tree_of([-1, 0, 0, 1, 1, -1])
    logits = torch.zeros(1, 6, requires_grad=True)
    (-of_labels(conditional(logits, tree), torch.tensor([1]), tree)).sum().backward()
    assert logits.grad[0].tolist() == [-0.5, -0.5, 0.5, 0.0, 0.0, 0.5]


def test_large_logits_stay_finite():
    tree = tree_of([-1, -1, 0])
    logits = torch.tensor([[1e4, -1e4, 5.0]], requires_grad=True)
    loss = of_labels(conditional(logits, tree), torch.tensor([1]), tree)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("parents", [[1, 0], [0], [-1, 7], [-2]])
def test_a_cycle_and_a_parent_that_is_not_there_are_refused(parents):
    with pytest.raises(ValueError, match="parent"):
        tree_of(parents)
