"""The loader beside torchvision's reference loader: speed on one core, memory of a worker.

The reference is that of torchvision's detection recipe: `CocoDetection` in the wrapper for
`transforms.v2`, a random mirror image, then float tensors. There the model resizes, normalises and
batches; here the loader resizes and batches and the model normalises. So both are timed from the
file to the normalised batch that the network gets, everything included, in one process.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from detkit.backbones.backbone import normalize
from detkit.backbones.build import build as build_backbone
from detkit.data import memory
from detkit.data.loading import Dataset, collate
from detkit.data.open import open_dataset, split_name
from detkit.data.records import Records
from detkit.data.transforms import build as build_transform
from detkit.errors import DetkitError
from detkit.models.model import Model
from detkit.structures import Classes

IMAGES = 100  # a round
OBJECTS = 8  # in each image of the memory's measurement
Load = Callable[[int, Sequence[int]], Tensor]  # epoch, indices → (B, 3, H, W), normalised


def loader(settings: Any) -> dict[str, float]:
    """Times both loaders on the training split of `settings.root`, in turn.

    Args:
        settings: see `conf/benchmark/benchmark.yaml`.
    Returns:
        CPU seconds an image `ours` and `peer`; `ratio`, `low`, `high` of the rounds;
        `ours_images`, `peer_images`: images a second of one core.
    """
    if settings.root is None:
        raise DetkitError("There are no pictures to load.", remedy="set root to a data set.")
    dataset = {"name": "auto", "root": settings.root, "bad_boxes": "drop"}
    records = open_dataset(dataset, split_name(dataset, "train"))
    records = records.subset(np.flatnonzero(np.diff(records.offsets)))  # as the recipe does
    with tempfile.TemporaryDirectory() as folder, one_thread():
        peer = coco_detection(records, Path(folder) / "instances.json")
        sides = our_side(records, settings), their_side(peer, settings)
        rounds = [
            _round(sides, len(records), settings.batch_size, epoch)
            for epoch in range(settings.repeats + 1)
        ][1:]  # the first one warms up
    ratios = [ours / theirs for ours, theirs in rounds]
    ours, theirs = (statistics.median(side) for side in zip(*rounds, strict=True))
    result = {
        "ours": ours,
        "peer": theirs,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "ours_images": 1 / ours,
        "peer_images": 1 / theirs,
    }
    print(
        f"{'loader, an image':20}{ours:9.4f}{theirs:9.4f}{result['ratio']:8.2f}"
        f"{result['low']:9.2f} –{result['high']:5.2f}"
        f"   {1 / ours:.0f}/{1 / theirs:.0f} images a second of a core",
        flush=True,
    )
    return result


def _round(
    sides: tuple[Load, Load], images: int, batch_size: int, epoch: int
) -> tuple[float, float]:
    """CPU seconds an image of both, on the same images, batch by batch in turn."""
    order = np.random.default_rng(epoch).permutation(images)[:IMAGES].tolist()
    spent = [0.0, 0.0]
    for start in range(0, len(order), batch_size):
        for side, load in enumerate(sides):
            before = time.process_time()
            load(epoch, order[start : start + batch_size])
            spent[side] += time.process_time() - before
    return spent[0] / len(order), spent[1] / len(order)


def our_side(records: Records, settings: Any, flip: float = 0.5) -> Load:
    """Dataset, collate, and the model's normalisation."""
    short, long = sorted((settings.height, settings.width))
    preset = {"name": "detection", "short_side": short, "long_side": long, "flip": flip}
    dataset = Dataset(records, build_transform(preset, train=True))
    backbone, _ = build_backbone("resnet18", width=0.125)
    model = Model(backbone, Classes.numbered(1))

    def load(epoch: int, indices: Sequence[int]) -> Tensor:
        batch = collate([dataset[(epoch, index)] for index in indices])
        return normalize(batch.images, model.mean_std, batch.sizes)

    return load


def their_side(dataset: CocoDetection, settings: Any, flip: float = 0.5) -> Load:
    """The recipe's preset, then the front of torchvision's detection models."""
    short, long = sorted((settings.height, settings.width))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    front = GeneralizedRCNNTransform(short, long, mean, std)
    wrapped = reference(dataset, flip)

    def load(epoch: int, indices: Sequence[int]) -> Tensor:
        images, targets = zip(*(wrapped[index] for index in indices), strict=True)
        batch, _ = front(list(images), list(targets))
        return batch.tensors

    return load


def reference(dataset: CocoDetection, flip: float = 0.5) -> Any:
    """torchvision's detection recipe around a data set: mirror images, float tensors, boxes."""
    dataset.transforms = v2.Compose(
        [
            v2.RandomHorizontalFlip(flip),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.ConvertBoundingBoxFormat(tv_tensors.BoundingBoxFormat.XYXY),
            v2.SanitizeBoundingBoxes(),
            v2.ToPureTensor(),
        ]
    )
    return wrap_dataset_for_transforms_v2(dataset, target_keys=("boxes", "labels"))


def coco_detection(
    records: Records, file: Path, kind: type[CocoDetection] = CocoDetection
) -> CocoDetection:
    """The same images and boxes for torchvision, by way of an annotation file."""
    counts = np.diff(records.offsets)
    boxes = np.concatenate([records.boxes[:, :2], records.boxes[:, 2:] - records.boxes[:, :2]], 1)
    rows = zip(
        np.repeat(np.arange(len(records)), counts).tolist(),
        boxes.tolist(),
        records.labels.tolist(),
        strict=True,
    )
    sizes = records.sizes.tolist()
    content = {
        "images": [
            {"id": i, "file_name": str(records.path(i).resolve()), "height": h, "width": w}
            for i, (h, w) in enumerate(sizes)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": label + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (image, box, label) in enumerate(rows, 1)
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(records.names, 1)],
    }
    file.write_text(json.dumps(content))
    del content
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        return kind("", str(file))


class BlankCoco(CocoDetection):
    """Without files: what costs memory are the annotations."""

    def _load_image(self, id: int) -> Image.Image:
        return Image.new("RGB", (32, 32))


def worker_memory(settings: Any) -> dict[str, float]:
    """MiB that a loading worker has for itself at the end of an epoch of `settings.boxes` boxes.

    Args:
        settings: see `conf/benchmark/benchmark.yaml`.
    Returns:
        `ours` and `peer` at the end of the epoch, `ours_growth` and `peer_growth` since its
        first tenth, `ratio` of the ends.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise DetkitError(
            "A worker's own memory is told by Linux alone.", remedy="leave the row memory out."
        )
    images, workers = settings.boxes // OBJECTS, settings.workers
    ours = memory.loading_memory(images, OBJECTS, workers)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "instances.json"
        peer = reference(coco_detection(memory.synthetic(images, OBJECTS), file, BlankCoco))
    batches = DataLoader(
        peer,
        64,
        shuffle=True,
        num_workers=workers,
        collate_fn=len,  # what they send does not count
        multiprocessing_context="fork",
    )
    theirs = memory.over_an_epoch(batches, len(batches))
    result = {
        "ours": ours[-1],
        "peer": theirs[-1],
        "ratio": ours[-1] / theirs[-1],
        "ours_growth": ours[-1] - ours[0],
        "peer_growth": theirs[-1] - theirs[0],
    }
    print(
        f"{'memory of a worker':20}{ours[-1]:5.0f} MiB{theirs[-1]:5.0f} MiB{result['ratio']:7.2f}"
        f"   grown by {result['ours_growth']:.0f}/{result['peer_growth']:.0f} MiB over an epoch"
        f" of {settings.boxes:,} boxes, {workers} workers",
        flush=True,
    )
    return result


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One core for either side, as in a worker."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


LOADING: dict[str, Callable[[Any], dict[str, float]]] = {"loader": loader, "memory": worker_memory}
