"""R-CNN beside the bare network on its crops, and beside SPPnet: what the papers' order of times
rests on (SPPnet, table 10: 24 to 102 times).

One backbone, one picture at a time, each side in turn. The bare network gets the warped crops
ready-made; R-CNN's own pass warps them, scores them by SVMs, moves and suppresses boxes. SPPnet
sees the whole picture at 688 pixels, its paper's best single scale.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from detkit.backbones.backbone import normalize
from detkit.inference.run import prepare
from detkit.models.build import build
from detkit.models.heads.box_head import image_numbers
from detkit.models.rcnn import RCNN
from detkit.models.region_svm import RegionSVM
from detkit.models.sppnet import SPPnet
from detkit.ops.device import pick_device
from detkit.ops.precision import autocast, resolve
from detkit.ops.warp import warp
from detkit.structures import Classes

CLASSES = 20
SIZE = (375, 500)  # pixels of a picture, as VOC's are
SHORT = 688  # pixels of SPPnet's picture


def regions(settings: Any) -> dict[str, dict[str, float]]:
    """Times the three on pictures of noise with boxes of all sizes.

    Args:
        settings: see `conf/benchmark/benchmark.yaml`; `pictures`, `proposals`, `warp`.
    Returns:
        Of the bare network and of SPPnet what `beside` says.
    """
    device, precision = pick_device(settings.device), settings.precisions[0]
    torch.manual_seed(0)
    place = settings.backbone, device, precision
    rcnn = _ready({"name": "rcnn", "warp": settings.warp}, *place)
    sppnet = _ready({"name": "sppnet"}, *place)
    assert isinstance(rcnn, RCNN)
    assert isinstance(sppnet, SPPnet)
    dtype, rounds = resolve(precision, device), []
    with torch.inference_mode(), autocast(device, dtype):
        for number in range(settings.pictures + 1):  # the first one warms up
            rois = [random_boxes(settings.proposals if number else 100, device)]
            picture = torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8, device=device)
            factor = SHORT / min(SIZE)
            large = picture.float().div(255).repeat_interleave(2, 2).repeat_interleave(2, 3)
            large = large[..., : round(SIZE[0] * factor), : round(SIZE[1] * factor)]
            moved = [boxes * factor for boxes in rois]
            rounds.append(
                (
                    seconds(partial(rcnn, picture, proposals=rois), device),
                    bare(rcnn, picture, rois, device),
                    seconds(partial(sppnet, large, proposals=moved), device),
                )
            )
    ours, alone, whole = (list(side) for side in zip(*rounds[1:], strict=True))
    result = {"bare network": beside(ours, alone), "SPPnet": beside(ours, whole)}
    for name, figures in result.items():
        print(
            f"R-CNN {figures['ours']:.3f} s a picture of {settings.proposals:,} boxes at"
            f" {settings.warp} pixels, {name} {figures['peer']:.3f} s: {figures['ratio']:.3f} of"
            f" its time ({figures['low']:.3f} – {figures['high']:.3f})",
            flush=True,
        )
    return result


def _ready(model: dict[str, Any], backbone: str, device: torch.device, precision: str) -> RegionSVM:
    """With SVMs of random weights, by which a part of the boxes are detections."""
    made = build(model, {"name": backbone}, Classes.numbered(CLASSES))
    assert isinstance(made, RegionSVM)
    made.head.solved.fill_(True)
    made.head.svm_weight.normal_(std=0.01)
    made.head.svm_bias.fill_(-3.0)
    ready = prepare(made, device, precision)
    assert isinstance(ready, RegionSVM)
    return ready


def bare(rcnn: RCNN, picture: Tensor, rois: Sequence[Tensor], device: torch.device) -> float:
    """Seconds of backbone and tail alone on crops that lie ready, as many at once as R-CNN has."""
    sizes = torch.tensor([picture.shape[2:]], device=device)
    images = normalize(picture, rcnn.mean_std, sizes)
    total = 0.0
    at_once = rcnn.at_once()
    for some in rois[0].split(at_once):
        crops = warp(images, some, image_numbers([some]), rcnn.side, rcnn.context)

        def forward(crops: Tensor = crops) -> None:
            (last,) = rcnn.backbone(crops).values()
            rcnn.tail(last)

        total += seconds(forward, device)
    return total


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def random_boxes(number: int, device: torch.device) -> Tensor:
    """(P, 4) in a picture, sides from a twentieth of its own to all of it."""
    limit = torch.tensor([SIZE[1], SIZE[0]], device=device)
    side = (0.05 + 0.95 * torch.rand(number, 2, device=device)) * limit
    corner = torch.rand(number, 2, device=device) * (limit - side)
    return torch.cat([corner, corner + side], 1)


def beside(ours: Sequence[float], peer: Sequence[float]) -> dict[str, float]:
    """Seconds a picture; the ratio of all pictures together, the least and the greatest of one."""
    each = [a / b for a, b in zip(ours, peer, strict=True)]
    return {
        "ours": sum(ours) / len(ours),
        "peer": sum(peer) / len(peer),
        "ratio": sum(ours) / sum(peer),
        "low": min(each),
        "high": max(each),
    }
