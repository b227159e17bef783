"""Faster R-CNN, ResNet-50 and FPN, beside torchvision's with the same weights, on real photos.

Every stage is compared, not the detections alone: two models that find nothing agree on nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torchvision.models.detection import FasterRCNN as Reference
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.resnet import resnet50
from torchvision.ops import FrozenBatchNorm2d, box_iou

from detkit.backbones.backbone import normalize
from detkit.data import images as decoder
from detkit.interop.torchvision import load_faster_rcnn
from detkit.models.build import build
from detkit.ops.roi_pool import pool_rois
from detkit.structures import Classes

CLASSES = 20
HEIGHT, WIDTH = 320, 448
PHOTOS = ("000012", "000032")


def randomise_heads(reference: Reference) -> None:
    """Weights with which scores spread over classes and objects, from a seed."""
    generator = torch.Generator().manual_seed(0)

    def normal(parameter: torch.Tensor, std: float) -> None:
        parameter.data = torch.randn(parameter.shape, generator=generator) * std

    for block in reference.backbone.body.layer4:
        for conv in (block.conv1, block.conv2, block.conv3):
            fan_in = conv.weight[0].numel()
            normal(conv.weight, (0.5 / fan_in) ** 0.5)
    predictor = reference.roi_heads.box_predictor
    normal(reference.rpn.head.cls_logits.weight, 0.2)
    normal(reference.rpn.head.bbox_pred.weight, 0.02)
    normal(predictor.cls_score.weight, 0.2)
    normal(predictor.bbox_pred.weight, 0.05)


def spread_classes(reference: Reference, images: torch.Tensor) -> None:
    """Centres the class logits over the RoIs of real photos: else one class wins everywhere."""
    seen, _ = stages_of_reference(reference, images)
    reference.roi_heads.box_predictor.cls_score.bias.data -= seen["logits"][0].mean(0)


@pytest.fixture(scope="module")
def pair(shared: Path, photos: torch.Tensor):
    """torchvision's model and ours with one state dict: a real trunk, seeded heads."""
    torch.manual_seed(0)
    trunk = resnet50(norm_layer=FrozenBatchNorm2d)
    reference = Reference(
        _resnet_fpn_extractor(trunk, 5),
        num_classes=CLASSES + 1,
        min_size=HEIGHT,
        max_size=WIDTH,
        box_score_thresh=0.0,
    ).eval()
    weights = load_file(shared / "weights" / "resnet50_c4_caffe_msra.safetensors")
    body = {k: v.float() for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    assert not reference.backbone.body.load_state_dict(body, strict=False).unexpected_keys
    randomise_heads(reference)
    spread_classes(reference, photos)
    ours = build(
        {"name": "faster_rcnn", "score_thresh": 0.0},
        {"name": "resnet50_fpn", "weights": "none", "norm": "frozen"},
        Classes.numbered(CLASSES),
    ).eval()
    load_faster_rcnn(ours, reference.state_dict())
    return reference, ours


@pytest.fixture(scope="module")
def photos(shared: Path) -> torch.Tensor:
    """(2, 3, H, W) floats in 0 … 1, resized once for both."""
    folder = shared / "voc2007" / "JPEGImages"
    tensors = [
        torch.from_numpy(decoder.read(folder / f"{name}.jpg")).permute(2, 0, 1)[None].float() / 255
        for name in PHOTOS
    ]
    resized = [
        torch.nn.functional.interpolate(t, (HEIGHT, WIDTH), mode="bilinear", antialias=True)
        for t in tensors
    ]
    return torch.cat(resized).clamp(0, 1)


def stages_of_reference(model: Reference, images: torch.Tensor) -> tuple[dict, list]:
    """What flows between the parts of torchvision's model, taken by hooks."""
    seen: dict = {}

    def keep(name):
        return lambda module, inputs, output: seen.__setitem__(name, output)

    parts = {
        "maps": model.backbone,
        "rpn": model.rpn.head,
        "proposals": model.rpn,
        "rois": model.roi_heads.box_roi_pool,
        "logits": model.roi_heads.box_predictor,
    }
    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    with torch.inference_mode():
        detections = model(list(images))
    for handle in handles:
        handle.remove()
    return seen, detections


def assert_equal_to_scale(ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    """Within 1e-4 of the tensor's largest magnitude."""
    assert ours.shape == theirs.shape, what
    largest = float(theirs.abs().max())
    assert largest > 0, f"{what} is all zero: nothing was compared"
    assert float((ours - theirs).abs().max()) <= 1e-4 * largest, what


@torch.inference_mode()
def test_every_stage_agrees_with_torchvisions(pair, photos):
    reference, ours = pair
    seen, theirs = stages_of_reference(reference, photos)

    maps = list(ours.backbone(normalize(photos, ours.mean_std)).values())
    for level, (a, b) in enumerate(zip(maps, seen["maps"].values(), strict=True)):
        assert_equal_to_scale(a, b, f"map {level}")

    outputs = [ours.rpn.predict(m) for m in maps]
    for (logits, deltas), their_logits, their_deltas in zip(outputs, *seen["rpn"], strict=True):
        a = their_logits.shape[1]
        assert_equal_to_scale(logits, their_logits.permute(0, 2, 3, 1).flatten(1), "objectness")
        expected = their_deltas.reshape(2, a, 4, *their_deltas.shape[2:]).permute(0, 3, 4, 1, 2)
        assert_equal_to_scale(deltas, expected.reshape(2, -1, 4), "RPN deltas")

    sizes = torch.tensor([[HEIGHT, WIDTH]] * 2)
    proposals = ours.rpn.propose(outputs, ours.rpn.anchors(maps), sizes, training=False)
    their_proposals = seen["proposals"][0]
    for a, b in zip(proposals, their_proposals, strict=True):
        assert len(a) == len(b) > 100
        nearest = torch.cdist(b, a, p=torch.inf).min(dim=1)  # scores that all but tie swap places
        assert_equal_to_scale(a[nearest.indices], b, "proposals")

    image = torch.arange(2).repeat_interleave(torch.tensor([len(p) for p in their_proposals]))
    rois = torch.cat(their_proposals)
    pooled = pool_rois(maps[:4], [2, 3, 4, 5], rois, image, 7)
    assert_equal_to_scale(pooled, seen["rois"], "RoI features")
    logits, deltas = ours.head.predictor(ours.head.extractor(photos, maps, rois, image))
    their_logits, their_deltas = seen["logits"]
    assert_equal_to_scale(logits, their_logits.roll(-1, 1), "class logits")
    assert_equal_to_scale(deltas, their_deltas.reshape(len(rois), -1, 4)[:, 1:], "box deltas")

    found = ours(photos)
    for a, b in zip(found, theirs, strict=True):
        assert_matched(a, b)


def assert_matched(ours, theirs: dict[str, torch.Tensor]) -> None:
    """The same objects: for each of theirs one of ours of that class, box and score."""
    assert len(ours) == len(theirs["scores"]) >= 50
    assert len(theirs["labels"].unique()) >= 10
    iou = box_iou(ours.boxes, theirs["boxes"])
    same = (ours.labels[:, None] + 1 == theirs["labels"]) & (
        (ours.scores[:, None] - theirs["scores"]).abs() < 1e-4
    )
    assert ((iou > 0.999) & same).any(0).float().mean() >= 0.98  # the last ones may tie at the cut
