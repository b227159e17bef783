"""YOLOv2 against a twin in plain Python, its first stage, and the paper's numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import DetkitError
from detkit.models.anchor_stage import WithAnchors
from detkit.models.build import build
from detkit.models.yolo_v2 import COCO_ANCHORS, VOC_ANCHORS, Neck, YOLOv2
from detkit.structures import Classes, Targets, full_sizes
from detkit.training.recipe import intervals

ANCHORS = [[12, 10], [20, 30], [40, 25]]
CELL = 16


class Fake(Backbone):
    """Levels of stride 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = {"3": 6, "4": 8}, {"3": 8, "4": 16}
        self.three, self.four = nn.Conv2d(3, 6, 8, stride=8), nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, images, taps=()):
        fine = torch.tanh(self.three(images))
        return {"3": fine, "4": torch.tanh(self.four(images))}


def network(**settings) -> YOLOv2:
    torch.manual_seed(0)
    settings = {"anchors": ANCHORS, "neck_width": 1 / 64, **settings}
    model = YOLOv2(Fake(), Classes.numbered(3), **settings)
    with torch.no_grad():
        model.head.weight.normal_(std=0.5)
        model.head.bias.normal_(std=0.5)
    return model


def random_batch(seed: int, count: int = 3, side: int = 64) -> tuple[Tensor, list[Targets]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    targets = []
    for i in range(count):
        low = torch.rand(3 * i, 2, generator=generator) * side * 0.7
        size = torch.rand(3 * i, 2, generator=generator) * side * 0.4 + 1
        boxes = torch.cat([low, (low + size).clamp(max=side)], 1)
        labels = torch.randint(0, 3, (3 * i,), generator=generator)
        targets.append(Targets(boxes, labels, crowd=torch.arange(3 * i) == 4))
    return images, targets


def iou(a, b, crowd=False) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1])
    return w * h / (area if crowd else area + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def bce(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -(target * math.log(p) + (1 - target) * math.log(1 - p))


def box_of(t, row: int, column: int, anchor) -> list[float]:
    x = (column + 1 / (1 + math.exp(-t[0]))) * CELL
    y = (row + 1 / (1 + math.exp(-t[1]))) * CELL
    w, h = anchor[0] * math.exp(t[2]), anchor[1] * math.exp(t[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def slow_losses(output: Tensor, targets: list[Targets], sizes: Tensor) -> dict[str, float]:
    """Predictor by predictor, in plain Python."""
    anchors = sorted(ANCHORS, key=lambda s: s[0] * s[1])
    total = dict.fromkeys(("box", "objectness", "classes", "anchors"), 0.0)
    for i, target in enumerate(targets):
        boxes, crowd = target.boxes.tolist(), target.crowd.tolist()
        height, width = sizes[i].tolist()
        owners: dict[tuple[int, int, int], int] = {}
        for n, (x1, y1, x2, y2) in enumerate(boxes):
            shapes = [iou((0, 0, x2 - x1, y2 - y1), (0, 0, *size)) for size in anchors]
            place = int((y1 + y2) / 2 // CELL), int((x1 + x2) / 2 // CELL)
            if not crowd[n]:
                owners.setdefault((*place, shapes.index(max(shapes))), n)
        part = dict.fromkeys(total, 0.0)
        for row in range(output.shape[2]):
            for column in range(output.shape[3]):
                for a, (w, h) in enumerate(anchors):
                    t = output[i, a * 8 : (a + 1) * 8, row, column].tolist()
                    found = box_of(t, row, column, (w, h))
                    n = owners.get((row, column, a))
                    if n is None:
                        if column * CELL < width and row * CELL < height:
                            covered = [iou(found, b, c) for b, c in zip(boxes, crowd, strict=True)]
                            if max(covered, default=0) <= 0.6:
                                part["objectness"] += bce(t[4], 0)
                        pulled = bce(t[0], 0.5) + bce(t[1], 0.5) + (t[2] ** 2 + t[3] ** 2) / 2
                        part["anchors"] += 0.01 * (pulled - 2 * math.log(2))
                        continue
                    x1, y1, x2, y2 = boxes[n]
                    part["objectness"] += 5 * bce(t[4], iou(found, boxes[n]))
                    part["box"] += (2 - (x2 - x1) * (y2 - y1) / (width * height)) * (
                        bce(t[0], (x1 + x2) / 2 / CELL - column)
                        + bce(t[1], (y1 + y2) / 2 / CELL - row)
                        + (t[2] - math.log((x2 - x1) / w)) ** 2 / 2
                        + (t[3] - math.log((y2 - y1) / h)) ** 2 / 2
                    )
                    sure = math.exp(t[5 + int(target.labels[n])]) / sum(map(math.exp, t[5:]))
                    part["classes"] -= math.log(sure)
        for key, value in part.items():
            total[key] += value / max(1, len(owners)) / len(targets)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_losses_are_the_slow_references(seed):
    model = network()
    images, targets = random_batch(seed)
    sizes = torch.tensor([[64, 64], [64, 40], [64, 64]])
    expected = slow_losses(model.outputs(images, sizes).double(), targets, sizes)
    losses = {k: v.item() for k, v in WithAnchors(model)(images, targets, sizes).items()}
    assert losses == pytest.approx(expected, rel=1e-4)
    assert min(expected.values()) > 0.01
    losses.pop("anchors")
    assert {k: v.item() for k, v in model(images, targets, sizes).items()} == pytest.approx(losses)


def test_predictions_are_the_slow_references():
    model = network(score_thresh=0.05, nms_iou=0.4, detections=30).eval()
    images, _ = random_batch(3, count=2)
    sizes = full_sizes(images)
    with torch.no_grad():
        found, output = model(images), model.outputs(images, sizes)
    anchors = sorted(ANCHORS, key=lambda s: s[0] * s[1])
    for i, detections in enumerate(found):
        expected = []
        for k in range(3):
            rows = []
            for place in range(16):
                for a, anchor in enumerate(anchors):
                    row, column = divmod(place, 4)
                    t = output[i, a * 8 : (a + 1) * 8, row, column]
                    score = float(t[4].sigmoid() * t[5:].softmax(0)[k])
                    box = box_of(t.tolist(), row, column, anchor)
                    if score > 0.05:
                        rows.append((score, [min(max(v, 0.0), 64.0) for v in box]))
            if rows:
                scored = torch.tensor([b for _, b in rows]), torch.tensor([s for s, _ in rows])
                expected += [(*rows[j], k) for j in nms(*scored, 0.4).tolist()]
        expected = sorted(expected, key=lambda r: -r[0])[:30]
        assert len(expected) > 10
        assert detections.labels.tolist() == [k for _, _, k in expected]
        torch.testing.assert_close(detections.scores, torch.tensor([s for s, _, _ in expected]))


def test_the_passthrough_puts_the_four_cells_of_a_square_side_by_side():
    torch.manual_seed(0)
    neck = Neck([8, 6], 1 / 64).eval()
    seen: list[Tensor] = []
    neck.joined.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    coarse, fine = torch.randn(1, 8, 3, 4), torch.randn(1, 6, 6, 8)
    neck([coarse, fine])
    narrowed = neck.passthrough(fine)
    for channel in range(4):
        for place in range(4):
            cells = narrowed[:, channel, place // 2 :: 2, place % 2 :: 2]
            assert torch.equal(seen[0][:, 4 * channel + place], cells)
    assert neck([coarse, fine[..., :5, :7]]).shape == neck([coarse, fine]).shape


@pytest.mark.parametrize(
    ("model", "backbone", "classes", "parameters"),
    [
        # a weights file of Darknet's has these and two statistics for each norm's channel:
        # yolov2-voc.weights 202,704,260 bytes, yolov2-tiny-voc.weights 63,471,556
        ("yolo_v2", "darknet19", 20, 50_655_389),
        ("yolo_v2", "darknet19", 80, 50_962_889),
        ("tiny_yolo_v2", "darknet_tiny_v2", 20, 15_861_773),
    ],
)
def test_the_papers_networks_have_their_size(model, backbone, classes, parameters):
    with torch.device("meta"):
        network = build({"name": model}, {"name": backbone}, Classes.numbered(classes))
        output = network.outputs(torch.empty(1, 3, 416, 416), torch.tensor([[416, 416]]))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert output.shape == (1, 5 * (5 + classes), 13, 13)


@pytest.mark.parametrize(
    ("file", "anchors"), [("yolov2.cfg", COCO_ANCHORS), ("yolov2-voc.cfg", VOC_ANCHORS)]
)
def test_the_anchors_are_darknets(file, anchors, shared):
    text = (shared / "darknet/cfg" / file).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("anchors")]
    numbers = [32 * float(n) for n in line.partition("=")[2].split(",")]
    assert [n for pair in anchors for n in pair] == pytest.approx(numbers, abs=1e-3)


def test_the_first_stage_is_12_800_images_and_the_schedule_goes_on():
    model = network(anchor_images=12800)
    first, then = intervals(model.stages(), steps=10000, update=64)
    assert (first.start, first.end, then.start, then.end) == (0, 200, 200, 10000)
    assert first.first == then.first == 0
    assert first.last == then.last == 10000
    short, _ = intervals(model.stages(), steps=100, update=64)
    assert short.end == 25
    none, rest = intervals(model.stages(), steps=3, update=64)
    assert (none.end, rest.start, rest.end) == (0, 0, 3)
    assert len(network(anchor_images=0).stages()) == 1


@pytest.mark.parametrize("side", [33, 47, 70, 96])
def test_sides_that_strides_do_not_divide_work(side):
    model = network()
    images, targets = random_batch(0, side=side)
    assert all(v.isfinite() for v in model(images, targets).values())
    assert len(model(images)) == 3


def test_all_objects_in_one_cell_and_boxes_of_one_pixel_train():
    model = network()
    images, _ = random_batch(0, count=1)
    boxes = torch.tensor([[20.0, 20, 21, 21]]) + torch.arange(9)[:, None] / 10
    losses = model(images, [Targets(boxes, torch.arange(9) % 3)])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"anchors": []}, "0 anchors"),
        ({"anchors": [[10, 0]]}, "not a width and a height"),
        ({"loss_weights": [1, 1]}, "2 weights of losses, not 4"),
        ({"class_weights": [1.0, 2.0]}, "2 class weights for 3 classes"),
    ],
)
def test_impossible_settings_are_named(settings, words):
    with pytest.raises(DetkitError, match=words):
        network(**settings)


def test_the_passthrough_reads_the_finer_level():
    model = network()
    assert model.levels == ["4", "3"]
    images, _ = random_batch(0)
    maps = model.backbone(normalize(images, model.mean_std))
    assert model.neck([maps["4"], maps["3"]]).shape[2:] == maps["4"].shape[2:]
