"""SSD300 beside torchvision's with the same weights: outputs, default boxes, losses, detections."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from detkit.backbones.backbone import normalize
from detkit.errors import DetkitError
from detkit.interop.torchvision import SSD_SCALES, load_ssd
from detkit.models.build import build
from detkit.models.heads.ssd_head import boxes_in_images, default_boxes
from detkit.structures import Classes, Targets

CLASSES, SIDE = 20, 300


def spread(reference, images) -> None:
    """Heads whose outputs on these images are of the size that a trained network's have."""
    maps = list(reference.backbone(reference.transform(list(images))[0].tensors).values())
    heads = reference.head.classification_head, reference.head.regression_head
    for head, size in zip(heads, (2.0, 1.0), strict=True):
        for conv, features in zip(head.module_list, maps, strict=True):
            conv.weight.data *= size / conv(features).std()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """(2, 3, 300, 300) floats in 0 … 1, with structure at several scales."""
    generator = torch.Generator().manual_seed(0)
    sides = (4, 16, 75)
    layers = [torch.rand(2, 3, side, side, generator=generator) for side in sides]
    resized = [torch.nn.functional.interpolate(layer, (SIDE, SIDE)) for layer in layers]
    return torch.stack(resized).mean(0)


@pytest.fixture(scope="module")
@torch.no_grad()
def pair(images):
    torch.manual_seed(0)
    reference = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES + 1).eval()
    spread(reference, images)
    ours = build(
        {"name": "ssd300", **SSD_SCALES}, {"name": "vgg16_ssd"}, Classes.numbered(CLASSES)
    ).eval()
    load_ssd(ours, reference.state_dict())
    return reference, ours


def assert_equal_to_scale(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-4 * float(theirs.abs().max())


@torch.inference_mode()
def test_maps_outputs_default_boxes_and_detections_are_torchvisions(pair, images):
    reference, ours = pair
    inputs = reference.transform(list(images))[0]
    their_maps = list(reference.backbone(inputs.tensors).values())
    maps = list(ours.backbone(normalize(images, ours.mean_std)).values())
    for layer in ours.layers:
        maps.append(layer(maps[-1]))
    for a, b in zip(maps, their_maps, strict=True):
        assert_equal_to_scale(a, b)

    logits, deltas = ours.head.predict(maps)
    outputs = reference.head(their_maps)
    assert_equal_to_scale(logits, outputs["cls_logits"].roll(-1, 2))
    assert_equal_to_scale(deltas, outputs["bbox_regression"])

    grids = [(m.shape[2], m.shape[3]) for m in maps]
    shapes = ours.head.shapes.split(ours.head.per_cell)
    places = default_boxes(shapes, grids, ours.steps(images, maps))
    anchors = boxes_in_images(*places, torch.tensor([[SIDE, SIDE]]))[0]
    expected = reference.anchor_generator(ImageList(images, [(SIDE, SIDE)]), their_maps)[0]
    torch.testing.assert_close(anchors, expected, rtol=0, atol=1e-4)

    for a, b in zip(ours(images), reference(list(images)), strict=True):
        assert len(a) == len(b["scores"]) == 200
        assert len(b["labels"].unique()) >= 10
        same = (a.labels[:, None] + 1 == b["labels"]) & (
            (a.scores[:, None] - b["scores"]).abs() < 1e-4
        )
        assert ((box_iou(a.boxes, b["boxes"]) > 0.999) & same).any(0).float().mean() >= 0.98


def test_the_losses_of_an_image_are_torchvisions(pair, images):
    """Where no two objects ask for one default box, which torchvision gives to the last one."""
    reference, ours = pair
    boxes = torch.tensor([[20.0, 30, 90, 140], [150, 40, 280, 290], [100, 200, 112, 214]])
    labels = torch.tensor([3, 0, 19])
    with torch.no_grad():
        expected = reference.train()(images[:1], [{"boxes": boxes, "labels": labels + 1}])
        found = ours(images[:1], [Targets(boxes, labels)])
    reference.eval()
    names = {"classes": "classification", "box": "bbox_regression"}
    for name, theirs in names.items():
        assert expected[theirs] > 0.1
        torch.testing.assert_close(found[name], expected[theirs], rtol=1e-4, atol=0)


def test_a_tensor_without_a_place_is_named(pair):
    with pytest.raises(
        DetkitError, match=r"backbone\.body\.x is not a tensor of torchvision's SSD"
    ):
        load_ssd(pair[1], {"backbone.body.x": torch.zeros(1)})
