"""What is solved for instead of learnt: SVMs and box regressions, image by image.

No features are kept on disk: a pass over the images makes them anew, and what stays in memory is
the objects', the hard negatives', and sums. Each of the three has a bound of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from detkit.backbones.backbone import normalize
from detkit.models.heads.kept_rows import ObjectRows
from detkit.models.heads.mining import Miner
from detkit.models.heads.svm_head import NORM, SVMHead, SVMs
from detkit.models.model import Model
from detkit.ops.boxes import overlap
from detkit.ops.ridge import Ridge
from detkit.structures import Batch, Targets

# Bytes that are kept: with what a process has and needs at once beside them less than 4 GiB.
MEMORY = 6 * 2**28  # of features, of the objects and the hard negatives
OBJECTS = 3  # a part of it is the objects' at most: one third
SUMS = 3 * 2**29  # of the regressions' sums
NORMED = 16  # proposals of an image that the features' norm is measured on


class RegionModel(Protocol):
    """A model whose regions are scored by SVMs."""

    mean_std: Tensor

    @property
    def svms(self) -> SVMs: ...

    def learnt_features(self, images: Tensor, rois: list[Tensor]) -> Tensor:
        """(R, C) of the RoIs of each image, one after the other; images are normalised."""


@torch.inference_mode()
def fit_svms(
    model: Model, batches: Iterable[Batch], folder: Path, generator: torch.Generator
) -> None:
    """The SVM of each class: its objects against proposals that hardly overlap one.

    A class without an object gets an SVM that finds nothing.
    """
    network = cast(RegionModel, model)
    svms = network.svms
    miners = _miners(network, batches, generator)
    rules = svms.rules
    for image, boxes, targets in _each(network, batches):
        negative = negatives_of(boxes, targets, svms.num_classes, rules.neg_iou)
        some = distinct(boxes, negative.any(1), rules.distinct_iou)
        if len(some):
            features = svms.scaled(network.learnt_features(image, [boxes[some]]))
            for label, miner in miners.items():
                miner.see(features[negative[some, label]])
    svms.svm_weight.zero_()
    svms.svm_bias.fill_(-1e4)  # a score of 0
    for label, miner in miners.items():
        miner.fit()
        assert miner.weight is not None
        svms.svm_weight[label] = miner.weight.to(svms.svm_weight)
        svms.svm_bias[label] = miner.bias
    svms.solved.fill_(True)
    if full := [model.class_list.names[label] for label, m in miners.items() if m.left_out]:
        room = miners[next(iter(miners))].most
        print(
            f"note: {MEMORY / 2**30:.2f} GiB have room for {room:,} negatives a class: the hardest"
            f" were kept of {', '.join(full)}",
            flush=True,
        )


def _miners(
    network: RegionModel, batches: Iterable[Batch], generator: torch.Generator
) -> dict[int, Miner]:
    """The miner of each class that has objects, with their scaled features; sets the scale."""
    svms = network.svms
    channels, classes = svms.svm_weight.shape[1], svms.num_classes
    room = MEMORY // (4 * channels)
    seed = generator.initial_seed()
    objects = ObjectRows(max(2 * classes, room // OBJECTS), channels, classes, seed)
    norm, count = 0.0, 0
    for image, boxes, targets in _each(network, batches):
        some = torch.randperm(len(boxes), generator=generator)[:NORMED].to(boxes.device)
        if len(some):
            norms = network.learnt_features(image, [boxes[some]]).float().norm(dim=1)
            norm, count = norm + norms.sum().item(), count + len(norms)
        real = alone(targets)
        if len(real):
            objects.add(network.learnt_features(image, [real.boxes]).float(), real.labels)
    svms.scale.fill_(NORM * count / norm if norm > 0 else 1.0)
    counts = {label: number for label in range(classes) if (number := objects.number(label))}
    most = max(2, (room - sum(counts.values())) // max(1, len(counts)))
    rules, scale = svms.rules, np.float32(svms.scale.item())
    miners = {}
    for label in counts:
        rows = objects.of(label) * scale
        miners[label] = Miner(rows, rules.penalty, rules.positive_weight, most)
    return miners


def negatives_of(boxes: Tensor, targets: Targets, num_classes: int, neg_iou: float) -> Tensor:
    """(P, K) bool: which boxes overlap each object of a class by less; of a crowd any part."""
    iou = overlap(boxes, targets.boxes, targets.crowd)
    most = iou.new_zeros(len(boxes), num_classes)
    most.scatter_reduce_(1, targets.labels.expand(len(boxes), -1), iou, "amax")
    return most < neg_iou


def distinct(boxes: Tensor, candidates: Tensor, iou: float | None) -> Tensor:
    """(S,) int64: the candidates, without those that an earlier one overlaps by more than `iou`."""
    index = candidates.nonzero()[:, 0]
    if iou is None:
        return index
    order = torch.arange(len(index), 0, -1, device=boxes.device, dtype=boxes.dtype)
    return index[nms(boxes[index], order, iou).sort().values]


def alone(targets: Targets) -> Targets:
    """The objects that are no crowds and have an extent."""
    real = (targets.boxes[:, 2:] > targets.boxes[:, :2]).all(1)
    return targets.select(real if targets.crowd is None else real & ~targets.crowd)


@torch.inference_mode()
def fit_boxes(
    model: Model, batches: Iterable[Batch], folder: Path, generator: torch.Generator
) -> None:
    """The ridge regression of each class: from proposals near its objects to their boxes.

    Where the sums of all classes are more than memory has room for, each pass over the images
    serves some of the classes.
    """
    network = cast(RegionModel, model)
    head = _regressing(network)
    channels, device = head.logits.in_features, head.box_weight.device
    together = max(1, SUMS // (8 * (channels + 1) ** 2))
    for labels in torch.arange(head.num_classes).split(together):
        sums = {label: Ridge(channels, 4, device) for label in labels.tolist()}
        for image, boxes, targets in _each(network, batches):
            near, deltas, of = _near(head, boxes, targets, set(sums))
            if len(of):
                features = head.scaled(network.learnt_features(image, [near]))
                for label in of.unique().tolist():
                    sums[label].add(features[of == label], deltas[of == label])
        for label, ridge in sums.items():
            weight, bias = ridge.solve(head.rules.box_penalty)
            head.box_weight[label], head.box_bias[label] = weight, bias
        sums.clear()  # before those of the next classes are there


def _regressing(network: RegionModel) -> SVMHead:
    assert isinstance(network.svms, SVMHead)
    return network.svms


def _near(
    head: SVMHead, boxes: Tensor, targets: Targets, labels: set[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The proposals near an object of these classes, their deltas and labels."""
    objects = alone(targets)
    wide = (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not len(objects):
        wide = torch.zeros_like(wide)
        best = object_of = boxes.new_zeros(len(boxes))
    else:
        best, object_of = overlap(boxes, objects.boxes).max(1)
        served = torch.isin(objects.labels, objects.labels.new_tensor(sorted(labels)))
        wide &= served[object_of] & (best > head.rules.box_iou)
    which = object_of[wide].long()
    deltas = head.box_coder.encode(objects.boxes[which], boxes[wide])
    return boxes[wide], deltas, objects.labels[which]


def _each(
    network: RegionModel, batches: Iterable[Batch]
) -> Iterator[tuple[Tensor, Tensor, Targets]]:
    """Each image, its proposals and objects, on the model's device; one at a time, for the features
    of 2,000 proposals are 32 MB, and there are three copies on the way.

    Yields:
        (1, C, H, W), as the network wants it; (P, 4); targets.
    """
    for loaded in batches:
        batch = loaded.to(network.mean_std.device)
        images = normalize(batch.images, network.mean_std, batch.sizes)
        yield from zip(images.split(1), batch.proposals or [], batch.targets, strict=True)
