"""Every registered backbone, narrow: levels, strides, channels, cutting, tails, pyramids."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detkit.backbones.backbone import Normalization, backbones, normalize
from detkit.backbones.build import COARSEST, names, settings
from detkit.backbones.build import build as build_both
from detkit.errors import DetkitError


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


EVERY = backbones.names()
LEVELS = {  # what the papers' tables say; the rest has all of 1 … 5
    **dict.fromkeys(("alexnet", "alexnet_2012"), "2345"),
    "lenet5": "012",
    "lenet5_modern": "1",
    "pixels": "0",
    "squeezenet1_0": "1234",
    **dict.fromkeys(("unet_encoder", "unet_encoder_2015"), "01234"),
    "darknet_cfg": "345",
    "vgg16_ssd": "01234",
    "yolo_v1": "123456",
    "fast_yolo": "0123456",
    **dict.fromkeys(("darknet19", "darknet53", "darknet_tiny", "darknet_tiny_v2"), "012345"),
    **{f"vgg{depth}{bn}": "012345" for depth in (11, 13, 16, 19) for bn in ("", "_bn")},
}
TAILS = {  # cells a side that they take of an RoI
    **dict.fromkeys(("alexnet", "alexnet_2012"), 6),
    **dict.fromkeys(("darknet19", "darknet53", "darknet_tiny", "darknet_tiny_v2"), 14),
    "googlenet": 14,
    "googlenet_2014": 14,
    "mobilenet_v2": 14,
    **{f"resnet{depth}": 14 for depth in (18, 34, 50, 101, 152)},
    **{f"vgg{depth}{bn}": 7 for depth in (11, 13, 16, 19) for bn in ("", "_bn")},
}


def narrow(name: str, **settings) -> nn.Module:
    torch.manual_seed(0)
    return build(name, width=0.25, **settings)


def with_tail(name: str, **settings):
    torch.manual_seed(0)
    return build_both(name, width=0.25, **settings)


def test_the_issues_networks_are_registered():
    assert set(EVERY) == {*LEVELS, *TAILS}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [(96, 128), (97, 131)])
def test_maps_have_the_stated_levels_channels_and_strides(name, size):
    backbone = narrow(name).eval()
    maps = backbone(torch.randn(2, 3, *size))
    assert list(maps) == list(LEVELS.get(name, "12345"))
    assert list(maps) == list(backbone.channels) == list(backbone.strides)
    for level, x in maps.items():
        stride = 2 ** int(level)
        assert backbone.strides[level] == stride
        assert x.shape[:2] == (2, backbone.channels[level])
        for cells, pixels in zip(x.shape[2:], size, strict=True):
            # SqueezeNet's first convolution loses three cells, for want of padding; LeNet's two
            unpadded = name == "squeezenet1_0" or "lenet" in name
            assert (-4 if unpadded else -2) < cells - pixels / stride < 1


@pytest.mark.parametrize("name", EVERY)
def test_no_map_is_changed_by_the_stages_behind_it(name):
    whole, x = narrow(name).eval(), torch.randn(1, 3, 64, 64)
    maps = whole(x)
    for level in maps:
        alone = narrow(name, levels=[level]).eval()
        torch.testing.assert_close(alone(x)[level], maps[level], rtol=0, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_levels_that_are_not_asked_are_neither_built_nor_returned(name):
    own = LEVELS.get(name, "12345")
    level = "3" if "3" in own else own[0]
    backbone, whole = narrow(name, levels=[level]), narrow(name)
    assert list(backbone.channels) == list(backbone(torch.randn(1, 3, 64, 64))) == [level]
    kept = {key for key, _ in backbone.named_parameters()}
    if name == "darknet_cfg":  # a graph: its finest level needs all but the coarser outputs
        outputs = {f"layers.{whole.sources[level]}" for level in ("4", "5")}
        dropped = {key for key, _ in whole.named_parameters()} - kept
        assert {key.rsplit(".", 2)[0] for key in dropped} > outputs
        assert not any(f"layers.{backbone.sources['3']}." in key for key in dropped)
        return
    needed = [p for stage in whole.stages()[: list(whole.path).index(level) + 1] for p in stage]
    expected = {id(p) for module in needed for p in module.parameters()}
    assert kept == {key for key, p in whole.named_parameters() if id(p) in expected}


@pytest.mark.parametrize("name", EVERY)
def test_every_parameter_gets_a_finite_gradient(name):
    backbone, tail = with_tail(name, tail=name in TAILS)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    loss = sum(m.square().mean() for m in backbone(x).values())
    if tail is not None:
        loss = loss + tail(torch.randn(8, backbone.channels["4"], tail.size, tail.size)).mean()
    loss.backward()
    for part in filter(None, (backbone, tail)):
        missing = [k for k, p in part.named_parameters() if p.grad is None]
        assert not missing
        assert all(p.grad.isfinite().all() for p in part.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_a_random_start_neither_fades_nor_explodes(name):
    backbone = narrow(name).train()
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    for level, m in backbone(x).items():
        # the median channel lives, and the scale stays within two orders of the input's
        assert 1e-2 < m.std() < 1e2, level


@pytest.mark.parametrize("name", sorted(TAILS))
def test_a_tail_turns_rois_of_level_4_into_vectors(name):
    backbone, tail = with_tail(name, levels=("4",), tail=True)
    tail.eval()
    assert tail.size == TAILS[name]
    rois = torch.randn(3, backbone.channels["4"], tail.size, tail.size)
    assert tail(rois).shape == (3, tail.channels)
    assert tail.state_dict()
    assert not any(".".join(k.split(".")[:1]) == "layer4" for k in backbone.state_dict())


@pytest.mark.parametrize("name", [n for n in sorted(TAILS) if TAILS[n] == 14])
def test_a_mean_tail_is_the_last_stage(name):
    backbone = narrow(name, levels=("4", "5")).eval()
    _, tail = with_tail(name, levels=("4",), tail=True)
    tail.load_state_dict(backbone.state_dict(), strict=False)
    tail.eval()
    maps = backbone(torch.randn(1, 3, 224, 224))
    assert maps["4"].shape[2:] == (14, 14)
    torch.testing.assert_close(tail(maps["4"]), maps["5"].mean((2, 3)))


@pytest.mark.parametrize("name", EVERY)
def test_behind_the_last_level_a_classifier_has_a_mean_or_its_layers(name):
    backbone, tail = with_tail(name, levels=(COARSEST,), tail=True)
    (features,) = backbone.eval()(torch.randn(2, 3, 224, 224)).values()
    vectors = tail.eval()(features)
    assert vectors.shape == (2, tail.channels)
    if not tail.state_dict():
        torch.testing.assert_close(vectors, features.mean((2, 3)))


@pytest.mark.parametrize("name", ["googlenet", "googlenet_2014", "resnet18"])
def test_a_tap_is_the_map_of_an_inner_module(name):
    backbone = narrow(name).eval()
    taps = [backbone.path["4"][-1], backbone.path["5"][-1]]
    seen = {}
    for tap in taps:
        backbone.get_submodule(tap).register_forward_hook(
            lambda module, given, found, tap=tap: seen.__setitem__(tap, found.clone())
        )
    maps = backbone(torch.randn(1, 3, 96, 96), taps=taps)
    assert list(maps) == [*backbone.channels, *taps]
    for tap in taps:
        torch.testing.assert_close(maps[tap], seen[tap], rtol=0, atol=0)
    torch.testing.assert_close(maps["5"], maps[taps[1]], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["vgg16", "vgg11_bn", "alexnet"])
def test_a_fully_connected_tail_is_fc6_and_fc7(name):
    backbone, tail = with_tail(name, levels=("4",), tail=True)
    tail.eval()
    rois = torch.randn(2, backbone.channels["4"], tail.size, tail.size)
    fc6, fc7 = (m for m in tail.classifier if isinstance(m, nn.Linear))
    by_hand = ((rois.flatten(1) @ fc6.weight.T + fc6.bias).relu() @ fc7.weight.T + fc7.bias).relu()
    torch.testing.assert_close(tail(rois), by_hand)


def test_who_has_no_tail_says_who_has_one():
    for name in ("squeezenet1_0", "unet_encoder", "darknet_cfg", "lenet5"):
        with pytest.raises(DetkitError, match=r"alexnet, .*darknet19, .*vgg19_bn") as error:
            narrow(name, tail=True)
        assert "squeezenet" not in error.value.remedy


@pytest.mark.parametrize("name", EVERY)
def test_a_pyramid_stands_on_any_of_them(name):
    backbone = narrow(f"{name}_fpn", fpn_channels=8).eval()
    maps = backbone(torch.randn(1, 3, 65, 97))
    own = [n for n in LEVELS.get(name, "12345") if n in "2345"]
    last = own[-1] if own else LEVELS[name][-1]  # level 6 of YOLO's trunk is the next one
    assert list(maps) == list(backbone.channels) == [*own, str(int(last) + 1)]
    assert set(backbone.channels.values()) == {8}
    assert all(m.shape[1] == 8 for m in maps.values())
    parts = {"fpn"} if name == "pixels" else {"body", "fpn"}  # that one has no weights
    assert {key.split(".")[0] for key in backbone.state_dict()} == parts
    assert isinstance(backbone.normalization, Normalization)


@pytest.mark.parametrize("name", names())
def test_settings_are_what_build_takes(name):
    defaults = {key: parameter.default for key, parameter in settings(name).items()}
    assert ("fpn_channels" in defaults) == name.endswith("_fpn")
    assert not {"tail", "strict", "allow_download", "name"} & set(defaults)
    assert all(not isinstance(p.annotation, str) for p in settings(name).values())
    with torch.device("meta"):
        build(name, **defaults)


def test_the_same_seed_gives_the_same_weights_whatever_is_asked():
    torch.manual_seed(3)
    some = build("resnet18", width=0.25, levels=[3]).state_dict()
    torch.manual_seed(3)
    every = build("resnet18", width=0.25).state_dict()
    assert all(torch.equal(some[key], every[key]) for key in some)


def test_padding_is_the_mean_colour_once_normalised():
    images = torch.randint(0, 256, (2, 3, 8, 6), dtype=torch.uint8)
    mean_std = torch.tensor([[0.4, 0.5, 0.6], [0.2, 0.3, 0.1]]).reshape(2, 3, 1, 1)
    plain = normalize(images, mean_std)
    torch.testing.assert_close(plain, (images / 255 - mean_std[0]) / mean_std[1])
    padded = normalize(images, mean_std, torch.tensor([[8, 6], [5, 4]]))
    assert torch.equal(padded[0], plain[0])
    assert torch.equal(padded[1, :, :5, :4], plain[1, :, :5, :4])
    assert not padded[1, :, 5:].any()
    assert not padded[1, :, :, 4:].any()
