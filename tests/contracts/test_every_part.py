"""Every model on five kinds of backbone, every backbone under one probe: held to the contract.

A new name is tested from the day it is registered; the names come from the registries.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import small
import torch

from detkit.backbones.backbone import backbones
from detkit.backbones.build import build as build_backbone
from detkit.config.compose import CONF
from detkit.errors import DetkitError
from detkit.inference.tasks import tasks
from detkit.localization import Localization
from detkit.models.build import build
from detkit.models.capsnet import Capsules
from detkit.models.model import Model, models
from detkit.models.region_svm import RegionSVM
from detkit.predictions import Classification, Detections, Segmentation
from detkit.structures import Classes

PAIRS = [(name, backbone) for name in small.names() for backbone in small.small(name).backbones]


def own_models() -> list[str]:
    """Without what other tests have registered in this process."""
    return [n for n in models.names() if models.part(n).__module__.startswith("detkit.models.")]


def test_every_model_has_small_settings():
    assert small.names() == own_models()


def test_every_model_has_an_experiment_on_the_shapes():
    files = {file.stem for file in (CONF / "experiment").glob("shapes_*.yaml")}
    assert {f"shapes_{name}" for name in own_models()} <= files


def test_every_models_task_and_needs_are_known():
    known = {"boxes", "masks", "pixels", "image_labels", "proposals", "one_object"}
    for name in models.names():
        assert models.part(name).task in tasks
        assert models.part(name).needs
        assert models.part(name).needs <= known


@pytest.mark.parametrize("name", backbones.names())
def test_levels_have_their_strides_and_channels(name):
    backbone, _ = build_backbone(name, width=0.125)
    maps = backbone(torch.randn(1, 3, 128, 128))
    assert list(maps) == list(backbone.channels) == list(backbone.strides)
    for level, found in maps.items():
        assert backbone.strides[level] == 2 ** int(level)
        assert found.shape[1] == backbone.channels[level]
        for side in found.shape[2:]:  # a 7×7 convolution without padding loses three cells
            assert 128 / backbone.strides[level] - 3 <= side <= 128 / backbone.strides[level] + 1


def test_a_tap_that_is_no_layer_is_refused():
    for name in ("resnet18", "vgg11", "darknet_cfg", "resnet18_fpn"):
        backbone, _ = build_backbone(name, width=0.125)
        with pytest.raises(DetkitError, match="layer5"):
            backbone(torch.zeros(1, 3, 64, 64), taps=("layer5",))


@pytest.mark.parametrize("fpn", ["", "_fpn"])
@pytest.mark.parametrize("base", backbones.names())
def test_a_backbone_serves_the_probe(base, fpn):
    pyramid = {"fpn_channels": 8} if fpn else {}
    settings = {"name": base + fpn, "width": 0.125, **pyramid}
    if base + fpn == "pixels_fpn":  # a pyramid on the picture itself has two levels
        with pytest.raises(DetkitError, match="has no level 2"):
            build(small.small("unet").model, settings, Classes.numbered(small.CLASSES))
        return
    torch.manual_seed(0)
    network = build(small.small("unet").model, settings, Classes.numbered(small.CLASSES))
    trains_without_objects_and_with_one(network, 64)


@pytest.mark.parametrize("base", backbones.names())
def test_a_backbone_is_a_detectors_head_where_it_has_upper_stages(base):
    model = small.small("faster_rcnn").model
    settings = {"name": base, "width": 0.125}
    if backbones.part(base).tail_size is None:
        with pytest.raises(DetkitError, match=f"backbone {base} has no upper stages"):
            build(model, settings, Classes.numbered(small.CLASSES))
        return
    network = build(model, settings, Classes.numbered(small.CLASSES))
    trains_without_objects_and_with_one(network, 64)


@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_a_pair_keeps_the_contract(name, backbone):
    settings = small.small(name)
    network = settings.build(backbone)
    trains_without_objects_and_with_one(network, settings.side)
    predicts(network, settings.side)


def trains_without_objects_and_with_one(network: Model, side: int) -> None:
    """Finite losses, and a finite gradient for every parameter that is trained."""
    one = small.target(side, (side // 8, side // 5, side * 5 // 8, side * 2 // 3))
    none = small.target(side)
    network.train()
    for targets in ([none, one], [none, none]):
        network.zero_grad(set_to_none=True)
        losses = network(**small.inputs(network, side), targets=targets)
        assert isinstance(losses, dict)
        assert losses
        for name, loss in losses.items():
            assert loss.shape == (), name
            assert loss.isfinite(), name
        sum(losses.values()).backward()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"{name} gets no gradient"
                assert parameter.grad.isfinite().all(), name


# its paper draws the regions to learn from out of the whole batch
FROM_THE_BATCH = {name for name in small.names() if issubclass(models.part(name), RegionSVM)}


@pytest.mark.parametrize("name", sorted(set(small.names()) - FROM_THE_BATCH))
def test_the_loss_of_a_batch_is_the_mean_of_its_images(name):
    """So that several processes learn what one with the whole batch learns."""
    settings = small.small(name)
    every = {"roi_samples": 4096, "roi_positive_fraction": 1.0}  # none is left out at random
    every |= {"rpn_samples": 4096, "rpn_positive_fraction": 1.0, "dropout": 0.0}
    own = {key: value for key, value in every.items() if key in models.settings(name)}
    network = replace(settings, model=settings.model | own).build(settings.backbones[0]).train()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._NormBase | torch.nn.Dropout):
            module.eval()
    side = settings.side
    targets = [small.target(side, (side // 8, side // 5, side * 5 // 8, side * 2 // 3))]
    targets += [small.target(side)]
    given = small.inputs(network, side)

    def gradients(part: slice) -> dict[str, torch.Tensor]:
        network.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        losses = network(**{key: v[part] for key, v in given.items()}, targets=targets[part])
        sum(losses.values()).backward()
        return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}

    whole, one, other = (gradients(slice(*part)) for part in ((0, 2), (0, 1), (1, 2)))
    for key, gradient in whole.items():
        mean = (one[key] + other[key]) / 2
        assert (gradient - mean).abs().max() <= 1e-2 * gradient.abs().max() + 1e-7, key


@torch.no_grad()
def predicts(network: Model, side: int) -> None:
    """One prediction an image of the task's kind, inside the image; the same whatever the mode."""
    sizes = torch.tensor([[side, side], [side, side - side // 4]])
    found = network.eval()(**small.inputs(network, side), sizes=sizes)
    assert len(found) == 2
    for prediction, size in zip(found, sizes.tolist(), strict=True):
        assert isinstance(prediction, tasks[network.task].prediction)
        CHECKS[type(prediction)](prediction, size)


def whole_boxes(found: Detections, size: list[int]) -> None:
    height, width = size
    assert found.boxes.isfinite().all()
    assert found.boxes.shape == (len(found), 4)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([width, height] * 2)).all()
    assert found.labels.lt(small.CLASSES).all()


def whole_logits(found: Segmentation, size: list[int]) -> None:
    assert len(found.logits) == small.CLASSES
    assert found.logits.isfinite().all()


def shares(found: Classification, size: list[int]) -> None:
    assert found.scores.shape == (small.CLASSES,)
    torch.testing.assert_close(found.scores.sum(), torch.tensor(1.0))


def lengths(found: Capsules, size: list[int]) -> None:
    assert found.scores.shape == (small.CLASSES,)
    assert found.scores.min() >= 0
    assert found.scores.max() < 1


def share_and_box(found: Localization, size: list[int]) -> None:
    shares(found, size)
    one = found.detections()
    assert len(one) == 1
    whole_boxes(one, size)


CHECKS = {
    Detections: whole_boxes,
    Segmentation: whole_logits,
    Classification: shares,
    Capsules: lengths,
    Localization: share_and_box,
}


@pytest.mark.parametrize("name", small.names())
def test_a_saved_model_loads_and_the_same_seed_gives_it_again(name, tmp_path):
    settings = small.small(name)
    backbone = settings.backbones[0]
    first, again, other = (settings.build(backbone, seed) for seed in (1, 1, 2))
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    )
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        given = small.inputs(first, settings.side)
        ours, theirs = first.eval()(**given), other.eval()(**given)
    for a, b in zip(ours, theirs, strict=True):
        for field in vars(a):
            if isinstance(getattr(a, field), torch.Tensor):
                assert torch.equal(getattr(a, field), getattr(b, field)), field
