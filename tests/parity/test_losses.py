"""The training half of Faster R-CNN beside torchvision's: targets and losses, value for value.

Both draw every anchor and every RoI, so nothing is left to chance.
"""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import FasterRCNN as Reference
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.resnet import resnet18
from torchvision.ops import FrozenBatchNorm2d

from detkit.interop.torchvision import load_faster_rcnn
from detkit.models.build import build
from detkit.models.model import Model
from detkit.structures import Classes, Targets

CLASSES, HEIGHT, WIDTH = 4, 192, 256
ALL = 10**7
LOSSES = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "head_class": "loss_classifier",
    "head_box": "loss_box_reg",
}


@pytest.fixture(scope="module")
def pair() -> tuple[Reference, Model]:
    torch.manual_seed(0)
    reference = Reference(
        _resnet_fpn_extractor(resnet18(norm_layer=FrozenBatchNorm2d), 5),
        num_classes=CLASSES + 1,
        min_size=HEIGHT,
        max_size=WIDTH,
        rpn_batch_size_per_image=ALL,
        rpn_positive_fraction=1.0,
        box_batch_size_per_image=ALL,
        box_positive_fraction=1.0,
    )
    predictor = reference.roi_heads.box_predictor
    for layer in (
        reference.rpn.head.cls_logits,
        reference.rpn.head.bbox_pred,
        predictor.cls_score,
        predictor.bbox_pred,
    ):
        torch.nn.init.normal_(layer.weight, std=0.05)
    model = {"name": "faster_rcnn", "rpn_samples": ALL, "rpn_positive_fraction": 1.0}
    ours = build(
        {**model, "roi_samples": ALL, "roi_positive_fraction": 1.0},
        {"name": "resnet18_fpn", "weights": "none", "norm": "frozen"},
        Classes.numbered(CLASSES),
    )
    load_faster_rcnn(ours, reference.state_dict())
    return reference.train(), ours.train()


@pytest.mark.parametrize("objects", [0, 1, 3, 6])
def test_the_four_losses_are_torchvisions(pair, objects):
    reference, ours = pair
    generator = torch.Generator().manual_seed(objects)
    image = torch.rand(3, HEIGHT, WIDTH, generator=generator)
    limit = torch.tensor([WIDTH, HEIGHT])
    corner = torch.rand(objects, 2, generator=generator) * limit * 0.7
    side = 8 + torch.rand(objects, 2, generator=generator) * 60
    boxes = torch.cat([corner, torch.minimum(corner + side, limit)], dim=1)
    labels = torch.randint(0, CLASSES, (objects,), generator=generator)
    expected = reference([image], [{"boxes": boxes, "labels": labels + 1}])
    found = ours(image[None], [Targets(boxes, labels)])
    assert found.keys() == LOSSES.keys()
    for name, theirs in LOSSES.items():
        torch.testing.assert_close(found[name], expected[theirs], rtol=1e-4, atol=1e-6)
    if objects:  # no loss is equal by being nothing
        assert all(loss > 1e-4 for loss in found.values())
