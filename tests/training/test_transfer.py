"""What learns first where weights were loaded: found for each kind of model, refused elsewhere."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from detkit.backbones.build import build as build_backbone
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.structures import Classes
from detkit.training.transfer import covering, first_of, stages_of

RESNET = {"width": 0.125}
HEAD = {"head_channels": 8, "proposals": [20, 20], "roi_samples": 8}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights of a trunk of each network, without what a classifier has behind it."""
    folder = tmp_path_factory.mktemp("weights")

    def saved(name: str):
        path = folder / f"{name}.safetensors"
        save_file(build_backbone(name, **RESNET)[0].state_dict(), path)
        return str(path)

    return saved


def model(name, backbone, weights="none", **settings):
    torch.manual_seed(0)
    pyramid = {"fpn_channels": 8} if backbone.endswith("_fpn") else {}
    chosen = {"name": backbone, "weights": weights, **RESNET, **pyramid}
    return build({"name": name, **settings}, chosen, Classes.numbered(3))


@pytest.mark.parametrize(
    ("name", "backbone", "settings", "first"),
    [
        ("classifier", "resnet18", {}, ("tail.",)),
        ("classifier", "vgg11", {}, ("tail.",)),  # with fc6 and fc7, which the trunk's file lacks
        ("faster_rcnn", "resnet18_fpn", HEAD, ("backbone.", "rpn.", "head.")),
        ("yolo_v3", "resnet18", {"neck_width": 0.05}, ("neck.", "heads.")),
    ],
)
def test_what_no_file_filled_learns_first(file, name, backbone, settings, first):
    net = model(name, backbone, file(backbone.removesuffix("_fpn")), **settings)
    head, rest = stages_of(net, 0.3, None)
    assert (head.name, head.share) == ("head", 0.3)
    assert (rest.name, rest.share, rest.trains) == ("train", 0.7, ("",))
    body = "backbone.body." if backbone.endswith("_fpn") else "backbone."
    for key, _ in net.named_parameters():
        assert key.startswith(head.trains) != key.startswith(body), key
    assert {prefix.split(".")[0] for prefix in head.trains} >= {f.split(".")[0] for f in first[-1:]}


def test_a_last_layer_of_other_classes_learns_alone(file, tmp_path):
    net = model("classifier", "vgg11")
    own = {k.removeprefix("backbone."): v for k, v in net.state_dict().items()}
    own = {k.removeprefix("tail."): v for k, v in own.items() if "logits" not in k}
    own |= {"classifier.6.weight": torch.zeros(7, 4), "classifier.6.bias": torch.zeros(7)}
    save_file({k: v for k, v in own.items() if k != "mean_std"}, tmp_path / "whole.safetensors")
    loaded = model("classifier", "vgg11", str(tmp_path / "whole.safetensors"))
    assert stages_of(loaded, 0.3, None)[0].trains == ("tail.logits.",)


def test_what_another_runs_weights_lack_learns_first():
    net = model("faster_rcnn", "resnet18_fpn", **HEAD)
    taken = [k for k in net.state_dict() if not k.startswith(("head.", "rpn.conv"))]
    (prefixes,) = {stages_of(net, share, {"taken": taken})[0].trains for share in (0.3, 1)}
    learning = {k for k, _ in net.named_parameters() if k.startswith(prefixes)}
    assert learning == {k for k, _ in net.named_parameters()} - set(taken)
    assert len(prefixes) == 2


def test_all_steps_may_be_the_heads(file):
    net = model("classifier", "resnet18", file("resnet18"))
    assert [s.share for s in stages_of(net, 1, None)] == [1]
    for none in (None, 0):
        assert [s.name for s in stages_of(net, none, None)] == ["train"]


def test_prefixes_mean_the_chosen_alone():
    names = ["a.b.w", "a.b.v", "a.c.w", "head.w", "head2.w", "head2.v", "s", "s2"]
    chosen = {"a.b.w", "a.b.v", "head.w", "head2.w", "s"}
    found = covering(names, chosen)
    assert found == ("a.b.", "head.", "head2.w", "s")
    assert {n for n in names if n.startswith(found[:-1])} == chosen - {"s"}


def test_models_with_stages_of_their_own_and_nothing_or_all_loaded_are_refused(file):
    with pytest.raises(DetkitError, match="No weights are loaded") as caught:
        stages_of(model("classifier", "resnet18"), 0.3, None)
    assert "backbone.weights=FILE" in caught.value.remedy
    net = model("yolo_v2", "resnet18", file("resnet18"), neck_width=0.05, anchor_images=8)
    with pytest.raises(DetkitError, match=r"stages of its own \(anchors → train\)"):
        stages_of(net, 0.3, None)
    net = model("classifier", "resnet18")
    with pytest.raises(DetkitError, match="nothing is new"):
        stages_of(net, 0.3, {"taken": list(net.state_dict())})


@pytest.mark.parametrize("plain", [{}, {"first": "head."}, {"first": [1]}])
def test_a_state_that_was_changed_by_hand_is_told(plain):
    with pytest.raises(DetkitError, match="what learns first"):
        first_of(plain)
