"""Every backbone with every model, narrow and small: what is registered is held to the contract.

A new name is tested from the day it is registered: the pairs come from the registries.
"""

from __future__ import annotations

import functools

import pytest
import torch

from detkit.backbones.backbone import backbones
from detkit.backbones.build import build as build_backbone
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.model import Model, models
from detkit.predictions import Detections, Segmentation
from detkit.structures import Targets

SIDE, CLASSES = 64, 3
WIDTH = 0.125
NARROW = {  # settings that keep a model small; a new model works without
    "faster_rcnn": {"head_channels": 16, "proposals": [20, 20], "roi_samples": 16},
    "yolo_v3": {"neck_width": 1 / 64},
    "unet": {"decoder_width": 2},
}
PAIRS = [
    pytest.param(model, name, id=f"{model}-{name}")
    for model in models.names()
    for base in backbones.names()
    for name in (base, f"{base}_fpn")
]


@functools.lru_cache(maxsize=4)  # the tests of one pair come one after another
def pair(model: str, backbone: str, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    settings: dict = {"name": backbone, "width": WIDTH}
    if backbone.endswith("_fpn"):
        settings["fpn_channels"] = 8
    return build({"name": model, **NARROW.get(model, {})}, settings, CLASSES)


def refused(model: str, backbone: str) -> bool:
    """Whether the model needs a head from the backbone's own upper stages, which has none left."""
    fpn = backbone.endswith("_fpn")
    builder = backbones[backbone.removesuffix("_fpn")]
    network = getattr(builder, "func", builder)
    return models[model].wants(fpn=fpn).tail and network.tail_size is None


def images(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def target(*boxes: tuple[int, int, int, int]) -> Targets:
    """What an image with these boxes shows, for every task at once."""
    pixels = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = 1
    return Targets(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.ones(len(boxes), dtype=torch.int64),
        crowd=torch.zeros(len(boxes), dtype=torch.bool),
        difficult=torch.zeros(len(boxes), dtype=torch.bool),
        pixels=pixels,
    )


@pytest.mark.parametrize("name", backbones.names())
def test_levels_have_their_strides_and_channels(name):
    backbone = build_backbone(name, width=WIDTH)
    maps = backbone(torch.randn(1, 3, 128, 128))
    assert list(maps) == list(backbone.channels) == list(backbone.strides)
    for level, found in maps.items():
        assert backbone.strides[level] == 2 ** int(level)
        assert found.shape[1] == backbone.channels[level]
        for side in found.shape[2:]:  # a 7×7 convolution without padding loses three cells
            assert 128 / backbone.strides[level] - 3 <= side <= 128 / backbone.strides[level] + 1


@pytest.mark.parametrize(("model", "backbone"), PAIRS)
def test_a_pair_keeps_the_contract(model, backbone):
    if refused(model, backbone):
        with pytest.raises(DetkitError, match=f"backbone {backbone} has no upper stages"):
            pair(model, backbone)
        return
    network = pair(model, backbone)
    trains_without_objects_and_with_one(network)
    predicts(network)


def trains_without_objects_and_with_one(network: Model) -> None:
    """Finite losses, and a finite gradient for every parameter that is trained."""
    one = target((8, 12, 40, 44))
    network.train()
    for targets in ([target(), one], [target(), target()]):
        network.zero_grad(set_to_none=True)
        losses = network(images(), targets)
        assert isinstance(losses, dict)
        assert losses
        for name, loss in losses.items():
            assert loss.shape == (), name
            assert loss.isfinite(), name
        sum(losses.values()).backward()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"{name} gets no gradient"
                assert parameter.grad.isfinite().all(), name


@torch.no_grad()
def predicts(network: Model) -> None:
    """One prediction an image of the task's kind, inside the image; the same whatever the mode."""
    sizes = torch.tensor([[SIDE, SIDE], [SIDE, SIDE - 16]])
    found = network.eval()(images(), sizes=sizes)
    assert len(found) == 2
    for prediction, (height, width) in zip(found, sizes.tolist(), strict=True):
        if network.task == "segment_pixels":
            assert isinstance(prediction, Segmentation)
            assert prediction.logits.shape == (CLASSES, SIDE, SIDE)
            assert prediction.logits.isfinite().all()
        else:
            assert isinstance(prediction, Detections)
            assert prediction.boxes.isfinite().all()
            assert prediction.boxes.shape == (len(prediction), 4)
            assert (prediction.boxes >= 0).all()
            assert (prediction.boxes <= torch.tensor([width, height] * 2)).all()
            assert prediction.labels.lt(CLASSES).all()


ONE_EACH = ("resnet18_fpn", "googlenet", "mobilenet_v2", "squeezenet1_0_fpn", "darknet53")


SAVED = [(m, b) for m in models.names() for b in ONE_EACH if not refused(m, b)]


@pytest.mark.parametrize(("model", "backbone"), SAVED)
def test_a_saved_pair_loads_and_the_same_seed_gives_it_again(model, backbone, tmp_path):
    first, again, other = (pair.__wrapped__(model, backbone, seed) for seed in (1, 1, 2))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    )
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        ours, theirs = first.eval()(images()), other.eval()(images())
    for a, b in zip(ours, theirs, strict=True):
        for field in vars(a):
            if isinstance(getattr(a, field), torch.Tensor):
                assert torch.equal(getattr(a, field), getattr(b, field)), field
