"""YOLO against a twin in plain Python, predictor by predictor, and against the paper's numbers."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from detkit.backbones.backbone import Backbone
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.yolo_v1 import YOLOv1, connected, last_layer, losses
from detkit.structures import Classes, Targets

SIDE = 64


class Fake(Backbone):
    """A backbone with one level of 4×4 cells for 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = {"4": 8}, {"4": 16}
        self.conv = nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, images, taps=()):
        return {"4": torch.tanh(self.conv(images))}


def network(**settings) -> YOLOv1:
    torch.manual_seed(0)
    return YOLOv1(Fake(), Classes.numbered(3), side=SIDE, cells=4, hidden=[16], **settings)


def iou(a, b) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def box_of(t, row, column, cells) -> list[float]:
    x, y = (column + t[0]) * SIDE / cells, (row + t[1]) * SIDE / cells
    w, h = t[2] ** 2 * SIDE, t[3] ** 2 * SIDE
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def slow_losses(rows, targets, cells, boxes):
    """Equation 3, term by term, and its gradient by the derivative of each square."""
    coord, no_object = 5.0, 0.5
    total = {"box": 0.0, "objectness": 0.0, "classes": 0.0}
    gradient = [[[0.0] * len(rows[0][0]) for _ in image] for image in rows]
    for i, (image, target) in enumerate(zip(rows, targets, strict=True)):
        owners: dict[int, int] = {}
        crowds = [b for b, c in zip(target["boxes"], target["crowd"], strict=True) if c]
        for n, (x1, y1, x2, y2) in enumerate(target["boxes"]):
            column = min(cells - 1, int((x1 + x2) / 2 / SIDE * cells))
            row = min(cells - 1, int((y1 + y2) / 2 / SIDE * cells))
            if not target["crowd"][n]:
                owners.setdefault(row * cells + column, n)
        for cell, values in enumerate(image):
            row, column = divmod(cell, cells)

            def square(key, weight, place, wanted, values=values, i=i, cell=cell):
                error = values[place] - wanted
                total[key] += weight * error**2 / len(rows)
                gradient[i][cell][place] += 2 * weight * error / len(rows)

            responsible = None
            if cell in owners:
                x1, y1, x2, y2 = target["boxes"][owners[cell]]
                found = [box_of(values[5 * a :], row, column, cells) for a in range(boxes)]
                overlaps = [iou(box, (x1, y1, x2, y2)) for box in found]
                responsible = overlaps.index(max(overlaps))
                if max(overlaps) == 0:
                    far = [math.dist(box, (x1, y1, x2, y2)) for box in found]
                    responsible = far.index(min(far))
                start = 5 * responsible
                square("box", coord, start, (x1 + x2) / 2 / SIDE * cells - column)
                square("box", coord, start + 1, (y1 + y2) / 2 / SIDE * cells - row)
                square("box", coord, start + 2, math.sqrt((x2 - x1) / SIDE))
                square("box", coord, start + 3, math.sqrt((y2 - y1) / SIDE))
                square("objectness", 1.0, start + 4, overlaps[responsible])
                for k in range(len(values) - 5 * boxes):
                    wanted = float(k == target["labels"][owners[cell]])
                    square("classes", 1.0, 5 * boxes + k, wanted)
            x, y = (column + 0.5) * SIDE / cells, (row + 0.5) * SIDE / cells
            if any(a <= x < c and b <= y < d for a, b, c, d in crowds):
                continue
            for a in range(boxes):
                if a != responsible:
                    square("objectness", no_object, 5 * a + 4, 0.0)
    return total, gradient


def random_case(seed: int):
    """Outputs and objects of two images; among them crowds, shared cells, boxes of one pixel."""
    draw = random.Random(seed)
    cells, boxes, classes = draw.choice([2, 3, 7]), draw.choice([1, 2, 3]), draw.choice([1, 4])
    rows = [
        [[draw.gauss(0.4, 0.4) for _ in range(5 * boxes + classes)] for _ in range(cells**2)]
        for _ in range(2)
    ]
    targets = []
    for _ in range(2):
        found = []
        for _ in range(draw.choice([0, 1, 2, 5, 12])):
            w, h = (draw.choice([1, draw.uniform(2, 40)]) for _ in range(2))
            x, y = draw.uniform(0, SIDE - w), draw.uniform(0, SIDE - h)
            found.append([x, y, x + w, y + h])
        labels = [draw.randrange(classes) for _ in found]
        crowd = [draw.random() < 0.15 for _ in found]
        targets.append({"boxes": found, "labels": labels, "crowd": crowd})
    return rows, targets, cells, boxes


def test_losses_and_gradients_are_the_slow_references():
    seen = 0
    for seed in range(500):
        rows, targets, cells, boxes = random_case(seed)
        expected, slope = slow_losses(rows, targets, cells, boxes)
        outputs = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
        objects = [
            Targets(
                torch.tensor(t["boxes"], dtype=torch.float64).reshape(-1, 4),
                torch.tensor(t["labels"], dtype=torch.int64),
                crowd=torch.tensor(t["crowd"], dtype=torch.bool),
            )
            for t in targets
        ]
        found = losses(outputs, objects, SIDE, boxes)
        assert {k: v.item() for k, v in found.items()} == pytest.approx(expected, rel=1e-9)
        sum(found.values()).backward()
        torch.testing.assert_close(outputs.grad, torch.tensor(slope, dtype=torch.float64))
        seen += expected["box"] > 0
    assert seen > 300


def test_predictions_are_the_slow_references():
    model = network(score_thresh=0.02, nms_iou=0.3, detections=20).eval()
    with torch.no_grad():
        for layer in (model.head[0], model.head[-1]):
            layer.weight.normal_(std=0.12)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    sizes = torch.tensor([[64, 64], [64, 40]])
    seen: list[Tensor] = []
    model.head.register_forward_hook(lambda *hooked: seen.append(hooked[2]))
    with torch.no_grad():
        found = model(images, sizes=sizes)
    for i, detections in enumerate(found):
        by_class: dict[int, list[tuple[float, list[float]]]] = {0: [], 1: [], 2: []}
        limits = [sizes[i, 1].item(), sizes[i, 0].item()] * 2
        for cell, values in enumerate(seen[0][i].view(16, 13).tolist()):
            for a in range(2):
                box = box_of(values[5 * a :], *divmod(cell, 4), 4)
                box = [min(max(v, 0.0), s) for v, s in zip(box, limits, strict=True)]
                if box[2] - box[0] < 1e-3 or box[3] - box[1] < 1e-3:
                    continue
                for k in range(3):
                    sure = min(max(values[5 * a + 4], 0), 1) * min(max(values[10 + k], 0), 1)
                    if sure > 0.02:
                        by_class[k].append((sure, box))
        expected = []
        for k, rows in by_class.items():
            if rows:
                scored = torch.tensor([b for _, b in rows]), torch.tensor([s for s, _ in rows])
                expected += [(*rows[j], k) for j in nms(*scored, 0.3).tolist()]
        expected = sorted(expected, key=lambda r: -r[0])[:20]
        assert len(expected) > 4
        assert detections.labels.tolist() == [k for _, _, k in expected]
        torch.testing.assert_close(detections.scores, torch.tensor([s for s, _, _ in expected]))
        torch.testing.assert_close(detections.boxes, torch.tensor([b for _, b, _ in expected]))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Darknet's yolov1.cfg without its norms, and yolo-tiny: 24 and 9 convolutions, 20 classes
        ("yolo_v1", 271_703_550),
        ("fast_yolo", 45_089_374),
    ],
)
def test_the_papers_networks_have_their_size(name, parameters):
    with torch.device("meta"):
        model = build({"name": name}, {"name": name}, Classes.numbered(20))
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        (maps,) = model.backbone(torch.empty(1, 3, 448, 448)).values()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(convs) == {"yolo_v1": 24, "fast_yolo": 9}[name]
    assert maps.shape == (1, 1024, 7, 7)
    assert model.head[-1].out_features == 7 * 7 * 30


def test_behind_another_backbone_the_layers_are_narrow():
    with torch.device("meta"):
        model = build({"name": "yolo_v1"}, {"name": "mobilenet_v2"}, Classes.numbered(20))
        (maps,) = model.backbone(torch.empty(1, 3, 448, 448)).values()
    assert maps.shape == (1, 1280, 14, 14)
    assert model.neck(maps).shape == (1, 64, 7, 7)
    assert [layer.in_features for layer in model.head if isinstance(layer, nn.Linear)] == [64 * 49]


def test_a_map_of_as_many_cells_as_the_head_has_is_not_halved():
    assert network().neck(torch.zeros(2, 8, 4, 4)).shape == (2, 64, 4, 4)
    assert not len(network(convolutions=[]).neck)


def test_dropout_stands_behind_the_first_connected_layer_or_in_front_of_the_only_one():
    assert [type(layer) for layer in connected([8], 0.5)] == [nn.Dropout]
    assert [type(layer) for layer in connected([8, 4, 4], 0.5)] == [
        *(nn.Linear, nn.LeakyReLU, nn.Dropout),
        *(nn.Linear, nn.LeakyReLU),
    ]


def test_an_untrained_last_layer_says_boxes_in_the_middle_of_their_cells():
    """Its thousands of inputs would else add up to noise that few images never rid it of."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        last = last_layer(4096, 49, 2, 3)
        rows = last(torch.randn(8, 4096)).view(8, 49, -1).detach()
    boxes = rows[..., :10].unflatten(2, (2, 5))
    assert (boxes[..., :4] - 0.5).abs().max() < 0.5
    assert (boxes[..., :4] - 0.5).std() < 0.1
    assert boxes[..., 4].std() < 0.1


@pytest.mark.parametrize("shape", [(48, 64), (64, 96), (128, 128)])
def test_another_size_is_refused_with_the_reason(shape):
    with pytest.raises(DetkitError, match="64×64, a weight for each place") as error:
        network()(torch.zeros(1, 3, *shape, dtype=torch.uint8))
    assert "transforms.long_side=64" in str(error.value)


def test_a_handful_of_pictures_is_learnt_by_heart():
    images = torch.full((4, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    targets = []
    for i, image in enumerate(images):
        left, top, label = 4 + 9 * i, 30 - 8 * i, i % 3
        image[label, top : top + 22, left : left + 20] = 250
        box = torch.tensor([[left, top, left + 20, top + 22]], dtype=torch.float32)
        targets.append(Targets(box, torch.tensor([label])))
    model = network(dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    for detections, target in zip(model.eval()(images), targets, strict=True):
        assert detections.labels[0] == target.labels[0]
        assert detections.scores[0] > 0.6
        assert iou(detections.boxes[0].tolist(), target.boxes[0].tolist()) > 0.7
