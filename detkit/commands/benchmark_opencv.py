"""Darknet's networks beside OpenCV's `cv2.dnn` and beside the plain eager module, of one file.

Each side gets one uint8 picture of the network's size and gives detections, decoding and NMS
included. They take turns: ours, OpenCV's, ours, the eager module's. OpenCV runs in a process of its
own (`opencv_side`), which may be another Python's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detkit.backbones.darknet_cfg import DarknetCfg
from detkit.backbones.darknet_outputs import first_classes
from detkit.backbones.darknet_sections import cfg_text, sections
from detkit.commands import opencv_side
from detkit.errors import DetkitError
from detkit.folders import in_home
from detkit.inference.run import prepare
from detkit.interop import darknet
from detkit.models.build import build
from detkit.models.darknet_cfg import DarknetNetwork
from detkit.models.heads.selection import Selection
from detkit.ops.precision import autocast, describe, resolve
from detkit.restore import Beside, load_model
from detkit.structures import Classes

SELECTION = Selection(0.25, 0.45, 100)  # of all sides
PAUSE = 0.02  # seconds between two sides, until the threads of the one before sleep
Step = Callable[[], float]  # → seconds


def beside_opencv(settings: Any) -> dict[str, dict[str, float]]:
    """Times detection by `settings.checkpoint` in each of `settings.precisions`.

    Args:
        settings: see `conf/benchmark/benchmark.yaml`; `checkpoint` is a FILE.weights with its .cfg
            beside it, or a .cfg alone, whose weights are random then.
    Returns:
        By `opencv/PRECISION` and `eager/PRECISION`: seconds `ours` and `peer`, the median `ratio`
        of a pair and its range `low`, `high`. OpenCV computes in float32, whatever ours does.
    Raises:
        DetkitError: no such file, or a Python without an OpenCV that reads it.
    """
    if settings.checkpoint is None:
        raise DetkitError(
            "There is no network to time.", remedy="give checkpoint=FILE.weights or FILE.cfg."
        )
    threads = torch.get_num_threads()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cfg, weights = _files(in_home(settings.checkpoint), Path(temporary))
        model, meta = load_model(weights, beside=Beside(str(cfg), None))
        assert isinstance(model, DarknetNetwork)
        model.grid.selection = SELECTION
        size = meta["config"]["transforms"]
        shape = (size["height"], size["width"], 3)
        picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        np.save(Path(temporary) / "picture.npy", picture)
        images = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
        python = settings.opencv or sys.executable
        files = cfg, weights, Path(temporary) / "picture.npy"
        with opencv(python, *files, threads) as (version, theirs):
            print(f"{cfg.name}, {size['width']}×{size['height']}; OpenCV {version} in fp32")
            for precision in settings.precisions:
                ours, eager = (_step(model, images, precision, fast) for fast in (True, False))
                for name, peer in (("opencv", theirs), ("eager", eager)):
                    timed = _in_turn(ours, peer, settings.repeats)
                    results[f"{name}/{precision}"] = timed
                    told = describe(resolve(precision, "cpu"), "cpu")
                    print(
                        f"{name + ' ' + told:20}{timed['ours']:9.4f}{timed['peer']:9.4f}"
                        f"{timed['ratio']:8.2f}{timed['low']:9.2f} –{timed['high']:5.2f}",
                        flush=True,
                    )
    return results


def _files(path: Path, folder: Path) -> tuple[Path, Path]:
    """Description, names and weights of a network in a folder: the weights' own, or random ones.

    Returns:
        The .cfg and the .weights.
    """
    if path.suffix != ".cfg":
        return path.with_suffix(".cfg"), path
    torch.manual_seed(0)
    text = cfg_text(path)
    (folder / "network.cfg").write_text(text)
    classes = first_classes(sections(text, str(path))) or 1  # without outputs the build refuses
    (folder / "network.names").write_text("".join(f"{label}\n" for label in range(classes)))
    settings = {"name": "darknet_cfg", "cfg": str(path)}
    model = build({"name": "darknet_cfg"}, settings, Classes.numbered(classes))
    assert isinstance(model.backbone, DarknetCfg)
    darknet.save(model.backbone, folder / "network.weights")
    return folder / "network.cfg", folder / "network.weights"


def _step(model: DarknetNetwork, images: torch.Tensor, precision: str, fast: bool) -> Step:
    """Ours as `predict` runs it, or the module as it is."""
    dtype = resolve(precision, "cpu")
    network = prepare(model, "cpu", precision) if fast else model.eval()

    @torch.inference_mode()
    def step() -> float:
        start = time.perf_counter()
        with autocast("cpu", dtype):
            network(images)
        return time.perf_counter() - start

    return step


def _in_turn(ours: Step, peer: Step, repeats: int) -> dict[str, float]:
    pairs = []
    for _ in range(repeats + 1):  # the first one is not counted
        pair = []
        for step in (ours, peer):
            time.sleep(PAUSE)
            step()  # back in the caches that the other side has used
            pair.append(step())
        pairs.append(pair)
    own, others = zip(*pairs[1:], strict=True)
    ratios = [a / b for a, b in pairs[1:]]
    return {
        "ours": statistics.median(own),
        "peer": statistics.median(others),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


@contextmanager
def opencv(
    python: str, cfg: Path, weights: Path, picture: Path, threads: int
) -> Iterator[tuple[str, Step]]:
    """OpenCV's version, and a step of it; its process ends behind the `with`.

    Args:
        python: an interpreter with OpenCV and NumPy.
    Raises:
        DetkitError: it does not start, or its OpenCV reads no such files.
    """
    numbers = (threads, SELECTION.score_thresh, SELECTION.nms_iou)
    command = [python, opencv_side.__file__, *map(str, (cfg, weights, picture, *numbers))]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise _no_opencv(f"It does not start ({error.strerror}).", python) from error
    assert process.stdin
    assert process.stdout
    ask, answers = process.stdin, process.stdout

    def step() -> float:
        ask.write("detect\n")
        ask.flush()
        return float(answers.readline().split()[0])

    try:
        version = answers.readline().strip()
        if not version or version.startswith("!"):
            raise _no_opencv(version.removeprefix("! ") or "It has no OpenCV.", python)
        yield version, step
    finally:
        ask.close()
        process.wait()
        answers.close()


def _no_opencv(problem: str, python: str) -> DetkitError:
    return DetkitError(
        problem,
        file=python,
        record="opencv",
        remedy="name a Python that has OpenCV 4 (pip install 'opencv-python-headless<5').",
    )
