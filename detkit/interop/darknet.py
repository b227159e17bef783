"""Darknet's files: weights in and out, its class trees, names and maps, and what its outputs mean.

The description (.cfg) is read by `backbones/darknet_sections.py`, and its network built by
`backbones/darknet_cfg.py`; the bytes of a weights file are in `backbones/darknet_weights.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detkit import foreign
from detkit.backbones import darknet_weights
from detkit.backbones.backbone import Trunk
from detkit.backbones.darknet_outputs import Output, check_plain
from detkit.backbones.darknet_weights import Header
from detkit.errors import DetkitError
from detkit.ops import grid

ROOT = -1  # parent of the classes at the top


class Tree(NamedTuple):
    """A hierarchy of classes (YOLO9000, arXiv:1612.08242, section 4).

    Attributes:
        names: N, as the file says them: 9k.tree has WordNet's numbers.
        parents: (N,) int64 index of each one's parent, −1 at the top.
    """

    names: tuple[str, ...]
    parents: np.ndarray


class Decoded(NamedTuple):
    """What the predictors of one output say; P = H·W·A, row by row, column by column, by anchor.

    Attributes:
        boxes: (B, P, 4) float32 xyxy, pixels of the network's image.
        objectness: (B, P) float32, 0 … 1.
        classes: (B, P, K) float32, 0 … 1, of an object; not multiplied by the objectness.
    """

    boxes: Tensor
    objectness: Tensor
    classes: Tensor


def load(network: Trunk, path: str | Path) -> Header:
    """Put a Darknet file's weights into a network that is built whole, and return its header.

    Norms stay as they are, trainable or frozen. `backbone.weights=FILE.weights` is the setting.

    Raises:
        DetkitError: a file that is not of this network.
    """
    _check(network)
    header, tensors = darknet_weights.read(
        path, network.darknet_layout, more=not network.darknet_exact
    )
    network.load_state_dict(tensors, strict=False)
    return header


def save(network: Trunk, path: str | Path, header: Header | None = None) -> None:
    """Write a network as a Darknet weights file.

    Args:
        header: version and counter; those of Darknet's present format and no image if None.
    Raises:
        DetkitError: a network that lacks layers or is none of Darknet's, or an unwritable file.
    """
    _check(network)
    state = network.state_dict()
    darknet_weights.write(path, state, network.darknet_layout, header or Header())


def decode(logits: Tensor, output: Output) -> Decoded:
    """Boxes and scores of one output.

    Args:
        logits: (B, A·(5 + K), H, W), the map of `output.level`.
    Raises:
        DetkitError: the numbers mean something else: classes that form a tree, boxes coded anew.
    """
    check_plain(output)
    batch, _, height, width = logits.shape
    rows = logits.float().permute(0, 2, 3, 1).reshape(batch, -1, 5 + output.classes)
    anchors = torch.tensor([output.anchors], device=logits.device)
    places = grid.grid([(height, width)], [output.stride], anchors, [output.scale_x_y])
    boxes = grid.decode(rows[..., :4], places)
    classes = rows[..., 5:].softmax(-1) if output.softmax else rows[..., 5:].sigmoid()
    return Decoded(boxes, rows[..., 4].sigmoid(), classes)


def read_tree(path: str | Path) -> Tree:
    """A .tree file: on each line a class and the line number, from 0, of its parent (−1: none).

    Raises:
        DetkitError: a line of another form, a parent that is not there, or a cycle.
    """
    names: list[str] = []
    parents: list[int] = []
    for number, line in enumerate(_lines(path, ".tree")):
        name, _, place = line.rpartition(" ")
        names.append(name.strip())
        parents.append(_integer(place, path, number))
        if not names[-1]:
            raise _odd_line(path, number, line, "a class and the number of its parent")
    for number, parent in enumerate(parents):
        if not ROOT <= parent < len(parents):
            raise DetkitError(
                f"The parent of {names[number]} is line {parent} of {len(parents)} (from 0).",
                file=path,
                record=f"line {number + 1}",
                remedy="correct the number; −1 is a class without a parent.",
            )
    _check_cycles(names, parents, path)
    return Tree(tuple(names), np.array(parents, np.int64))


def read_names(path: str | Path) -> tuple[str, ...]:
    """A .names file: a class on each line."""
    return tuple(_lines(path, ".names"))


def read_map(path: str | Path, count: int) -> np.ndarray:
    """A .map file: for each class of a data set its place among `count` classes of a tree.

    Returns:
        (M,) int64.
    Raises:
        DetkitError: a line that is no number from 0 to count − 1.
    """
    places = [_integer(line, path, number) for number, line in enumerate(_lines(path, ".map"))]
    for number, place in enumerate(places):
        if not 0 <= place < count:
            raise _odd_line(path, number, str(place), f"a number from 0 to {count - 1}")
    return np.array(places, np.int64)


def _check(network: Trunk) -> None:
    if not network.darknet_layout:
        raise DetkitError(
            f"{type(network).__name__} is none of Darknet's networks.",
            remedy="build darknet_cfg, darknet19, darknet53 or a darknet_tiny.",
        )


def _lines(path: str | Path, kind: str) -> list[str]:
    """The lines of a text file without the empty ones at its end.

    Args:
        kind: what Darknet's files of this kind end in.
    """
    try:
        text = foreign.read_text(path)
    except OSError as error:
        raise DetkitError(
            f"It cannot be read ({error.strerror}).",
            file=path,
            remedy=f"name one of Darknet's {kind} files.",
        ) from error
    lines = [line.strip() for line in text.rstrip().splitlines()]
    for number, line in enumerate(lines):
        if not line:
            raise _odd_line(path, number, line, "one entry a line")
    return lines


def _integer(text: str, path: str | Path, number: int) -> int:
    try:
        return int(text)
    except ValueError:
        raise _odd_line(path, number, text, "a whole number") from None


def _odd_line(path: str | Path, number: int, line: str, wanted: str) -> DetkitError:
    return DetkitError(
        f"{line!r} stands where {wanted} is expected.",
        file=path,
        record=f"line {number + 1}",
        remedy="correct the line.",
    )


def _check_cycles(names: list[str], parents: list[int], path: str | Path) -> None:
    """Every class leads to the top: walk from each, along what no walk has seen."""
    done = [False] * len(parents)
    for start in range(len(parents)):
        walk, node = set(), start
        while node != ROOT and not done[node] and node not in walk:
            walk.add(node)
            node = parents[node]
        if node in walk:
            raise DetkitError(
                f"{names[node]} is among its own parents.",
                file=path,
                record=f"line {node + 1}",
                remedy="correct the numbers of the parents on that way.",
            )
        for index in walk:
            done[index] = True
