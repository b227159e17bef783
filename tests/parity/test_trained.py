"""A model that torchvision trained, run by ours: the same objects on pictures that it never saw."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torchvision.models.detection import FasterRCNN as Reference
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.resnet import resnet18
from torchvision.ops import FrozenBatchNorm2d, box_iou

from detkit.data.open import open_dataset
from detkit.data.records import Records
from detkit.interop.torchvision import load_faster_rcnn
from detkit.models.build import build
from detkit.structures import Classes

HEIGHT, WIDTH = 256, 320  # multiples of 32: neither model pads
STEPS = 30


def picture(records: Records, i: int) -> torch.Tensor:
    image = torch.from_numpy(records.image(i)).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.interpolate(image, (HEIGHT, WIDTH), mode="bilinear")[0]


def boxes(records: Records, i: int) -> torch.Tensor:
    height, width = records.sizes[i].tolist()
    scale = torch.tensor([WIDTH / width, HEIGHT / height]).repeat(2)
    return torch.from_numpy(records.annotation(i).boxes).float() * scale


def trained(shared: Path) -> Reference:
    """torchvision's own model after a few steps on blood cells."""
    torch.manual_seed(0)
    trunk = resnet18(norm_layer=FrozenBatchNorm2d)
    file = shared / "weights" / "resnet18_c4_torchvision_folded.safetensors"
    trunk.load_state_dict(
        {k: v.float() for k, v in load_file(file).items() if "tracked" not in k}, strict=False
    )
    model = Reference(
        _resnet_fpn_extractor(trunk, 1),
        num_classes=4,
        min_size=HEIGHT,
        max_size=WIDTH,
        rpn_batch_size_per_image=64,
        box_batch_size_per_image=64,
    )
    records = open_dataset({"name": "voc", "root": str(shared / "bccd")}, "train")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-4)
    for step in range(STEPS):
        target = {
            "boxes": boxes(records, step),
            "labels": torch.from_numpy(records.annotation(step).labels) + 1,
        }
        loss = sum(model([picture(records, step)], [target]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_a_detector_trained_by_torchvision_finds_the_same_in_ours(shared):
    reference = trained(shared)
    ours = build(
        {"name": "faster_rcnn"},
        {"name": "resnet18_fpn", "weights": "none", "norm": "frozen"},
        Classes.numbered(3),
    )
    load_faster_rcnn(ours, reference.state_dict())
    records = open_dataset({"name": "voc", "root": str(shared / "bccd")}, "test")
    images = torch.stack([picture(records, i) for i in range(4)])
    with torch.inference_mode():
        theirs, found = reference(list(images)), ours(images)
    truth_hits = 0
    for i, (a, b) in enumerate(zip(found, theirs, strict=True)):
        assert len(a) == len(b["scores"]) >= 10
        same = (box_iou(a.boxes, b["boxes"]) > 0.999) & (a.labels[:, None] + 1 == b["labels"])
        same &= (a.scores[:, None] - b["scores"]).abs() < 1e-4
        assert same.any(0).float().mean() >= 0.98
        truth_hits += int((box_iou(boxes(records, i), a.boxes).amax(1) > 0.5).sum())
    assert truth_hits >= 10  # it did learn: cells are found, not noise
