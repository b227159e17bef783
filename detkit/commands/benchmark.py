"""Time beside a peer: the same weights and inputs, in turn in one run, as ratios with their spread.

A single time says little on a shared machine; the ratio of two runs side by side does. Peak memory
is that of a process of its own for each side.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as PeerFasterRCNN
from torchvision.models.detection import MaskRCNN as PeerMaskRCNN
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.ssd import SSD as PeerSSD
from torchvision.models.detection.ssd import _vgg_extractor
from torchvision.models.resnet import resnet50
from torchvision.models.vgg import vgg16
from torchvision.ops import FrozenBatchNorm2d

from detkit.atomic import write_json
from detkit.commands.benchmark_loader import LOADING
from detkit.commands.benchmark_masks import paste_steps
from detkit.commands.benchmark_opencv import beside_opencv
from detkit.commands.benchmark_regions import regions
from detkit.commands.recording import recorded
from detkit.errors import unknown
from detkit.folders import in_home
from detkit.inference.run import prepare
from detkit.interop.torchvision import (
    SSD_SCALES,
    load_faster_rcnn,
    load_mask_rcnn,
    load_ssd,
)
from detkit.models.build import build
from detkit.models.model import Model
from detkit.ops.device import pick_device
from detkit.ops.precision import autocast, describe, layout, resolve
from detkit.structures import Classes, Targets

CLASSES = 20
OBJECTS = 8  # in each image
OPENCV = "opencv"  # the row of Darknet's networks
Step = Callable[[], object]


@recorded
def benchmark(settings: Any) -> dict[str, Any]:
    """Times each row of `settings.rows` in each precision and prints ours / torchvision's.

    Args:
        settings: see `conf/benchmark/benchmark.yaml`.
    Returns:
        row: {"ours": seconds, "peer": seconds, "ratio": …, "low": …, "high": …, memory in MiB};
        for the rows `loader` and `memory` see `benchmark_loader`, for `opencv` `benchmark_opencv`.
    """
    timed_rows = [row for row in settings.rows if row not in (*LOADING, OPENCV)]
    if timed_rows and settings.model not in (*PAIRS, "rcnn"):
        raise unknown("peer for model", settings.model, [*PAIRS, "rcnn"])
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.model == "rcnn":
        found = regions(settings)
        if settings.output:
            write_json(in_home(settings.output), found)
        return found
    device = str(pick_device(settings.device))
    threads = f"{settings.repeats} pairs a row, {torch.get_num_threads()} threads"
    if timed_rows or OPENCV not in settings.rows:
        print(
            f"timing {settings.model} beside torchvision's on {device}, batch"
            f" {settings.batch_size}, {settings.height}×{settings.width}, {threads}"
        )
    else:
        print(f"timing detection of one picture, {threads}")
    results: dict[str, Any] = {}
    print(f"{'':20}{'ours s':>9}{'peer s':>9}{'ratio':>8}{'spread':>16}{'MiB ours/peer':>16}")
    for row in [row for row in settings.rows if row in LOADING]:
        results[row] = LOADING[row](settings)
    if OPENCV in settings.rows:
        results |= beside_opencv(settings)
    for precision in settings.precisions if timed_rows else []:
        print(f"in {describe(resolve(precision, device), device)}", flush=True)
        for row in timed_rows:
            case = (settings.model, row, precision, device, settings.batch_size)
            size = (settings.height, settings.width)
            results[f"{row}/{precision}"] = timed = compare(case, size, settings.repeats)
            print(
                f"{row + ' ' + precision:20}{timed['ours']:9.3f}{timed['peer']:9.3f}"
                f"{timed['ratio']:8.2f}{timed['low']:9.2f} –{timed['high']:5.2f}"
                f"{timed['ours_MiB']:9.0f}/{timed['peer_MiB']:.0f}",
                flush=True,
            )
    if settings.output:
        write_json(in_home(settings.output), results)
    return results


def compare(
    case: tuple[str, str, str, str, int], size: tuple[int, int], repeats: int
) -> dict[str, float]:
    """Ours, peer, ours, peer …: median times; median, least and greatest ratio of a pair."""
    ours, peer = steps(*case, *size)
    ours(), peer()
    pairs = [(_seconds(ours, case[3]), _seconds(peer, case[3])) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    return {
        "ours": statistics.median(a for a, _ in pairs),
        "peer": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "ours_MiB": _peak_memory(case, size, 0),
        "peer_MiB": _peak_memory(case, size, 1),
    }


def _seconds(step: Step, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    """Until the device has done what it was given; the CPU has."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()


def _peak_memory(case: tuple[str, str, str, str, int], size: tuple[int, int], which: int) -> float:
    """MiB at most of a fresh process that takes two steps of one side."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    arguments = (send, case, size, which, torch.get_num_threads())
    process = context.Process(target=_measure_memory, args=arguments)
    process.start()
    peak = receive.recv()
    process.join()
    return peak


def _measure_memory(
    pipe: Any, case: tuple[str, str, str, str, int], size: tuple[int, int], which: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    step = steps(*case, *size)[which]
    if cuda := torch.device(case[3]).type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # the other side was built too, and is gone now
    step(), step()
    if cuda:
        pipe.send(torch.cuda.max_memory_allocated() / 2**20)
    else:
        pipe.send(_resident_peak())


def _resident_peak() -> float:
    """MiB, from the kernel's own count if there is one: rusage remembers the parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def steps(
    model: str, row: str, precision: str, device: str, batch_size: int, height: int, width: int
) -> tuple[Step, Step]:
    """One training step or one inference of ours and of the peer, ready to be timed."""
    torch.manual_seed(0)
    if row == "paste":
        return paste_steps(height, width)
    ours, peer = PAIRS[model](height, width)
    ours, peer = ours.to(device), peer.to(device)
    images = torch.randint(0, 256, (batch_size, 3, height, width), dtype=torch.uint8, device=device)
    dtype = resolve(precision, device)
    if row == "train":
        ours.to(memory_format=layout(dtype, device))
        targets = [random_targets(height, width, device) for _ in range(batch_size)]
        theirs: list[dict[str, Any]] = [{"boxes": t.boxes, "labels": t.labels + 1} for t in targets]
        if "masks" in ours.needs:
            theirs = [{**known, "masks": t.masks} for known, t in zip(theirs, targets, strict=True)]
        return (
            _training_step(ours.train(), lambda: ours(images, targets), dtype, device),
            _training_step(peer.train(), lambda: peer(list(images / 255), theirs), dtype, device),
        )
    if row != "inference":
        raise unknown("row", row, ["train", "inference", "paste", *LOADING, OPENCV])
    fast = prepare(ours, device, precision)

    @torch.inference_mode()
    def infer() -> None:
        with autocast(device, dtype):
            fast(images)

    peer.eval()

    @torch.inference_mode()
    def infer_peer() -> None:
        with autocast(device, dtype):
            peer(list(images / 255))

    return infer, infer_peer


def _training_step(
    model: nn.Module, losses: Callable[[], Mapping[str, Tensor]], dtype: torch.dtype, device: str
) -> Step:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def step() -> None:
        with autocast(device, dtype):
            loss = sum(losses().values(), torch.zeros((), device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def random_targets(height: int, width: int, device: str) -> Targets:
    """Objects of a tenth to a half of the image; their masks are ellipses."""
    share = torch.rand(OBJECTS, 4, device=device)
    limit = torch.tensor([width, height], device=device)
    side = (share[:, :2] * 0.4 + 0.1) * limit
    corner = share[:, 2:] * (limit - side)
    labels = torch.randint(0, CLASSES, (OBJECTS,), device=device)
    x = (torch.arange(width, device=device) - corner[:, :1]) / side[:, :1] * 2 - 1
    y = (torch.arange(height, device=device) - corner[:, 1:]) / side[:, 1:] * 2 - 1
    masks = x[:, None, :] ** 2 + y[:, :, None] ** 2 < 1
    return Targets(torch.cat([corner, corner + side], dim=1), labels, masks)


def torchvision_pair(
    name: str,
    peer: Callable[..., nn.Module],
    load: Callable[[Model, Mapping[str, Tensor]], None],
    height: int,
    width: int,
) -> tuple[Model, nn.Module]:
    """Ours and torchvision's ResNet-50-FPN, one state dict, norms frozen, three stages trained."""
    trunk = resnet50(norm_layer=FrozenBatchNorm2d)
    theirs = peer(
        _resnet_fpn_extractor(trunk, trainable_layers=3),
        num_classes=CLASSES + 1,
        min_size=min(height, width),
        max_size=max(height, width),
    )
    ours = build(
        {"name": name},
        {"name": "resnet50_fpn", "norm": "frozen", "frozen_stages": 2},
        Classes.numbered(CLASSES),
    )
    load(ours, theirs.state_dict())
    return ours, theirs


def ssd_pair(height: int, width: int) -> tuple[Model, nn.Module]:
    """Ours and torchvision's SSD300 on VGG-16, one state dict, at any size, all of it trained."""
    peer = PeerSSD(
        _vgg_extractor(vgg16(), highres=False, trainable_layers=5),
        DefaultBoxGenerator(
            [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
            scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        ),
        (height, width),
        num_classes=CLASSES + 1,
    )
    model = {"name": "ssd300", **SSD_SCALES}
    ours = build(model, {"name": "vgg16_ssd"}, Classes.numbered(CLASSES))
    load_ssd(ours, peer.state_dict())
    return ours, peer


PAIRS: dict[str, Callable[[int, int], tuple[Model, nn.Module]]] = {
    "faster_rcnn": partial(torchvision_pair, "faster_rcnn", PeerFasterRCNN, load_faster_rcnn),
    "mask_rcnn": partial(torchvision_pair, "mask_rcnn", PeerMaskRCNN, load_mask_rcnn),
    "ssd300": ssd_pair,
}
