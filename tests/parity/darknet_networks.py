"""The networks and photos of which OpenCV's answers are kept, and ours in OpenCV's form."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from detkit.backbones.darknet_cfg import DarknetCfg
from detkit.backbones.darknet_outputs import Output
from detkit.interop import darknet

PHOTOS = 2  # of each network
ZEROED_BELOW = re.compile(r"(?m)^\s*thresh\s*=.*$")


class Case(NamedTuple):
    """A description under data/darknet, with weights beside it or from a seed."""

    cfg: str
    side: int
    seed: int | None = None

    @property
    def name(self) -> str:
        return Path(self.cfg).stem


CASES = [
    Case("MobileNetV2-YOLOv3-Nano-voc.cfg", 320),
    Case("yolo-fastest-1.1.cfg", 320),
    Case("yolo-fastest-1.1-xl.cfg", 320),
    Case("yolo-lite-trial3.cfg", 224),
    Case("yolo-lite-trial3-nobatch.cfg", 224),
    Case("cfg/yolov2.cfg", 160, seed=2),
    Case("cfg/yolov2-tiny.cfg", 160, seed=22),
    Case("cfg/yolov3.cfg", 160, seed=3),
    Case("cfg/yolov3-tiny.cfg", 160, seed=33),
    Case("cfg/yolov3-spp.cfg", 160, seed=333),
]


def images(shared: Path, side: int) -> np.ndarray:
    """(PHOTOS, 3, side, side) float32 RGB in 0 … 1: the middles of the first large photos."""
    found = []
    for file in sorted((shared / "coco-mini/images/val").glob("*.jpg")):
        picture = Image.open(file).convert("RGB")
        if min(picture.size) >= 320:
            left, top = ((n - side) // 2 for n in picture.size)
            found.append(np.asarray(picture.crop((left, top, left + side, top + side))))
        if len(found) == PHOTOS:
            break
    return (np.stack(found).transpose(0, 3, 1, 2) / 255).astype(np.float32)


def description(shared: Path, case: Case) -> str:
    """The case's text, changed so that OpenCV leaves no score out for being small."""
    text = ZEROED_BELOW.sub("", (shared / "darknet" / case.cfg).read_text())
    return re.sub(r"(?m)^\s*\[(yolo|region)\]", r"[\1]\nthresh=0", text)


def network(shared: Path, case: Case, images: np.ndarray) -> DarknetCfg:
    """The network with its weights, those of its file or of a seed."""
    net = DarknetCfg(text=description(shared, case))
    if case.seed is None:
        darknet.load(net, (shared / "darknet" / case.cfg).with_suffix(".weights"))
    else:
        seeded(net, case.seed, torch.from_numpy(images))
    return net.eval()


@torch.no_grad()
def seeded(net: DarknetCfg, seed: int, images: Tensor) -> None:
    """Weights from a seed; the norms' statistics suit the images, so that no layer fades or bursts.

    A channel's variance is that of its layer, times a random factor: small ones would let float32's
    rounding grow from layer to layer.
    """
    generator = np.random.default_rng(seed)  # NumPy's are the same on every machine

    def normal(shape: torch.Size) -> Tensor:
        return torch.from_numpy(generator.standard_normal(tuple(shape), np.float32))

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        norm.running_mean.copy_(x.mean((0, 2, 3)))
        spread = x.var((0, 2, 3)).mean()
        norm.running_var.copy_(spread * (0.3 * normal(norm.running_var.shape)).exp())

    hooks = []
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.copy_(normal(part.weight.shape) * (2 / part.weight[0].numel()) ** 0.5)
            if part.bias is not None:
                part.bias.copy_(normal(part.bias.shape) * 0.5)
        elif isinstance(part, nn.BatchNorm2d):
            part.weight.copy_(0.8 + 0.1 * normal(part.weight.shape))
            part.bias.copy_(0.3 * normal(part.bias.shape))
            hooks.append(part.register_forward_pre_hook(measure))
    net.eval()(images)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def answers(net: DarknetCfg, image: np.ndarray) -> list[np.ndarray]:
    """Ours in OpenCV's form: of each output its map (H·W, A·(5 + K)), then what it says (P, 5 + K).

    That is x y w h as shares of the image, objectness, classes times objectness.
    """
    maps = net(torch.from_numpy(image)[None])
    found = []
    for output in net.outputs:
        logits = maps[output.level]
        found += [logits[0].flatten(1).T.numpy(), rows(logits, output, image.shape[-1])]
    return found


def rows(logits: Tensor, output: Output, side: int) -> np.ndarray:
    boxes, objectness, classes = (part[0] for part in darknet.decode(logits, output))
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    scores = classes * objectness[:, None]
    return torch.cat([centres / side, sizes / side, objectness[:, None], scores], 1).numpy()
