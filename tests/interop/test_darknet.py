"""Darknet's own files: weights byte for byte, class trees and maps, what its outputs mean."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from detkit.backbones.build import build as build_both
from detkit.backbones.darknet_cfg import DarknetCfg
from detkit.backbones.darknet_outputs import Output
from detkit.backbones.darknet_weights import Header
from detkit.backbones.norms import freeze_norms
from detkit.errors import DetkitError
from detkit.interop import darknet


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


FILES = {  # version, images seen
    "MobileNetV2-YOLOv3-Nano-voc": Header(0, 2, 5, 1_648_384),
    "yolo-fastest-1.1": Header(0, 2, 5, 14_231_680),
    "yolo-fastest-1.1-xl": Header(0, 2, 5, 16_000_000),
    "yolo-lite-trial3": Header(0, 1, 0, 10_598_400),
    "yolo-lite-trial3-nobatch": Header(0, 1, 0, 15_833_600),
}


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("frozen", [False, True])
def test_real_files_are_written_byte_for_byte(shared, tmp_path, name, frozen):
    source = shared / "darknet" / f"{name}.weights"
    net = DarknetCfg(cfg=str(source.with_suffix(".cfg")))
    if frozen:
        freeze_norms(net)
    header = darknet.load(net, source)
    assert header == FILES[name]
    darknet.save(net, tmp_path / "net.weights", header)
    assert (tmp_path / "net.weights").read_bytes() == source.read_bytes()


def test_a_real_file_with_a_wrong_class_count_or_cut_is_refused(shared, tmp_path):
    source = shared / "darknet/yolo-fastest-1.1.weights"
    cfg = str(source.with_suffix(".cfg"))
    # 180 filters less in front of each output, of 96 and 120 weights and a bias, 4 bytes each
    with pytest.raises(DetkitError, match=r"1,384,268 bytes; 1,227,308 are those"):
        darknet.load(DarknetCfg(cfg=cfg, classes=20), source)
    cut = tmp_path / "cut.weights"
    cut.write_bytes(source.read_bytes()[:-4])
    before = DarknetCfg(cfg=cfg)
    state = {key: value.clone() for key, value in before.state_dict().items()}
    with pytest.raises(DetkitError, match=r"1,384,264 bytes; 1,384,268 are those"):
        darknet.load(before, cut)
    assert all(torch.equal(value, state[key]) for key, value in before.state_dict().items())
    other = shared / "darknet/yolo-lite-trial3.weights"
    with pytest.raises(DetkitError, match=r"2,296,772 bytes; 1,384,264 are those"):
        darknet.load(before, other)  # a header of 16


def test_a_written_network_reads_back_equal(tmp_path):
    torch.manual_seed(0)
    first = build("darknet_cfg", width=0.25)
    for part in first.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    path = tmp_path / "net.weights"
    darknet.save(first, path)
    second = build("darknet_cfg", width=0.25, weights=str(path), norm="train")
    assert second.weights_report.missing == ()
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in second.state_dict().items())
    third = build("darknet_cfg", width=0.25)
    assert darknet.load(third, path) == Header()
    image = torch.rand(1, 3, 64, 64)
    for level, x in first.eval()(image).items():
        assert torch.equal(third.eval()(image)[level], x)
    with pytest.raises(DetkitError, match="VGG is none of Darknet's networks"):
        darknet.save(build("vgg11", width=0.125), path)


def test_numbers_that_mean_something_else_are_not_decoded():
    output = Output(
        "region", "5", 9, 32, 3, ((1, 1),), ((1, 1),), (0,), True, 1, {"tree": "a.tree"}
    )
    with pytest.raises(DetkitError, match=r"Layer 9 has tree=a\.tree"):
        darknet.decode(torch.zeros(1, 8, 2, 2), output)


@pytest.mark.parametrize("kind", ["yolo", "region"])
def test_decoding_equals_the_loop(kind):
    anchors = ((3.0, 5.0), (20.0, 9.0))
    output = Output(kind, "3", 9, 8, 3, anchors, anchors, (0, 1), kind == "region", 1.1, {})
    logits = torch.randn(2, 2 * 8, 4, 5, generator=torch.Generator().manual_seed(0))
    boxes, objectness, classes = darknet.decode(logits, output)
    assert boxes.shape == (2, 40, 4)
    assert classes.shape == (2, 40, 3)

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    cells = itertools.product(range(2), range(4), range(5), range(2))
    for place, (b, row, column, a) in enumerate(cells):
        tx, ty, tw, th, to, *tc = logits[b, 8 * a : 8 * a + 8, row, column].tolist()
        x = (column + 1.1 * sigmoid(tx) - 0.05) * 8
        y = (row + 1.1 * sigmoid(ty) - 0.05) * 8
        w, h = anchors[a][0] * math.exp(tw), anchors[a][1] * math.exp(th)
        expected = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        torch.testing.assert_close(boxes[b, place % 40], expected, rtol=1e-4, atol=1e-4)
        assert objectness[b, place % 40].item() == pytest.approx(sigmoid(to), abs=1e-6)
        total = sum(map(math.exp, tc))
        says = [math.exp(t) / total if kind == "region" else sigmoid(t) for t in tc]
        torch.testing.assert_close(classes[b, place % 40], torch.tensor(says))


def test_the_real_tree_names_and_maps_are_read(shared):
    folder = shared / "darknet/cfg"
    tree, names = darknet.read_tree(folder / "9k.tree"), darknet.read_names(folder / "9k.names")
    assert len(tree.names) == len(tree.parents) == len(names) == 9418
    assert (tree.parents == -1).sum() > 1
    assert (tree.parents < np.arange(9418)).all()
    coco = darknet.read_map(folder / "coco9k.map", len(names))
    assert darknet.read_map(folder / "inet9k.map", len(names)).shape == (200,)
    classes = darknet.read_names(shared / "darknet/coco.names")
    assert len(coco) == len(classes) == 80
    found = dict(zip(classes, (names[place] for place in coco), strict=True))
    assert (found["person"], found["zebra"], found["toaster"]) == ("person", "zebra", "toaster")
    assert len(darknet.read_names(shared / "darknet/voc.names")) == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a -1\nb 0\nc 3\nd 4\ne 2\n", r"line [345]: [cde] is among its own parents"),
        ("a -1\nb 1\n", r"line 2: b is among its own parents"),
        ("a -1\nb 2\n", r"line 2: The parent of b is line 2 of 2"),
        ("a -1\nb -2\n", r"line 2: The parent of b is line -2 of 2"),
        ("a -1\nb x\n", r"line 2: 'x' stands where a whole number"),
        ("a -1\n0\n", r"line 2: '0' stands where a class and the number"),
        ("a -1\n\nb 0\n", r"line 2: '' stands where one entry a line"),
    ],
)
def test_a_faulty_tree_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "a.tree"
    path.write_text(text)
    with pytest.raises(DetkitError, match=message):
        darknet.read_tree(path)


def test_a_tree_may_name_children_before_parents(tmp_path):
    path = tmp_path / "a.tree"
    path.write_text("rough coat dog 1\ndog 2\nanimal -1\n\n")
    names, parents = darknet.read_tree(path)
    assert names == ("rough coat dog", "dog", "animal")
    assert parents.tolist() == [1, 2, -1]


def test_a_map_leads_into_the_tree(tmp_path):
    path = tmp_path / "a.map"
    path.write_text("0\n3\n")
    assert darknet.read_map(path, 4).tolist() == [0, 3]
    with pytest.raises(DetkitError, match=r"line 2: '3' stands where a number from 0 to 2"):
        darknet.read_map(path, 3)
    with pytest.raises(DetkitError, match="cannot be read"):
        darknet.read_map(tmp_path / "none.map", 3)
