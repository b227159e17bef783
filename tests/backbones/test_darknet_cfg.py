"""Descriptions of Darknet: what is read, what is refused with its line, what a network is built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from detkit.backbones import darknet_weights
from detkit.backbones.build import build as build_both
from detkit.backbones.build import self_contained
from detkit.backbones.darknet_cfg import DEFAULT, DarknetCfg, Graph, plan
from detkit.backbones.darknet_sections import cfg_text, sections
from detkit.errors import DetkitError


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


SMALL = """\
[network]
channels = 3   # RGB
; another comment

[convolutional]
batch_normalize=1
filters = 8
size=3
stride=2
pad=1
activation=mish
filters=99

[maxpool]
size=2
stride=2

[convolutional]
filters=21
activation=linear

[region]
anchors = 1,2, 3,4.5, .5,.5
num=3
classes=2
softmax=1
bias_match=1
thresh=.6
tree=data/9k.tree
"""
PUBLISHED = {  # parameters without the norms' statistics
    "darknet19": 20_842_376,
    "darknet53": 41_609_928,
    "yolov3": 61_949_149,
    "yolov3-tiny": 8_852_366,
    "yolov3-spp": 62_998_749,
    "yolov2": 50_962_889,
}


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new, 1)


def test_sections_are_names_options_and_lines():
    found = sections("\ufeff" + SMALL.replace("\n", "\r\n"))
    names = ["network", "convolutional", "maxpool", "convolutional", "region"]
    assert [one.name for one in found] == names
    assert [one.line for one in found] == [1, 5, 14, 18, 22]
    assert [one.layer for one in found] == [-1, 0, 1, 2, 3]
    assert found[1].options["filters"] == "8"  # the first counts, as in Darknet
    assert found[0].options == {"channels": "3"}
    assert found[4].numbers("anchors") == (1, 2, 3, 4.5, 0.5, 0.5)


def test_an_output_says_what_its_section_says():
    net = DarknetCfg(text=SMALL)
    (output,) = net.outputs
    assert (output.kind, output.level, output.layer, output.stride) == ("region", "2", 3, 4)
    assert output.anchors == ((4, 8), (12, 18), (2, 2))  # cells of 4 pixels
    assert (output.classes, output.softmax, output.mask) == (2, True, (0, 1, 2))
    assert output.settings == {"bias_match": 1.0, "thresh": 0.6, "tree": "data/9k.tree"}
    maps = net(torch.zeros(1, 3, 32, 48))
    assert maps["2"].shape == (1, 21, 8, 12)
    assert [type(m) for m in net.layers["0"]] == [nn.Conv2d, nn.BatchNorm2d, nn.Mish]
    assert net.layers["0"][1].eps == 1e-6


def test_yolo_sections_share_their_anchors_and_count_in_pixels():
    net = DarknetCfg()
    assert [one.level for one in net.outputs] == ["5", "4", "3"]
    assert list(net.channels) == ["3", "4", "5"]
    last = net.outputs[-1]
    assert last.anchors == ((10, 13), (16, 30), (33, 23)) == last.all_anchors[:3]
    assert len(last.all_anchors) == 9
    assert not last.softmax


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[maxpool]", "[gru]", r"line 14, layer 1 \[gru\]: The layer \[gru\] is not known"),
        ("filters = 8", "filters = x", r"line 5, layer 0 .*filters is 'x', not a whole number"),
        (
            "filters = 8\nsize=3",
            "filters = 1000000\nsize=999",
            r"layer 0 .*2,994,003,000,000 weights",
        ),
        ("filters = 8", "filters = 0", r"line 5, layer 0 .*filters is '0', .* from 1 to"),
        ("stride=2\npad", "strid=2\npad", r"layer 0 .*The option strid=2 is not known"),
        ("stride=2\npad", "dilation=2\npad", r"layer 0 .*dilation is '2', not one of 1"),
        ("mish", "softplus", r"layer 0 .*activation is 'softplus', not one of leaky"),
        ("size=3", "size=3\ngroups=2", r"layer 0 .*3 channels before it cannot be shared"),
        ("pad=1", "pad", r"line 10: 'pad' is no option"),
        ("filters=21", "filters=20", r"layer 3 .*20 channels come in; 3 anchors .* are 21"),
        ("classes=2", "classes=3", r"layer 3 .*21 channels come in; .* are 24"),
        (".5,.5", ".5", r"layer 3 .*5 numbers in anchors"),
        ("num=3", "coords=5", r"layer 3 .*coords is .5., not a whole number from 4 to 4"),
        ("thresh", "mask=0,3\nthresh", r"layer 3 .*do not give the anchors \[0, 3\]"),
        ("1,2, 3", "1,nan, 3", r"layer 3 .*anchors is 'nan', not a number"),
        ("[maxpool]\nsize=2\nstride=2", "[route]\nlayers=1", r"layer 1 .*reads layer 1, which"),
        ("[maxpool]\nsize=2\nstride=2", "[route]\nlayers=-2", r"layer 1 .*reads layer -2, which"),
        ("[maxpool]\nsize=2\nstride=2", "[shortcut]\nfrom=-1,-1", r"adds 2 layers"),
        ("size=2\nstride=2", "size=3\nstride=3", r"layer 3 .*a stride of 6"),
        ("[region]", "[dropout]", r"The option anchors=1,2,3,4.5,.5,.5 is not known"),
        ("tree", "[convolutional]\n[yolo]\nx", r"layer 4 .*layer 3, whose output is predictions"),
        ("[network]", "[convolutional]", r"line 1: It begins with \[convolutional\]"),
    ],
)
def test_what_is_odd_is_refused_with_its_file_line_and_layer(tmp_path, old, new, message):
    path = tmp_path / "net.cfg"
    path.write_text(changed(old, new))
    with pytest.raises(DetkitError, match=message) as error:
        DarknetCfg(cfg=str(path))
    assert error.value.file == str(path)
    assert error.value.remedy


@pytest.mark.parametrize(
    ("layer", "remedy"),
    [
        ("local", "YOLOv1 is detkit's model=yolo_v1 or model=fast_yolo"),
        ("connected", "model=yolo_v1"),
        ("detection", "model=yolo_v1"),
        ("crop", "width and height of"),
        ("gru", "no recurrent networks"),
        ("deconvolutional", "use [upsample]"),
        ("convolutonal", "write [convolutional], if that is meant"),
        ("sam", "use a network of avgpool, convolutional, cost"),
    ],
)
def test_an_unknown_layer_is_named_with_its_line_and_what_there_is_instead(tmp_path, layer, remedy):
    path = tmp_path / "net.cfg"
    path.write_text(changed("[maxpool]", f"[{layer}]"))
    for build_it in (
        lambda: DarknetCfg(cfg=str(path)),
        lambda: self_contained({"name": "darknet_cfg", "cfg": str(path), "classes": None}),
    ):
        with pytest.raises(
            DetkitError, match=rf"line 14, layer 1 .*The layer \[{layer}\]"
        ) as error:
            build_it()
        assert error.value.file == str(path)
        assert remedy in error.value.remedy


def test_a_run_refuses_a_description_by_its_files_name_but_not_for_its_classes(tmp_path):
    path = tmp_path / "net.cfg"
    path.write_text(changed("classes=2", "classes=3"))  # the data's will count, and the filters fit
    assert "classes=3" in self_contained({"name": "darknet_cfg", "cfg": str(path)})["text"]
    path.write_text(changed(".5,.5", ".5"))
    with pytest.raises(DetkitError, match="5 numbers in anchors") as error:
        self_contained({"name": "darknet_cfg", "cfg": str(path), "width": 0.5, "in_channels": None})
    assert error.value.file == str(path)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[dropout]\n" * 10_000, r"has 10,00\d layers"),
        ("[route]\nlayers=-1,-1\n" * 40, "channels"),
        ("[upsample]\nstride=1024\n", "maps 1024 times as wide"),
        ("[convolutional]\nfilters=1000000\nsize=1023\n", "weights"),
    ],
)
def test_networks_that_no_memory_holds_are_refused_before_they_are_built(layers, message):
    text = f"[net]\nchannels=3\n[convolutional]\nfilters=4\n{layers}[yolo]\n"
    with pytest.raises(DetkitError, match=message):
        DarknetCfg(text=text)


def test_the_weights_of_all_layers_are_counted(monkeypatch):
    monkeypatch.setattr("detkit.backbones.darknet_cfg.ALL_WEIGHTS", 100)
    text = "[net]\n" + "[convolutional]\nfilters=9\n" * 2 + "[yolo]\n"
    with pytest.raises(DetkitError, match="weights with the layers before it") as caught:
        DarknetCfg(text=text)
    assert "layer 1" in caught.value.record


def test_a_text_without_sections_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(DetkitError, match="no section"):
        DarknetCfg(text="")
    with pytest.raises(DetkitError, match="cannot be read"):
        DarknetCfg(cfg=str(tmp_path / "none.cfg"))
    with pytest.raises(DetkitError, match=r"line 1 \[net\].*no \[yolo\] or \[region\]"):
        DarknetCfg(text="[net]\n[convolutional]\nfilters=4\n")


def test_outputs_of_one_stride_are_two_levels():
    second = SMALL[SMALL.index("[convolutional]\nfilters=21") :].replace("21", "14")
    second = second.replace("num=3", "num=3\nmask=0,2")
    text = SMALL + "[route]\nlayers=1\n" + second
    net = build("darknet_cfg", text=text)
    assert net.channels == {"2": 21, "2+": 14}
    assert [(one.level, one.mask) for one in net.outputs] == [("2", (0, 1, 2)), ("2+", (0, 2))]
    image = torch.randn(1, 3, 16, 16)
    alone = build("darknet_cfg", text=text, levels=["2+"])
    alone.load_state_dict(net.state_dict(), strict=False)
    assert list(alone.channels) == [one.level for one in alone.outputs] == ["2+"]
    assert torch.equal(alone.eval()(image)["2+"], net.eval()(image)["2+"])
    assert "layers.2.0.weight" not in alone.state_dict()


def test_classes_and_width_change_what_they_name():
    net = DarknetCfg(classes=5, width=0.5)
    assert set(net.channels.values()) == {3 * (5 + 5)}
    assert {one.classes for one in net.outputs} == {5}
    wide, narrow = DarknetCfg(), DarknetCfg(width=0.5)
    assert narrow.channels == wide.channels
    assert narrow.layers["0"][0].out_channels * 2 == wide.layers["0"][0].out_channels
    grey = DarknetCfg(in_channels=1, width=0.25).eval()
    assert grey(torch.zeros(1, 1, 32, 32)).keys() == grey.channels.keys()
    assert grey.normalization.std == (1.0,)
    assert DarknetCfg(classes=80).state_dict().keys() == wide.state_dict().keys()


def test_a_checkpoint_needs_no_other_file(tmp_path):
    path = tmp_path / "net.cfg"
    path.write_text(SMALL)
    settings = self_contained({"name": "darknet_cfg", "cfg": str(path), "frozen_stages": 1})
    path.unlink()
    assert settings["text"] == SMALL
    assert settings["frozen_stages"] == 1
    net = build(**settings)
    assert not net.layers["0"][0].weight.requires_grad
    assert net.layers["2"][0].weight.requires_grad
    assert self_contained(settings) == settings
    assert self_contained({"name": "darknet_cfg"})["text"] == DEFAULT.read_text()
    assert self_contained({"name": "vgg16_fpn", "width": 0.5}) == {
        "name": "vgg16_fpn",
        "width": 0.5,
    }
    path.write_text(SMALL + "\n")
    with pytest.raises(DetkitError, match="describe two networks"):
        DarknetCfg(cfg=str(path), text=SMALL)


def descriptions(shared: Path) -> list[Path]:
    return [*(shared / "darknet").glob("*.cfg"), *(shared / "darknet/cfg").glob("*.cfg")]


def test_every_real_description_is_read_and_the_published_counts_hold(shared):
    found = {}
    for path in descriptions(shared):
        with torch.device("meta"):
            graph = Graph(plan(sections(cfg_text(path), str(path))))
        found[path.stem] = sum(p.numel() for p in graph.parameters())
        statistics = sum(b.numel() for k, b in graph.named_buffers() if "running" in k)
        layout = darknet_weights.layout(graph)
        assert darknet_weights.count(layout) == found[path.stem] + statistics
    assert len(found) == 16
    assert PUBLISHED.items() <= found.items()


@pytest.mark.parametrize(
    ("name", "file", "ends"),
    [
        ("darknet19", "darknet19", (0, 2, 6, 10, 16, 22)),
        ("darknet53", "darknet53", (0, 4, 11, 36, 61, 74)),
        ("darknet_tiny", "yolov3-tiny", (0, 2, 4, 6, 8, 12)),
        ("darknet_tiny_v2", "yolov2-tiny-voc", (0, 2, 4, 6, 8, 13)),
    ],
)
def test_our_trunks_are_the_beginning_of_darknets_descriptions(shared, tmp_path, name, file, ends):
    """One weights file gives both the same maps, so that the order of the modules is Darknet's."""
    text = cfg_text(shared / f"darknet/cfg/{file}.cfg")
    torch.manual_seed(0)
    graph = Graph(plan(sections(text), width=0.25)).eval()
    for part in graph.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.8, 1.6)
            part.bias.data.normal_(0, 0.2)
    path = tmp_path / "net.weights"
    layout = darknet_weights.layout(graph)
    darknet_weights.write(path, graph.state_dict(), layout, darknet_weights.Header())
    trunk = build(name, width=0.25, weights=str(path))
    report = trunk.weights_report
    convs = sum(isinstance(m, nn.Conv2d) for m in trunk.modules())
    assert (report.missing, report.loaded, report.norms_frozen) == ((), 5 * convs, convs)
    image = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        expected, found = graph(image, ends), trunk(image)
    for end, (_, x) in zip(ends, found.items(), strict=True):
        scale = expected[end].abs().max()
        assert scale > 0.01
        torch.testing.assert_close(x / scale, expected[end] / scale, rtol=0, atol=1e-4)


def test_inner_maps_come_out_by_name_and_the_tail_is_a_mean():
    net, tail = build_both("darknet_cfg", width=0.25, levels=["coarsest"], tail=True)
    maps = net.eval()(torch.rand(2, 3, 64, 64), taps=("layers.3", "layers.1"))
    assert list(maps) == ["5", "layers.3", "layers.1"]
    assert maps["layers.1"].shape == (2, 8, 32, 32)
    torch.testing.assert_close(tail(maps["5"]), maps["5"].mean((2, 3)))
    with pytest.raises(DetkitError, match="no upper stages"):
        build("darknet_cfg", levels=["3", "4"], tail=True)
