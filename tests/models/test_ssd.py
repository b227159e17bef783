"""SSD against a slow reference of the paper's equations, its numbers, and what could break it."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from detkit.backbones.build import build as build_backbone
from detkit.data import images as decoder
from detkit.data.records import Annotation
from detkit.data.transforms import build as build_transform
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.heads.selection import Selection
from detkit.models.heads.ssd_head import (
    SSDHead,
    box_scales,
    box_shapes,
    boxes_in_images,
    default_boxes,
)
from detkit.structures import Classes, Targets

CASES, K, GRIDS, SIDE = 500, 3, [(4, 4), (2, 2)], 64
SCALES, RATIOS = [0.25, 0.5, 0.8], [[2], [2, 3]]


def network(name="ssd300", classes=20, backbone="vgg16_ssd", width=0.125, **settings):
    torch.manual_seed(0)
    settings = {"name": name, "layer_width": width, **settings}
    return build(settings, {"name": backbone, "width": width}, Classes.numbered(classes))


@pytest.mark.parametrize(("classes", "published"), [(20, 26_285_486), (90, 35_641_826)])
def test_ssd300_has_the_published_number_of_parameters(classes, published):
    """The first is Caffe's SSD300 of VOC (26.3 M), the second torchvision's of COCO."""
    with torch.device("meta"):
        model = network(classes=classes, width=1.0)
    assert sum(p.numel() for p in model.parameters()) == published


@pytest.mark.parametrize(
    ("name", "side", "cells", "steps", "scales", "boxes"),
    [
        (
            *("ssd300", 300, [38, 19, 10, 5, 3, 1], [8, 16, 32, 64, 100, 300]),
            *([0.1, 0.2, 0.37, 0.54, 0.71, 0.88], 8732),
        ),
        (
            *("ssd512", 512, [64, 32, 16, 8, 4, 2, 1], [8, 16, 32, 64, 128, 256, 512]),
            *([0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9], 24564),
        ),
    ],
)
def test_maps_and_default_boxes_are_the_published_ones(name, side, cells, steps, scales, boxes):
    model = network(name).eval()
    images = torch.zeros(1, 3, side, side)
    maps = list(model.backbone(images).values())
    for layer in model.layers:
        maps.append(layer(maps[-1]))
    assert [m.shape[2] for m in maps] == [m.shape[3] for m in maps] == cells
    assert model.steps(images, maps) == [(step, step) for step in steps]
    squares = [shapes[0, 0] for shapes in model.head.shapes.split(model.head.per_cell)]
    torch.testing.assert_close(torch.stack(squares), torch.tensor(scales))
    assert sum(n * n * a for n, a in zip(cells, model.head.per_cell, strict=True)) == boxes
    assert model.head.predict(maps)[0].shape == (1, boxes, 21)


def test_default_boxes_by_hand():
    """0.2 and 0.3 of 80 × 40 pixels; √0.06 = 0.2449; √2 · 0.2 = 0.2828, 0.2 / √2 = 0.1414."""
    shapes = box_shapes([0.2, 0.3], [[2]])
    expected = [[0.2, 0.2], [0.2449, 0.2449], [0.2828, 0.1414], [0.1414, 0.2828]]
    torch.testing.assert_close(shapes[0], torch.tensor(expected), rtol=0, atol=1e-4)
    centres, sides = default_boxes(shapes, [(1, 2)], [(40.0, 40.0)])
    boxes = boxes_in_images(centres, sides, torch.tensor([[40, 80]]))[0]
    assert boxes[4].tolist() == pytest.approx([60 - 8, 20 - 4, 60 + 8, 20 + 4])
    assert boxes[3].tolist() == pytest.approx([20 - 5.657, 20 - 5.657, 25.657, 25.657], abs=1e-3)


def test_equation_4_without_a_scale_of_the_first_map():
    assert box_scales(6, 0.2, 0.9, None) == [0.2, 0.34, 0.48, 0.62, 0.76, 0.9, 1.04]


def head(seed: int) -> SSDHead:
    torch.manual_seed(seed)
    shapes = box_shapes(SCALES, RATIOS)
    weights = [0.5, 1.0, 2.0] if seed % 2 else None
    selection = Selection(0.01, 0.45, 20)
    return SSDHead(
        [8, 8],
        shapes,
        K,
        pos_iou=0.5,
        negatives=3.0,
        class_weights=weights,
        selection=selection,
    )


def case(seed: int):
    """Outputs of two images, what they show (crowds too), and their sizes in the padded batch."""
    draw = random.Random(seed)
    targets = []
    for _ in range(2):
        boxes, labels, crowd = [], [], []
        for _ in range(draw.choice([0, 1, 2, 5])):
            x, y = draw.uniform(0, 50), draw.uniform(0, 50)
            wide = draw.choice([1.0, draw.uniform(2, 14), draw.uniform(10, 60)])
            boxes.append([x, y, x + wide, y + draw.uniform(1, 50)])
            labels.append(draw.randrange(K))
            crowd.append(draw.random() < 0.2)
        targets.append(
            Targets(
                torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                torch.tensor(labels, dtype=torch.int64),
                crowd=torch.tensor(crowd, dtype=torch.bool),
            )
        )
    sizes = torch.tensor([[SIDE, SIDE], [SIDE, draw.choice([SIDE, 40])]])
    count = 16 * 4 + 4 * 6
    logits, deltas = torch.randn(2, count, K + 1), torch.randn(2, count, 4)
    return logits.requires_grad_(), deltas.requires_grad_(), targets, sizes


def iou(a, b, crowd=False) -> np.float32:
    """In float32: default boxes of one area that hold an object tie here as there."""
    wide = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
    high = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
    own, other = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return wide * high / (own if crowd else own + other - wide * high)


def slow_boxes(height: int, width: int) -> list[tuple[np.float32, ...]]:
    """xc, yc, w, h of section 2.2, cell by cell."""
    boxes = []
    for k, (rows, columns) in enumerate(GRIDS):
        for i in range(rows):
            for j in range(columns):
                sides = [(SCALES[k],) * 2, (math.sqrt(SCALES[k] * SCALES[k + 1]),) * 2]
                for a in RATIOS[k]:
                    w, h = SCALES[k] * math.sqrt(a), SCALES[k] / math.sqrt(a)
                    sides += [(w, h), (h, w)]
                for w, h in sides:
                    centre = (
                        np.float32((j + 0.5) * SIDE / columns),
                        np.float32((i + 0.5) * SIDE / rows),
                    )
                    wide, high = (np.float32(min(side, 1)) for side in (w, h))
                    boxes.append((*centre, wide * np.float32(width), high * np.float32(height)))
    return boxes


def slow_match(anchors, target: Targets, height: int, width: int) -> list[int]:
    """Section 2.2: the best default box of each object, then IoU above a half."""
    corners = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in anchors]
    boxes, crowd = list(target.boxes.numpy()), target.crowd.tolist()
    matched = []
    for (x, y, _, _), corner in zip(anchors, corners, strict=True):
        best, owner = 0.0, -1
        for n, box in enumerate(boxes):
            if not crowd[n] and iou(corner, box) > best:
                best, owner = iou(corner, box), n
        if best < 0.5:
            inside = any(iou(corner, b, True) > 0.5 for b, c in zip(boxes, crowd, strict=True) if c)
            owner = -2 if inside or x > width or y > height else -1
        matched.append(owner)
    pairs = [
        (-iou(corner, box), a, n)
        for a, corner in enumerate(corners)
        for n, box in enumerate(boxes)
        if not crowd[n]
    ]
    used: set[int] = set()
    done: set[int] = set()
    for overlap, a, n in sorted(pairs):
        if overlap < 0 and a not in used and n not in done:
            matched[a] = n
            used.add(a)
            done.add(n)
    return matched


def slow_losses(seed, logits, deltas, targets, sizes):
    """Equations 1 to 3 and their gradients, box by box; each image's divided by its own N."""
    weights = [0.5, 1.0, 2.0, 1.0] if seed % 2 else [1.0] * 4
    total = {"classes": 0.0, "box": 0.0}
    gradients = np.zeros(logits.shape), np.zeros(deltas.shape)
    for i, target in enumerate(targets):
        height, width = sizes[i].tolist()
        anchors = slow_boxes(height, width)
        matched = slow_match(anchors, target, height, width)
        share = 1 / (max(1, sum(n >= 0 for n in matched)) * len(targets))
        shares, losses = [], []
        for a, n in enumerate(matched):
            row = logits[i, a].tolist()
            wanted = target.labels[n].item() if n >= 0 else K
            scale = sum(math.exp(value) for value in row)
            shares.append([math.exp(value) / scale for value in row])
            losses.append(-weights[wanted] * math.log(shares[-1][wanted]))
        background = sorted((a for a, n in enumerate(matched) if n == -1), key=lambda a: -losses[a])
        hard = background[: 3 * sum(n >= 0 for n in matched)]
        for a, n in enumerate(matched):
            if n >= 0 or a in hard:
                wanted = target.labels[n].item() if n >= 0 else K
                total["classes"] += share * losses[a]
                for c in range(K + 1):
                    step = weights[wanted] * (shares[a][c] - (c == wanted))
                    gradients[0][i, a, c] = share * step
            if n >= 0:
                x1, y1, x2, y2 = target.boxes[n].tolist()
                x, y, w, h = map(float, anchors[a])
                wanted_deltas = (
                    ((x1 + x2) / 2 - x) / w / 0.1,
                    ((y1 + y2) / 2 - y) / h / 0.1,
                    math.log((x2 - x1) / w) / 0.2,
                    math.log((y2 - y1) / h) / 0.2,
                )
                for c, goal in enumerate(wanted_deltas):
                    off = deltas[i, a, c].item() - goal
                    total["box"] += share * (off**2 / 2 if abs(off) < 1 else abs(off) - 0.5)
                    gradients[1][i, a, c] = share * max(-1.0, min(1.0, off))
    return total, gradients


def test_losses_and_gradients_are_those_of_the_slow_reference():
    places = default_boxes(
        box_shapes(SCALES, RATIOS), GRIDS, [(SIDE / n, SIDE / n) for n, _ in GRIDS]
    )
    for seed in range(CASES):
        ours = head(seed)
        logits, deltas, targets, sizes = case(seed)
        anchors = boxes_in_images(*places, sizes)
        matched = ours.match(anchors, places[0], sizes, targets)
        found = ours.losses(logits, deltas, anchors, matched, targets)
        sum(found.values()).backward()
        expected, gradients = slow_losses(seed, logits, deltas, targets, sizes)
        for name, value in expected.items():
            assert found[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6), (seed, name)
        for tensor, gradient in zip((logits, deltas), gradients, strict=True):
            np.testing.assert_allclose(
                tensor.grad, gradient, rtol=1e-3, atol=1e-5, err_msg=str(seed)
            )


def test_two_objects_that_want_one_default_box_both_get_one():
    ours = head(0)
    places = default_boxes(box_shapes(SCALES, RATIOS), GRIDS, [(16.0, 16.0), (32.0, 32.0)])
    sizes = torch.tensor([[SIDE, SIDE]])
    anchors = boxes_in_images(*places, sizes)
    boxes = torch.tensor([[1.0, 1, 15, 15], [0, 0, 16, 16], [4, 4, 5, 5]])
    target = Targets(boxes, torch.tensor([0, 1, 2]))
    (matched,) = ours.match(anchors, places[0], sizes, [target])
    assert {0, 1, 2} <= set(matched.tolist())
    assert matched[0] == 1  # the default box of 16 × 16 at the first cell


def test_wanted_deltas_decode_to_the_objects_box():
    ours = head(0)
    anchors = torch.tensor([[10.0, 10, 30, 50]])
    box = torch.tensor([[12.0, 4, 40, 61]])
    torch.testing.assert_close(
        ours.box_coder.decode(ours.box_coder.encode(box, anchors), anchors), box
    )


@pytest.mark.parametrize("boxes", [[], [[5, 5, 6, 6]], [[0, 0, 300, 300]], [[299, 299, 300, 300]]])
def test_images_without_objects_and_boxes_of_a_pixel_train(boxes):
    model = network()
    images = torch.randint(0, 256, (1, 3, 300, 300), dtype=torch.uint8)
    target = Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.zeros(len(boxes), dtype=torch.int64),
    )
    losses = model(images, [target])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all((loss > 0) == bool(boxes) for loss in losses.values())  # N = 0: no loss


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aspect_ratios": [[2]] * 7}, "7 lists of aspect ratios, but 2 levels"),
        ({"aspect_ratios": [[2]]}, "1 lists of aspect ratios, but 2 levels"),
        ({"layers": ["halve", "wide"]}, "'wide'"),
        ({"class_weights": [1.0, 2.0]}, "2 class weights for 20 classes"),
        ({"backbone": "squeezenet1_0_fpn", "aspect_ratios": [[2]] * 2}, "3 levels"),
    ],
)
def test_settings_that_do_not_match_are_named(settings, message):
    with pytest.raises(DetkitError, match=message):
        network(**settings)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2_fpn", "squeezenet1_0", "alexnet"])
@pytest.mark.parametrize("side", [96, 300])
def test_any_backbone_serves_at_any_size(backbone, side):
    """Few cells, of which "valid" layers have none left, too."""
    model = network(backbone=backbone).eval()
    with torch.no_grad():
        found = model(torch.randint(0, 256, (1, 3, side, side + 17), dtype=torch.uint8))
    assert len(found) == 1


def test_under_autocast_losses_and_boxes_are_float32():
    model = network(score_thresh=0.0)
    images = torch.randint(0, 256, (1, 3, 160, 160), dtype=torch.uint8)
    target = Targets(torch.tensor([[5.0, 5, 60, 90]]), torch.tensor([3]))
    with torch.autocast("cpu", torch.bfloat16):
        losses, found = model(images, [target]), model(images)
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    assert found[0].boxes.dtype == found[0].scores.dtype == torch.float32


def test_a_step_on_real_photos_lowers_their_loss(shared):
    """Two photos through the paper's augmentation and the paper's SGD with its weight decay."""
    model = network(width=0.25).train()
    transform = build_transform({"name": "ssd"}, train=True)
    none = np.zeros(1, bool)
    samples = []
    for name in ("000012", "000032"):
        image = decoder.read(shared / "voc2007" / "JPEGImages" / f"{name}.jpg")
        height, width = image.shape[:2]
        box = np.array([[width // 4, height // 4, width // 2, height // 2]], np.float32)
        annotation = Annotation(box, np.array([6]), none, none, np.zeros(1))
        samples.append(transform(image, annotation, seed=(0, len(samples))))
    images = torch.stack([torch.from_numpy(s.image).permute(2, 0, 1) for s in samples])
    assert images.shape == (2, 3, 300, 300)
    targets = [sample.targets for sample in samples]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    seen = []
    for _ in range(4):
        loss: Tensor = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < seen[0]
    assert all(map(math.isfinite, seen))


def test_a_classifiers_fc6_and_fc7_become_convolutions(tmp_path):
    """Every fourth row of fc6 and of fc7, every third of fc6's 7×7 weights."""
    full, _ = build_backbone("vgg16", width=0.125, levels=[4], tail=True)
    trunk = full.state_dict()
    torch.manual_seed(0)
    file = {
        **{k: v.contiguous() for k, v in trunk.items()},
        "classifier.0.weight": torch.randn(512, 64 * 49),
        "classifier.0.bias": torch.randn(512),
        "classifier.3.weight": torch.randn(512, 512),
        "classifier.3.bias": torch.randn(512),
        "classifier.6.weight": torch.randn(10, 512),
    }
    save_file(file, tmp_path / "vgg16.safetensors")
    backbone, _ = build_backbone(
        "vgg16_ssd", width=0.125, weights=str(tmp_path / "vgg16.safetensors")
    )
    whole = file["classifier.0.weight"].reshape(512, 64, 7, 7)
    for row, column, y, x in [(0, 0, 0, 0), (1, 5, 1, 2), (127, 63, 2, 2)]:
        assert backbone.fc6[0].weight[row, column, y, x] == whole[4 * row, column, 3 * y, 3 * x]
    assert torch.equal(backbone.fc6[0].bias, file["classifier.0.bias"][::4])
    assert torch.equal(backbone.fc7[0].weight[..., 0, 0], file["classifier.3.weight"][::4, ::4])
    report = backbone.weights_report
    assert report.missing == ("norm.weight",)
    assert report.not_used == ("classifier.6.weight",)
