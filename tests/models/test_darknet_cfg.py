"""A grid head alone above a Darknet description, against a loop and `interop.darknet`."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detkit.backbones.backbone import normalize
from detkit.errors import DetkitError
from detkit.interop import darknet
from detkit.models.build import build
from detkit.models.heads.grid_head import GridHead, LossWeights
from detkit.models.heads.region_head import RegionHead
from detkit.models.heads.tree_head import TreeHead
from detkit.structures import Classes, Targets

CONV = "[convolutional]\nfilters={}\nsize=3\nstride={}\npad=1\nactivation={}\n"
NET = "[net]\nwidth=64\nheight=64\n" + CONV.format(4, 4, "leaky") + CONV.format(8, 2, "leaky")
ANCHORS = "anchors=6,8, 20,12, 14,30, 40,40\nnum=4\nclasses=3\n"


def yolo(mask: str, more: str = "") -> str:
    return f"[yolo]\nmask={mask}\n{ANCHORS}{more}"


# one stride twice, unlike numbers of anchors, one anchor that no output has
YOLO = (
    NET
    + CONV.format(16, 1, "linear")
    + yolo("0,1", "ignore_thresh=.3\nscale_x_y=1.2\n")
    + "[route]\nlayers=1\n"
    + CONV.format(8, 1, "linear")
    + yolo("3", "ignore_thresh=.3\n")
    + "[route]\nlayers=1\n"
    + CONV.format(8, 2, "leaky")
    + CONV.format(8, 1, "linear")
    + yolo("1", "ignore_thresh=.3\nscale_x_y=1.05\n")
)
REGION = (
    NET
    + CONV.format(16, 1, "linear")
    + "[region]\nanchors=1,1.5, 3,4\nnum=2\nclasses=3\nsoftmax=1\nthresh=.4\nobject_scale=5\n"
    "noobject_scale=.5\ncoord_scale=2\nclass_scale=3\nrescore=1\n"
)


def network(text: str, classes: int = 3, **settings):
    torch.manual_seed(0)
    backbone = {"name": "darknet_cfg", "text": text}
    model = build({"name": "darknet_cfg", **settings}, backbone, Classes.numbered(classes))
    for output in model.outputs:  # answers of some size
        last = model.backbone.layers[str(model.backbone.sources[output.level])]
        for parameter in last.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch(seed: int) -> tuple[Tensor, list[Targets]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, 64, 64, generator=generator)
    targets = []
    for count in (0, 2, 4):
        corner = torch.rand(count, 2, generator=generator) * 40
        side = 4 + torch.rand(count, 2, generator=generator) * 20
        boxes = torch.cat([corner, corner + side], 1)
        targets.append(Targets(boxes, torch.randint(0, 3, (count,), generator=generator)))
    return images, targets


def maps_of(model, images: Tensor) -> list[Tensor]:
    levels = model.backbone(normalize(images, model.mean_std))
    return [levels[output.level] for output in model.outputs]


def iou(a, b) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def bce(logit: float, target: float) -> float:
    p = sigmoid(logit)
    return -(target * math.log(p) + (1 - target) * math.log(1 - p))


def slow_losses(model, images, targets, ignored: float) -> dict[str, float]:
    """Predictor by predictor; the centre is σ(t) scaled about the middle of its cell."""
    total = {"box": 0.0, "objectness": 0.0, "classes": 0.0}
    anchors = [(o, a) for o, output in enumerate(model.outputs) for a in range(len(output.anchors))]
    for i, target in enumerate(targets):
        owners: dict[tuple[int, int, int, int], int] = {}
        for n, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
            size = (0, 0, x2 - x1, y2 - y1)
            shapes = [iou(size, (0, 0, *model.outputs[o].anchors[a])) for o, a in anchors]
            o, a = anchors[shapes.index(max(shapes))]
            stride = model.outputs[o].stride
            owners.setdefault((o, int((y1 + y2) / 2 // stride), int((x1 + x2) / 2 // stride), a), n)
        part = dict.fromkeys(total, 0.0)
        for o, (output, maps) in enumerate(zip(model.outputs, maps_of(model, images), strict=True)):
            stride, scale = output.stride, output.scale_x_y
            for row in range(maps.shape[2]):
                for column in range(maps.shape[3]):
                    for a, (w, h) in enumerate(output.anchors):
                        t = maps[i, 8 * a : 8 * a + 8, row, column].tolist()
                        n = owners.get((o, row, column, a))
                        if n is not None:
                            x1, y1, x2, y2 = target.boxes[n].tolist()
                            x = ((x1 + x2) / 2 / stride - column - 0.5) / scale + 0.5
                            y = ((y1 + y2) / 2 / stride - row - 0.5) / scale + 0.5
                            part["objectness"] += bce(t[4], 1)
                            part["box"] += (2 - (x2 - x1) * (y2 - y1) / 64**2) * (
                                bce(t[0], x)
                                + bce(t[1], y)
                                + (t[2] - math.log((x2 - x1) / w)) ** 2 / 2
                                + (t[3] - math.log((y2 - y1) / h)) ** 2 / 2
                            )
                            label = target.labels[n].item()
                            part["classes"] += sum(bce(t[5 + k], k == label) for k in range(3))
                            continue
                        x = (column + 0.5 + scale * (sigmoid(t[0]) - 0.5)) * stride
                        y = (row + 0.5 + scale * (sigmoid(t[1]) - 0.5)) * stride
                        w, h = w * math.exp(t[2]), h * math.exp(t[3])
                        seen = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                        if all(iou(seen, box) <= ignored for box in target.boxes.tolist()):
                            part["objectness"] += bce(t[4], 0)
        for key, value in part.items():
            total[key] += value / max(1, len(owners)) / len(targets)
    return total


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ignore_iou", [None, 0.7])
def test_yolo_losses_are_the_loops(seed, ignore_iou):
    model = network(YOLO, ignore_iou=ignore_iou)
    assert [(o.level, len(o.anchors)) for o in model.outputs] == [("3", 2), ("3+", 1), ("4", 1)]
    images, targets = batch(seed)
    losses = {key: value.item() for key, value in model(images, targets).items()}
    expected = slow_losses(model, images, targets, ignore_iou or 0.3)
    assert losses == pytest.approx(expected, rel=1e-4)


def test_region_has_yolo_v2s_rules_with_the_descriptions_numbers():
    model = network(REGION)
    assert type(model.grid) is RegionHead
    assert model.grid.weights == LossWeights(box=2, no_object=0.5, object=5, classes=3)
    assert model.grid.ignore_iou == 0.4
    assert model.grid.anchors[0].tolist() == [[8, 12], [24, 32]]  # cells of 8 pixels
    assert type(network(REGION.replace("softmax=1", "softmax=0")).grid) is GridHead


@pytest.mark.parametrize("text", [YOLO, REGION])
def test_predictions_are_those_of_the_decoded_outputs(text):
    model = network(text, score_thresh=0.2, nms_iou=0.4, detections=40).eval()
    images, _ = batch(7)
    with torch.no_grad():
        found, maps = model(images), maps_of(model, images)
    decoded = [darknet.decode(m, o) for m, o in zip(maps, model.outputs, strict=True)]
    for i, detections in enumerate(found):
        boxes = torch.cat([d.boxes[i] for d in decoded]).clamp(0, 64)
        scores = torch.cat([d.objectness[i, :, None] * d.classes[i] for d in decoded])
        scores = scores * ((boxes[:, 2:] - boxes[:, :2]) > 1e-3).all(1)[:, None]
        row, label = (scores > 0.2).nonzero(as_tuple=True)
        kept = batched_nms(boxes[row], scores[row, label], label, 0.4)[:40]
        assert len(kept) > 3
        torch.testing.assert_close(detections.boxes, boxes[row][kept])
        torch.testing.assert_close(detections.scores, scores[row, label][kept])
        assert detections.labels.tolist() == label[kept].tolist()


def test_outputs_start_silent_but_where_a_file_fills_them(tmp_path):
    backbone = {"name": "darknet_cfg", "text": YOLO}
    model = build({"name": "darknet_cfg"}, backbone, Classes.numbered(3))
    assert biases(model)[:, 4] == pytest.approx(math.log(1e-3 / (1 - 1e-3)))
    trained = network(YOLO)
    darknet.save(trained.backbone, tmp_path / "a.weights")
    backbone["weights"] = str(tmp_path / "a.weights")
    filled = build({"name": "darknet_cfg"}, backbone, Classes.numbered(3))
    assert torch.equal(biases(filled), biases(trained))


def biases(model) -> Tensor:
    first = model.outputs[0]
    layer = model.backbone.layers[str(model.backbone.sources[first.level])]
    return layer.state_dict()["0.bias"].reshape(len(first.anchors), -1)


def test_classes_are_the_datas():
    backbone = {"name": "darknet_cfg", "width": 0.125}
    model = build({"name": "darknet_cfg"}, backbone, Classes.numbered(7))
    assert [output.classes for output in model.outputs] == [7, 7, 7]
    with pytest.raises(DetkitError, match="The network has 80 classes, the data 7"):
        build({"name": "darknet_cfg"}, {**backbone, "classes": 80}, Classes.numbered(7))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (YOLO + "new_coords=1\n", r"Layer 10 has new_coords=1"),
        (YOLO.replace("ignore_thresh=.3", "ignore_thresh=3"), r"ignore_thresh is 3\.0"),
        (REGION.replace("object_scale=5", "object_scale=x"), r"object_scale is 'x', not a factor"),
        (
            YOLO.replace("[yolo]\nmask=3\n", "[region]\nmask=3\n"),
            r"Some outputs are \[yolo\], some \[region\]",
        ),
    ],
)
def test_what_is_not_decoded_here_is_refused(text, message):
    with pytest.raises(DetkitError, match=message):
        build({"name": "darknet_cfg"}, {"name": "darknet_cfg", "text": text}, Classes.numbered(3))


def test_a_region_over_a_tree_has_yolo9000s_rules():
    classes = Classes(("a", "b", "c"), (1, 2, 3), (-1, 0, 0))
    backbone = {"name": "darknet_cfg", "text": REGION + "tree=no/such.tree\n"}
    model = build({"name": "darknet_cfg", "tree_thresh": 0.3}, backbone, classes)
    assert type(model.grid) is TreeHead
    assert (model.grid.groups, model.grid.tree_thresh) == (2, 0.3)
    assert model.grid.weights == LossWeights(box=2, no_object=0.5, object=5, classes=3)
    assert [stage.name for stage in model.stages()] == ["anchors", "train"]
    flat = build({"name": "darknet_cfg"}, backbone, Classes.numbered(3))
    assert type(flat.grid) is RegionHead
    with pytest.raises(DetkitError, match=r"Layer 3 \[yolo\] has no softmax, which a tree"):
        build({"name": "darknet_cfg"}, {"name": "darknet_cfg", "text": YOLO}, classes)


def test_another_backbone_is_refused():
    with pytest.raises(
        DetkitError, match=r"stands on a network of a \.cfg file alone, not on a VGG"
    ):
        build({"name": "darknet_cfg"}, {"name": "vgg11", "width": 0.125}, Classes.numbered(3))


def test_a_region_begins_with_its_anchors_as_yolo_v2_does():
    model = network(REGION, anchor_images=640)
    first, then = model.stages()
    assert (first.images, then.continues) == (640, True)
    images, targets = batch(0)
    losses, more = model(images, targets), first.losses(model)(images, targets)
    assert set(more) == {*losses, "anchors"}
    assert more["anchors"].item() == pytest.approx(
        model.grid.anchor_loss(maps_of(model, images), targets).item()
    )
    assert more["anchors"] > 0
    for text in (YOLO, REGION.replace("softmax=1", "softmax=0")):
        assert [stage.name for stage in network(text).stages()] == ["train"]
    assert len(network(REGION, anchor_images=0).stages()) == 1


@pytest.mark.parametrize("text", [YOLO, REGION])
@pytest.mark.parametrize("size", [(33, 47), (70, 50)])
def test_sides_that_strides_do_not_divide_work(text, size):
    model = network(text)
    _, targets = batch(0)
    images = torch.rand(3, 3, *size)
    assert all(value.isfinite() for value in model(images, targets).values())
    assert len(model(images)) == 3
