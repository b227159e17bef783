"""A tree of classes: one softmax over the siblings below each class, and walks along it.

    (root) ─┬─ angular ─┬─ square      siblings: {angular, round}, {square, star}, {circle}
            │           └─ star
            └─ round ──── circle       P(star) = P(angular) · P(star | angular)

Source: YOLO9000 (arXiv:1612.08242), section 4.

Shapes: K classes, G groups of siblings, D the depth of the tree, R rows of logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Tree(NamedTuple):
    """
    Attributes:
        group: (K,) int64, the group of siblings that each class is in; 0 is that at the top.
        below: (K,) int64, the group of each class's children, −1 for a leaf.
        path: (K, D) int64, each class, its parent, and so on to the top; K behind its end.
        groups: G.
    """

    group: Tensor
    below: Tensor
    path: Tensor
    groups: int


def tree_of(parents: Sequence[int]) -> Tree:
    """
    Args:
        parents: of each class, −1 at the top.
    Raises:
        ValueError: a parent that does not exist, or a class among its own parents.
    """
    count = len(parents)
    if any(not -1 <= parent < count for parent in parents):
        raise ValueError("a class has a parent that is none of the classes")
    number = {-1: 0}  # of the group of each one's children
    group = [number.setdefault(parent, len(number)) for parent in parents]
    paths = []
    for label in range(count):
        path, node = [], label
        while node >= 0:
            path.append(node)
            node = parents[node]
            if len(path) > count:
                raise ValueError("a class is among its own parents")
        paths.append(path)
    depth = max(map(len, paths), default=0)
    padded = [path + [count] * (depth - len(path)) for path in paths]
    below = [number.get(label, -1) for label in range(count)]
    parts = [torch.tensor(values, dtype=torch.int64) for values in (group, below, padded)]
    return Tree(parts[0], parts[1], parts[2], len(number))


def conditional(logits: Tensor, tree: Tree) -> Tensor:
    """(R, K) logits → (R, K) log P(class | parent): a softmax over each group of siblings."""
    group = tree.group.expand(len(logits), -1)
    empty = logits.new_full((len(logits), tree.groups), -math.inf)
    largest = empty.scatter_reduce(1, group, logits.detach(), "amax").gather(1, group)
    shifted = logits - largest
    total = torch.zeros_like(empty).scatter_add(1, group, shifted.exp())
    return shifted - total.gather(1, group).log()


def of_labels(conditionals: Tensor, labels: Tensor, tree: Tree) -> Tensor:
    """(R, K) log P(class | parent), (R,) or (1,) labels → (R,) log P(label): the sum on its path.

    Nothing below a label comes in, so what is known only roughly teaches only that.
    """
    path = tree.path[labels].expand(len(conditionals), -1)
    ended = path == len(tree.group)
    return conditionals.gather(1, path.masked_fill(ended, 0)).masked_fill(ended, 0).sum(1)


def walk(conditionals: Tensor, tree: Tree, threshold: float) -> tuple[Tensor, Tensor]:
    """From the top to the likeliest child, again and again, while it is as likely as `threshold`.

    The first step is always made.

    Returns:
        (R,) int64 classes, inner ones among them, and (R,) their log P.
    """
    rows, count = conditionals.shape
    group = tree.group.expand(rows, -1)
    empty = conditionals.new_full((rows, tree.groups), -math.inf)
    likeliest = empty.scatter_reduce(1, group, conditionals, "amax")
    number = torch.arange(count, device=conditionals.device).expand(rows, -1)
    first = number.masked_fill(conditionals < likeliest.gather(1, group), count)
    best = torch.full_like(empty, count, dtype=torch.int64).scatter_reduce(1, group, first, "amin")
    node, log_p = best[:, 0], likeliest[:, 0]
    for _ in range(tree.path.shape[1] - 1):
        below = tree.below[node]
        step = below.clamp(min=0)[:, None]
        child, deeper = best.gather(1, step)[:, 0], log_p + likeliest.gather(1, step)[:, 0]
        goes = (below >= 0) & (deeper >= math.log(max(threshold, 1e-12)))
        node, log_p = torch.where(goes, child, node), torch.where(goes, deeper, log_p)
    return node, log_p
