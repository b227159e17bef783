"""What a user may ask of `build`, and how it answers mistakes."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d

from detkit.backbones.build import build as build_both
from detkit.errors import DetkitError


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "resnet5"}, "Did you mean resnet50"),
        ({"name": "resnet55_fpn"}, "Did you mean resnet50_fpn"),
        ({"name": "resnet50", "stride_in_1x": True}, "Did you mean stride_in_1x1"),
        ({"name": "resnet18", "stride_in_1x1": True}, "No setting of the backbone resnet18"),
        ({"name": "vgg16", "droput": 0.1}, "Did you mean dropout"),
        ({"name": "resnet18", "norm": "freeze"}, "Did you mean frozen"),
        ({"name": "resnet18", "levels": [2, 6]}, "no level 6.*\n.*1, 2, 3, 4, 5 "),
        ({"name": "resnet18", "levels": ["0"]}, "no level 0.*\n.*1, 2, 3, 4, 5 "),
        ({"name": "resnet18_fpn", "levels": [3, 9]}, "no level 9.*\n.*4, 5, 6, 7, 8 "),
        ({"name": "squeezenet1_0", "levels": [5, 6], "strict": False}, "no level 5, 6"),
        ({"name": "resnet18", "levels": []}, "No level"),
        ({"name": "resnet18", "frozen_stages": 6}, "5 stages are built.*\n.*0 … 5"),
        ({"name": "resnet18", "frozen_stages": 3, "levels": [2]}, "2 stages are built"),
        ({"name": "resnet18_fpn", "tail": True}, "upper stages"),
    ],
)
def test_a_mistake_is_answered_with_what_there_is(arguments, told):
    with pytest.raises(DetkitError, match=rf"(?s){told}"):
        build(**{"width": 0.125, **arguments})


def test_what_a_model_asks_is_left_out_where_it_does_not_exist():
    assert list(build("squeezenet1_0", levels=[3, 4, 5], strict=False).channels) == ["3", "4"]
    pyramid = build("squeezenet1_0_fpn", levels=[3, 4, 5, 6], strict=False, fpn_channels=8)
    assert list(pyramid.channels) == ["3", "4", "5"]


@pytest.mark.parametrize("levels", [[4, 2], ["2", "4"], [4, "2", 2], ("2", 4)])
def test_levels_are_integers_or_strings_in_any_order(levels):
    assert list(build("resnet18", width=0.125, levels=levels).channels) == ["2", "4"]


def test_one_level_needs_no_list():
    assert list(build("resnet18", width=0.125, levels="4").channels) == ["4"]


def test_without_a_word_a_tail_leaves_the_levels_in_front_of_it():
    backbone = build("resnet18", width=0.125, tail=True)
    assert list(backbone.channels) == ["1", "2", "3", "4"]
    assert not hasattr(backbone, "layer4")


@pytest.mark.parametrize("name", ["resnet18", "resnet18_fpn", "vgg11_bn", "mobilenet_v2"])
@pytest.mark.parametrize("stages", [0, 1, 3])
def test_frozen_stages_get_no_gradient_and_the_others_do(name, stages):
    backbone = build(name, width=0.25, frozen_stages=stages).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    maps = backbone(torch.randn(2, 3, 64, 64))
    sum(m.square().mean() for m in maps.values()).backward()
    groups = backbone.stages()
    for i, stage in enumerate(groups):
        parts = [part for module in stage for part in module.modules()]
        has = [p.grad is not None for module in stage for p in module.parameters()]
        norms = [isinstance(part, FrozenBatchNorm2d) for part in parts if hasattr(part, "eps")]
        assert not any(has) if i < stages else all(has)
        assert all(norms) if i < stages else not any(norms)
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(before[k], v)}
    counters = {k for k in before if k.endswith(".num_batches_tracked")}  # frozen norms have none
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"{k.rpartition('.')[0]}.{s}" for k in counters for s in statistics}


def test_norms_are_frozen_on_demand():
    assert not any(
        isinstance(m, torch.nn.BatchNorm2d)
        for m in build("googlenet", width=0.25, norm="frozen").modules()
    )
    assert any(
        isinstance(m, torch.nn.BatchNorm2d) for m in build("googlenet", width=0.25).modules()
    )


def test_the_stride_is_where_it_is_asked():
    plain, original = (
        build("resnet50", width=0.25),
        build("resnet50", width=0.25, stride_in_1x1=True),
    )
    for block in (net.layer2[0] for net in (plain, original)):
        assert block.downsample[0].stride == (2, 2)
    assert (plain.layer2[0].conv1.stride, plain.layer2[0].conv2.stride) == ((1, 1), (2, 2))
    assert (original.layer2[0].conv1.stride, original.layer2[0].conv2.stride) == ((2, 2), (1, 1))
    original.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 65, 64)
    assert {k: m.shape for k, m in plain(x).items()} == {k: m.shape for k, m in original(x).items()}


def test_width_multiplies_channels():
    full, half = build("resnet50"), build("resnet50", width=0.5)
    assert full.channels == {"1": 64, "2": 256, "3": 512, "4": 1024, "5": 2048}
    assert half.channels == {level: n // 2 for level, n in full.channels.items()}
    assert build("vgg16", width=1.0, levels=[4]).channels == {"4": 512}


@pytest.mark.parametrize("setting", ["width", "fpn_channels"])
def test_a_network_without_channels_is_refused(setting):
    with pytest.raises(DetkitError, match=rf"backbone\.{setting} is above 0"):
        build("resnet18_fpn", **{setting: 0})
