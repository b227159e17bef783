"""YOLO9000: its tree and its images of a class alone, against a twin in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from detkit.backbones.backbone import Backbone
from detkit.backbones.darknet_cfg import Graph, plan
from detkit.backbones.darknet_sections import cfg_text, sections
from detkit.interop.hierarchy import read_classes
from detkit.models.build import build
from detkit.models.yolo9000 import YOLO9000
from detkit.structures import Classes, Targets, full_sizes

#  0 thing ─┬─ 1 round        4 animal ─── 5 cat
#           └─ 2 angular ─── 3 star
PARENTS = (-1, 0, 0, 2, -1, 4)
ANCHORS = [[12, 10], [20, 30]]
CELL, NUMBERS = 16, 11


class Fake(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = {"4": 8}, {"4": CELL}
        self.conv = nn.Conv2d(3, 8, CELL, stride=CELL)

    def forward(self, images, taps=()):
        return {"4": torch.tanh(self.conv(images))}


def network(spread: float = 0.5, **settings) -> YOLO9000:
    torch.manual_seed(0)
    classes = Classes(tuple("abcdef"), tuple(range(6)), PARENTS)
    model = YOLO9000(Fake(), classes, anchors=ANCHORS, **settings)
    with torch.no_grad():
        model.head.weight.normal_(std=spread)
        model.head.bias.normal_(std=spread)
    return model


def random_images(count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)


def class_alone(label: int) -> Targets:
    empty = torch.zeros(0, dtype=torch.int64)
    return Targets(torch.zeros(0, 4), empty, image_label=torch.tensor(label))


def rows_of(model: YOLO9000, images: Tensor) -> list[list[list[float]]]:
    """The 11 numbers of each predictor, cell by cell, anchor by anchor."""
    output = model.outputs(images, full_sizes(images)).double()
    rows = output.unflatten(1, (2, NUMBERS)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    return rows.tolist()


def slow_shares(row: list[float]) -> list[float]:
    """P(class | parent)."""
    powers = [math.exp(z) for z in row[5:]]
    totals: dict[int, float] = {}
    for power, parent in zip(powers, PARENTS, strict=True):
        totals[parent] = totals.get(parent, 0.0) + power
    return [power / totals[parent] for power, parent in zip(powers, PARENTS, strict=True)]


def slow_share(row: list[float], label: int) -> float:
    product, shares = 1.0, slow_shares(row)
    while label >= 0:
        product, label = product * shares[label], PARENTS[label]
    return product


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("label", [0, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_an_image_of_a_class_alone_teaches_the_predictor_that_is_surest_of_an_object(label, seed):
    model, images = network(), random_images(1, seed)
    rows = rows_of(model, images)[0]
    best = max(rows, key=lambda row: row[4])
    sure = sigmoid(best[4])
    wanted = 0.0
    if sure < 0.3:
        wanted = -5 * (0.3 * math.log(sure) + 0.7 * math.log(1 - sure))
    losses = {k: v.item() for k, v in model(images, [class_alone(label)]).items()}
    expected = {"box": 0.0, "objectness": wanted, "classes": -math.log(slow_share(best, label))}
    assert losses == pytest.approx(expected, rel=1e-4)


def test_nothing_below_a_label_and_no_other_predictor_learns():
    model, images = network(), random_images(1)
    seen: list[Tensor] = []
    model.head.register_forward_hook(lambda *hooked: seen.append(hooked[2]) or hooked[2])
    rows = rows_of(model, images)[0]
    losses = model(images, [class_alone(2)])
    seen[-1].retain_grad()
    sum(losses.values()).backward()
    gradient = seen[-1].grad.unflatten(1, (2, NUMBERS)).permute(0, 3, 4, 1, 2).flatten(1, 3)[0]
    best = max(range(len(rows)), key=lambda i: rows[i][4])
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [best]
    moved = gradient[best].ne(0).tolist()
    assert moved[:4] == [False] * 4
    # its siblings (1, 2) and its parent's (0, 4); not 3, which is below it, and not 5
    assert moved[5:] == [True, True, True, False, True, False]


def test_boxed_images_learn_the_path_of_their_class():
    model, images = network(), random_images(1)
    box = torch.tensor([[20.0, 20, 40, 48]])
    losses = model(images, [Targets(box, torch.tensor([3]))])
    # centre (30, 34): column 1, row 2 of 4; 20×28 is nearer to the anchor 20×30, the second
    row = rows_of(model, images)[0][(2 * 4 + 1) * 2 + 1]
    assert losses["classes"].item() == pytest.approx(-math.log(slow_share(row, 3)), rel=1e-4)


def test_a_batch_is_the_mean_of_its_images():
    model, images = network(), random_images(3)
    boxed = Targets(torch.tensor([[8.0, 8, 30, 50]]), torch.tensor([5]))
    targets = [boxed, class_alone(1), class_alone(-1)]
    together = model(images, targets)
    alone = [model(images[i : i + 1], targets[i : i + 1]) for i in range(3)]
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([a[name] for a in alone]).mean())


def test_predictions_walk_down_to_the_threshold():
    images, inner = random_images(2), 0
    for threshold in (0.0, 0.4, 0.6, 0.9):
        model = network(0.9, tree_thresh=threshold, score_thresh=0.02, nms_iou=1.0).eval()
        with torch.no_grad():
            found, rows = model(images), rows_of(model, images)
        for detections, predictors in zip(found, rows, strict=True):
            expected = []
            for row in predictors:
                shares, node, sure = slow_shares(row), -1, 1.0
                while children := [k for k, parent in enumerate(PARENTS) if parent == node]:
                    best = max(children, key=lambda k: shares[k])
                    if node >= 0 and sure * shares[best] < threshold:
                        break
                    node, sure = best, sure * shares[best]
                if sigmoid(row[4]) * sure > 0.02:
                    expected.append((sigmoid(row[4]) * sure, node))
            expected.sort(reverse=True)
            assert len(expected) > 5
            assert detections.labels.tolist() == [node for _, node in expected]
            assert detections.scores.tolist() == pytest.approx([s for s, _ in expected], rel=1e-4)
            inner += sum(node in PARENTS for _, node in expected)
    assert inner > 3


def test_without_a_tree_all_classes_are_siblings():
    model = YOLO9000(Fake(), Classes.numbered(3), anchors=ANCHORS)
    assert model.grid.tree.groups == 1


def test_the_papers_network_over_the_whole_tree(shared):
    classes = read_classes(shared / "darknet/cfg/9k.tree")
    assert len(classes) == 9418
    with torch.device("meta"):
        names = build({"name": "yolo9000"}, {"name": "darknet19"}, Classes.numbered(9418))
        output = names.outputs(torch.empty(1, 3, 544, 544), torch.tensor([[544, 544]]))
        drawn = Graph(plan(sections(cfg_text(shared / "darknet/cfg/yolo9000.cfg"))))
    assert output.shape == (1, 28269, 17, 17)  # the filters of yolo9000.cfg
    sizes = [sum(p.numel() for p in net.parameters()) for net in (names, drawn)]
    assert sizes == [48_793_101, 48_793_101]
    model = build({"name": "yolo9000"}, {"name": "darknet19", "width": 1 / 16}, classes)
    images = random_images(1)
    losses = model(images, [class_alone(5177)])
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    with torch.no_grad():
        model.head.bias.view(3, -1)[:, 4] = 2.0
        assert len(model.eval()(images)[0])
