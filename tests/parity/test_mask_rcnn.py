"""Mask R-CNN, ResNet-50 and FPN, beside torchvision's with the same weights, on real photos.

Boxes are `test_faster_rcnn`'s; here the mask head sees the very same detections in both, and what
it draws is compared cell by cell, then pixel by pixel.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN as Reference
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.resnet import resnet50
from torchvision.ops import FrozenBatchNorm2d, box_iou

from detkit.backbones.backbone import normalize
from detkit.data import images as decoder
from detkit.interop.torchvision import load_mask_rcnn
from detkit.models.build import build
from detkit.ops.mask_paste import paste
from detkit.structures import Classes, Frame

CLASSES = 20
HEIGHT, WIDTH = 320, 448
PHOTOS = ("000012", "000032")


@pytest.fixture(scope="module")
def photos(shared: Path) -> torch.Tensor:
    """(2, 3, H, W) floats in 0 … 1, resized once for both."""
    folder = shared / "voc2007" / "JPEGImages"
    read = (torch.from_numpy(decoder.read(folder / f"{name}.jpg")) for name in PHOTOS)
    floats = [photo.permute(2, 0, 1)[None].float() / 255 for photo in read]
    sized = [F.interpolate(f, (HEIGHT, WIDTH), mode="bilinear", antialias=True) for f in floats]
    return torch.cat(sized).clamp(0, 1)


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
    for name, parameter in reference.named_parameters():
        if "layer4" in name and "conv" in name:
            parameter.data.normal_(std=(0.5 / parameter[0].numel()) ** 0.5)
    reference.rpn.head.cls_logits.weight.data.normal_(std=0.2)
    reference.rpn.head.bbox_pred.weight.data.normal_(std=0.02)
    predictor = reference.roi_heads.box_predictor
    predictor.cls_score.weight.data.normal_(std=0.2)
    predictor.bbox_pred.weight.data.normal_(std=0.05)
    seen = {}
    hook = predictor.register_forward_hook(lambda m, i, o: seen.__setitem__("logits", o[0]))
    with torch.inference_mode():
        reference(list(photos))
    hook.remove()  # centred over real RoIs: else one class wins everywhere
    predictor.cls_score.bias.data -= seen["logits"].clone().mean(0)
    ours = build(
        {"name": "mask_rcnn", "score_thresh": 0.0},
        {"name": "resnet50_fpn", "weights": "none", "norm": "frozen"},
        Classes.numbered(CLASSES),
    ).eval()
    load_mask_rcnn(ours, reference.state_dict())
    return reference, ours


def raw_outputs(reference: Reference, photos: torch.Tensor):
    """Mask logits, and the detections before torchvision pastes their masks."""
    logits, found = [], []
    heads = reference.roi_heads
    hooks = [
        heads.mask_predictor.register_forward_hook(lambda m, i, o: logits.append(o)),
        heads.register_forward_hook(lambda m, i, o: found.extend(dict(one) for one in o[0])),
    ]
    reference(list(photos))
    for hook in hooks:
        hook.remove()
    return logits[0], found


@torch.inference_mode()
def test_the_masks_of_the_same_detections_agree(pair, photos):
    reference, ours = pair
    their_logits, found = raw_outputs(reference, photos)
    boxes = torch.cat([one["boxes"] for one in found])
    labels = torch.cat([one["labels"] for one in found])
    assert len(boxes) == 200
    image = torch.arange(2).repeat_interleave(torch.tensor([len(one["boxes"]) for one in found]))
    maps = list(ours.backbone(normalize(photos, ours.mean_std)).values())
    logits = ours.masks.predict(maps, boxes, image, labels - 1)
    wanted = their_logits[torch.arange(len(labels)), labels]
    assert wanted.std() > 0.01 * wanted.abs().max(), "all cells are alike: nothing was compared"
    assert (logits - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@torch.inference_mode()
def test_detections_and_their_pasted_masks_agree(pair, photos):
    reference, ours = pair
    _, found = raw_outputs(reference, photos)
    frame = Frame(0, 0, "", (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    shares = []
    for mine, theirs in zip(ours(photos), found, strict=True):
        mine = mine.to_image(frame)
        iou = box_iou(mine.boxes, theirs["boxes"])
        same = (mine.labels[:, None] + 1 == theirs["labels"]) & (iou > 0.999)
        assert same.any(0).float().mean() >= 0.98
        for i, j in same.nonzero().tolist():
            torch.testing.assert_close(mine.masks[i], theirs["masks"][j, 0], rtol=0, atol=1e-3)
            wanted = whole_image(theirs["masks"][j, 0], theirs["boxes"][j]) >= 0.5
            shares.append((torch.from_numpy(mine.bitmap(i)) == wanted).float().mean())
    assert torch.stack(shares).mean() >= 0.999


def whole_image(cells: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """detectron2's rule by PyTorch's sampler: every pixel's centre looked up in the box."""
    x1, y1, x2, y2 = box
    x = (torch.arange(WIDTH) + 0.5 - x1) / (x2 - x1) * 2 - 1
    y = (torch.arange(HEIGHT) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1)
    return F.grid_sample(cells[None, None], grid[None], align_corners=False)[0, 0]


def test_pasting_differs_from_torchvisions_by_its_rounding_of_the_box_alone():
    """Blobs in boxes of any size: all but the pixel by which it widens and shifts a box."""
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(50):
        noise = torch.rand(1, 1, 4, 4, generator=generator)
        cells = F.interpolate(noise, (28, 28), mode="bicubic").clamp(0, 1)[0, 0]
        corner = torch.rand(2, generator=generator) * torch.tensor([WIDTH / 2, HEIGHT / 2])
        side = 10 + torch.rand(2, generator=generator) * torch.tensor([WIDTH / 2, HEIGHT / 2])
        box = torch.cat([corner, corner + side])
        rows, columns, mask = paste(cells.numpy(), box.tolist(), (HEIGHT, WIDTH))
        ours = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        ours[rows, columns] = torch.from_numpy(mask)
        theirs = paste_masks_in_image(cells[None, None], box[None], (HEIGHT, WIDTH))[0, 0] >= 0.5
        shares.append((ours == theirs).float().mean())
        hulls = [torch.cat([m.nonzero().amin(0), m.nonzero().amax(0)]) for m in (ours, theirs)]
        assert (hulls[0] - hulls[1]).abs().max() <= 2
    assert torch.stack(shares).mean() >= 0.998
