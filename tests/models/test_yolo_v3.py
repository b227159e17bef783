"""YOLOv3 against a slow reference that is written box by box, and what could break it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import DetkitError
from detkit.models.yolo_v3 import COCO_ANCHORS, YOLOv3
from detkit.structures import Classes, Targets

SMALL = [[6, 8], [12, 10], [14, 20], [20, 16], [24, 30], [30, 24], [40, 32], [36, 48], [56, 56]]


class Fake(Backbone):
    """Strided convolutions with a map for each level."""

    def __init__(self, levels: str = "2345", width: int = 8) -> None:
        super().__init__()
        self.channels = dict.fromkeys(levels, width)
        self.strides = {level: 2 ** int(level) for level in levels}
        self.layers = nn.ModuleList(
            nn.Conv2d(width if i else 3, width, 3, stride=2, padding=1)
            for i in range(int(max(levels)))
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = {}
        for i, layer in enumerate(self.layers):
            images = layer(images).relu()
            maps[str(i + 1)] = images
        return {level: maps[level] for level in self.channels}


def network(num_classes: int = 3, levels: str = "2345", **settings) -> YOLOv3:
    torch.manual_seed(0)
    model = YOLOv3(
        Fake(levels), Classes.numbered(num_classes), neck_width=1 / 32, anchors=SMALL, **settings
    )
    with torch.no_grad():  # predictions that differ, as after training
        for head in model.heads:
            nn.init.normal_(head[-1].weight, std=0.5)
            nn.init.normal_(head[-1].bias)
    return model


def random_batch(count: int = 4, seed: int = 0, side: int = 64):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    targets = []
    for i in range(count):
        low = torch.rand(2 * i, 2, generator=generator) * 40
        high = low + 4 + torch.rand(2 * i, 2, generator=generator) * 40
        boxes = torch.cat([low, high.clamp(max=side)], 1)
        labels = torch.randint(0, 3, (2 * i,), generator=generator)
        crowd = torch.arange(2 * i) == 3  # one crowd in each image of at least four
        targets.append(Targets(boxes, labels, crowd=crowd))
    return images, targets


def cells_of(model: YOLOv3, images: Tensor, sizes: Tensor) -> list[Tensor]:
    """Raw outputs (B, A·(5+K), H, W) a level, by the public parts."""
    levels = model.backbone(normalize(images, model.mean_std, sizes))
    maps = model.neck([levels[level] for level in model.levels])
    return [head(m) for head, m in zip(model.heads, maps, strict=True)]


def iou(a, b, crowd=False) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1])
    return w * h / (area if crowd else area + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def bce(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -(target * math.log(p) + (1 - target) * math.log(1 - p))


def slow_losses(model: YOLOv3, images, targets, sizes) -> dict[str, float]:
    """Predictor by predictor and box by box, in plain Python."""
    outputs = [o.double() for o in cells_of(model, images, sizes)]
    total = {"box": 0.0, "objectness": 0.0, "classes": 0.0}
    anchors = sorted(SMALL, key=lambda s: s[0] * s[1])
    numbers = 5 + model.num_classes
    for i, target in enumerate(targets):
        boxes, crowd = target.boxes.tolist(), target.crowd.tolist()
        height, width = sizes[i].tolist()
        owners: dict[tuple[int, int, int, int], int] = {}
        for n, (x1, y1, x2, y2) in enumerate(boxes):
            if crowd[n]:
                continue
            shapes = [iou((0, 0, x2 - x1, y2 - y1), (0, 0, *size)) for size in anchors]
            best = shapes.index(max(shapes))
            stride = model.strides[best // 3]
            place = (
                best // 3,
                int((y1 + y2) / 2 // stride),
                int((x1 + x2) / 2 // stride),
                best % 3,
            )
            owners.setdefault(place, n)
        part = dict.fromkeys(total, 0.0)
        for level, output in enumerate(outputs):
            stride = model.strides[level]
            for row in range(output.shape[2]):
                for column in range(output.shape[3]):
                    for a in range(3):
                        t = output[i, a * numbers : (a + 1) * numbers, row, column].tolist()
                        w, h = anchors[level * 3 + a]
                        n = owners.get((level, row, column, a))
                        if n is not None:
                            x1, y1, x2, y2 = boxes[n]
                            part["objectness"] += bce(t[4], 1)
                            scale = 2 - (x2 - x1) * (y2 - y1) / (width * height)
                            part["box"] += scale * (
                                bce(t[0], (x1 + x2) / 2 / stride - column)
                                + bce(t[1], (y1 + y2) / 2 / stride - row)
                                + (t[2] - math.log((x2 - x1) / w)) ** 2 / 2
                                + (t[3] - math.log((y2 - y1) / h)) ** 2 / 2
                            )
                            label = target.labels[n].item()
                            for k in range(model.num_classes):
                                part["classes"] += bce(t[5 + k], float(k == label))
                            continue
                        if column * stride >= width or row * stride >= height:
                            continue
                        x = (column + 1 / (1 + math.exp(-t[0]))) * stride
                        y = (row + 1 / (1 + math.exp(-t[1]))) * stride
                        w, h = w * math.exp(t[2]), h * math.exp(t[3])
                        seen = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                        if all(iou(seen, b, c) <= 0.5 for b, c in zip(boxes, crowd, strict=True)):
                            part["objectness"] += bce(t[4], 0)
        for key, value in part.items():
            total[key] += value / max(1, len(owners)) / len(targets)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_the_slow_references(seed):
    model = network()
    images, targets = random_batch(seed=seed)
    sizes = torch.tensor([[64, 64], [64, 64], [64, 50], [64, 64]])
    losses = {k: v.item() for k, v in model(images, targets, sizes).items()}
    expected = slow_losses(model, images, targets, sizes)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert all(value > 0.1 for value in expected.values())


def test_predictions_are_the_slow_references():
    model = network(score_thresh=0.02, nms_iou=0.4, detections=30).eval()
    images, _ = random_batch(3, seed=5)
    sizes = torch.tensor([[64, 64], [64, 40], [33, 64]])
    with torch.no_grad():
        found = model(images, sizes=sizes)
        outputs = cells_of(model, images, sizes)
    anchors = sorted(SMALL, key=lambda s: s[0] * s[1])
    for i, detections in enumerate(found):
        by_class: dict[int, list[tuple[float, list[float]]]] = {0: [], 1: [], 2: []}
        height, width = sizes[i].tolist()
        for level, output in enumerate(outputs):
            stride = model.strides[level]
            for a, row, column in (
                (a, r, c)
                for a in range(3)
                for r in range(output.shape[2])
                for c in range(output.shape[3])
            ):
                t = output[i, a * 8 : (a + 1) * 8, row, column]
                x, y = (column + t[0].sigmoid()) * stride, (row + t[1].sigmoid()) * stride
                w, h = anchors[level * 3 + a]
                w, h = w * t[2].exp(), h * t[3].exp()
                box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                limits = [width, height, width, height]
                box = [min(max(float(v), 0.0), s) for v, s in zip(box, limits, strict=True)]
                if box[2] - box[0] < 1e-3 or box[3] - box[1] < 1e-3:
                    continue
                for k in range(3):
                    score = float(t[4].sigmoid() * t[5 + k].sigmoid())
                    if score > 0.02:
                        by_class[k].append((score, box))
        expected = []
        for k, rows in by_class.items():
            boxes, scores = torch.tensor([b for _, b in rows]), torch.tensor([s for s, _ in rows])
            if rows:
                expected += [(*rows[j], k) for j in nms(boxes, scores, 0.4).tolist()]
        expected = sorted(expected, key=lambda r: -r[0])[:30]
        assert len(expected) > 10
        assert detections.labels.tolist() == [k for _, _, k in expected]
        torch.testing.assert_close(detections.scores, torch.tensor([s for s, _, _ in expected]))
        torch.testing.assert_close(
            detections.boxes, torch.tensor([b for _, b, _ in expected]), rtol=1e-4, atol=1e-3
        )


def test_what_comes_back_depends_on_the_arguments_alone():
    model = network()
    images, targets = random_batch(2)
    for mode in (True, False):
        model.train(mode)
        assert isinstance(model(images), list)
        assert set(model(images, targets)) == {"box", "objectness", "classes"}


@pytest.mark.parametrize("counts", [(0, 0), (0, 2), (1, 0)])
def test_images_without_objects_train(counts):
    model = network()
    images, _ = random_batch(2)
    box = torch.tensor([[10.0, 10, 30, 40]])
    targets = [Targets(box.repeat(n, 1), torch.zeros(n, dtype=torch.int64)) for n in counts]
    losses = model(images, targets)
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_loss_of_a_batch_is_the_mean_of_its_images():
    model = network().eval()  # batch norm by stored statistics, else images see each other
    images, targets = random_batch(4)
    together = model(images, targets)
    alone = [model(images[i : i + 1], targets[i : i + 1]) for i in range(4)]
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([a[name] for a in alone]).mean())


def test_padding_adds_no_loss_and_no_detections():
    model = network(score_thresh=0.0).eval()
    images, targets = random_batch(2, seed=3)
    images[:, :, :, 32:] = 0
    targets = [Targets(torch.tensor([[4.0, 4, 20, 24]]), torch.tensor([1])) for _ in range(2)]
    sizes = torch.tensor([[64, 32], [64, 32]])
    for detections in model(images, sizes=sizes):
        assert len(detections)
        assert detections.boxes[:, 2].max() <= 32
    before = model(images, targets, sizes)
    wide = nn.functional.pad(images, (0, 64))  # objectness of the new cells must not count
    after = model(wide, targets, sizes)
    torch.testing.assert_close(before["objectness"], after["objectness"], rtol=1e-3, atol=1e-3)


def test_crowds_are_no_objects_and_no_mistakes():
    model = network()
    images, _ = random_batch(1)
    label = torch.tensor([0])
    everything = torch.tensor([[-1e6, -1e6, 1e6, 1e6]])
    empty = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    crowd = Targets(everything, label, crowd=torch.tensor([True]))
    losses = model(images, [crowd])
    assert [value.item() for value in losses.values()] == [0, 0, 0]
    assert model(images, [empty])["objectness"] > 1


def test_difficult_objects_are_learnt_as_others():
    model = network()
    images, _ = random_batch(1)
    box, label = torch.tensor([[10.0, 10, 30, 40]]), torch.tensor([1])
    plain = model(images, [Targets(box, label)])
    hard = model(images, [Targets(box, label, difficult=torch.tensor([True]))])
    assert {k: v.item() for k, v in plain.items()} == {k: v.item() for k, v in hard.items()}


def test_class_weights_scale_the_class_loss():
    images, _ = random_batch(1)
    targets = [Targets(torch.tensor([[10.0, 10, 30, 40]]), torch.tensor([1]))]
    plain = network()(images, targets)
    weighted = network(class_weights=[1, 3, 1])(images, targets)
    torch.testing.assert_close(weighted["classes"], 3 * plain["classes"])
    torch.testing.assert_close(weighted["box"], plain["box"])


def test_an_untrained_network_is_silent():
    torch.manual_seed(0)
    model = YOLOv3(Fake(), Classes.numbered(3), neck_width=1 / 32)
    images, _ = random_batch(2)
    assert [len(d) for d in model(images)] == [0, 0]
    logits = torch.cat(
        [
            o.unflatten(1, (3, 8))[:, :, 4].flatten()
            for o in cells_of(model, images, torch.tensor([[64, 64]] * 2))
        ]
    )
    assert logits.sigmoid().mean().item() == pytest.approx(1e-3, rel=0.5)


@pytest.mark.parametrize(
    ("levels", "chosen"), [("2345", "345"), ("234", "234"), ("3456", "345"), ("4", "4")]
)
def test_the_coarsest_three_levels_serve(levels, chosen):
    model = network(levels=levels)
    assert "".join(model.levels) == chosen
    assert [len(level) for level in model.grid.anchors] == [9 // len(chosen)] * len(chosen)
    images, targets = random_batch(3)
    sum(model(images, targets).values()).backward()


@pytest.mark.parametrize("side", [33, 47, 70, 96])
def test_sides_that_strides_do_not_divide_work(side):
    model = network()
    images, targets = random_batch(2, side=side)
    assert all(v.isfinite() for v in model(images, targets).values())
    assert len(model(images)) == 2


def test_the_papers_anchors_and_neck():
    model = YOLOv3(Fake(), Classes.numbered(80))
    assert model.neck.widths == [128, 256, 512]
    assert [head[-1].out_channels for head in model.heads] == [255, 255, 255]
    assert model.grid.all_anchors.tolist() == [list(map(float, a)) for a in COCO_ANCHORS]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"anchors": [[10, 13]] * 4}, "4 anchors cannot be shared out over 3 levels"),
        ({"anchors": []}, "0 anchors"),
        ({"anchors": [[10, 0]] * 3}, "not a width and a height"),
        ({"class_weights": [1.0, 2.0]}, "2 class weights for 3 classes"),
    ],
)
def test_impossible_settings_are_named(settings, words):
    with pytest.raises(DetkitError, match=words):
        YOLOv3(Fake(), Classes.numbered(3), neck_width=1 / 32, **settings)


def test_a_handful_of_pictures_is_learnt_by_heart():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    images = torch.full((4, 3, 64, 64), 90, dtype=torch.uint8)
    targets = []
    for image in images:
        low = torch.randint(0, 30, (2,), generator=generator)
        high = low + torch.randint(14, 30, (2,), generator=generator)
        label = int(torch.randint(0, 3, (1,), generator=generator))
        image[label, low[1] : high[1], low[0] : high[0]] = 250
        targets.append(Targets(torch.cat([low, high])[None].float(), torch.tensor([label])))
    model = YOLOv3(Fake(width=24), Classes.numbered(3), neck_width=1 / 16, anchors=SMALL)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    model.eval()
    for detections, target in zip(model(images), targets, strict=True):
        assert detections.labels[0] == target.labels[0]
        assert detections.scores[0] > 0.8
        assert iou(detections.boxes[0].tolist(), target.boxes[0].tolist()) > 0.8


def test_under_autocast_losses_and_boxes_are_float32():
    model = network(score_thresh=0.0)
    images, targets = random_batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses, found = model(images, targets), model(images)
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    assert found[0].boxes.dtype == found[0].scores.dtype == torch.float32
