"""What every detector without proposals has to stand, small; and the published sizes of some."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from detkit.models.build import build
from detkit.models.model import models
from detkit.structures import Classes, Targets

CONTRACTS = Path(__file__).parents[1] / "contracts/small.py"
spec = importlib.util.spec_from_file_location("small_settings", CONTRACTS)
small = importlib.util.module_from_spec(spec)
sys.modules["small_settings"] = small
spec.loader.exec_module(small)

NAMES = [
    name
    for name in small.names()
    if models.part(name).task == "detect" and "proposals" not in models.part(name).needs
]


def same_cell(side: int) -> torch.Tensor:
    sizes = torch.linspace(4, side / 2, 20)[:, None]
    return torch.cat([30.5 - sizes / 2, 30.5 - sizes / 2, 30.5 + sizes / 2, 30.5 + sizes / 2], 1)


CASES = {
    "none": lambda side: torch.zeros(0, 4),
    "one cell": lambda side: same_cell(side).clamp(0, side),
    "one pixel": lambda side: torch.tensor([[5.0, 5, 6, 6], [0, 0, 1, 1], [side - 1, 9, side, 10]]),
}


@pytest.mark.parametrize("name", NAMES)
def test_hard_pictures_train(name):
    found = small.small(name)
    model = found.build(found.backbones[0], classes=3).train()
    images = small.images(found.side, count=len(CASES))
    targets = []
    for boxes in (case(found.side) for case in CASES.values()):
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        crowd = torch.zeros(len(boxes), dtype=torch.bool)
        targets.append(Targets(boxes.float(), labels, crowd=crowd))
    losses = model(images, targets)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert len(model.eval()(images)) == len(CASES)


@pytest.mark.parametrize(
    ("model", "backbone", "classes", "parameters"),
    [
        # Darknet's weights files hold these and two statistics of each norm's channel:
        # yolov3.weights 248,007,048 bytes, yolov3-tiny 35,434,956, yolov3-spp 252,209,544
        ("yolo_v3", "darknet53", 80, 61_949_149),
        ("tiny_yolo_v3", "darknet_tiny", 80, 8_852_366),
        ("yolo_v3_spp", "darknet53", 80, 62_998_749),
    ],
)
def test_the_papers_networks_have_their_size(model, backbone, classes, parameters):
    with torch.device("meta"):
        network = build({"name": model}, {"name": backbone}, Classes.numbered(classes))
    assert sum(p.numel() for p in network.parameters()) == parameters
    running = sum(b.numel() for n, b in network.named_buffers() if "running" in n)
    sizes = {"yolo_v3": 248_007_048, "tiny_yolo_v3": 35_434_956, "yolo_v3_spp": 252_209_544}
    assert 4 * (parameters + running) + 20 == sizes[model]


def test_ssd512_has_the_size_of_the_papers_layers():
    """Figure 2 and section 3.3, layer by layer: (channels before, behind, kernel)."""
    vgg = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    vgg += [(256, 512), *[(512, 512)] * 5]
    layers = [(before, behind, 3) for before, behind in vgg]
    layers += [(512, 1024, 3), (1024, 1024, 1)]  # fc6, fc7
    layers += [(1024, 256, 1), (256, 512, 3), (512, 128, 1), (128, 256, 3)]
    layers += [*[(256, 128, 1), (128, 256, 3)] * 2, (256, 128, 1), (128, 256, 4)]
    maps = zip([512, 1024, 512, 256, 256, 256, 256], [4, 6, 6, 6, 6, 4, 4], strict=True)
    layers += [(channels, boxes * (21 + 4), 3) for channels, boxes in maps]
    count = sum(before * behind * k * k + behind for before, behind, k in layers) + 512  # conv4_3's
    with torch.device("meta"):
        network = build({"name": "ssd512"}, {"name": "vgg16_ssd"}, Classes.numbered(20))
    assert sum(p.numel() for p in network.parameters()) == count
