"""R-CNN and SPPnet on a planted world: what is solved for is what the papers say."""

import copy

import pytest
import torch

from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.heads.kept_maps import KeptMaps
from detkit.models.heads.scales import resized
from detkit.models.heads.solving import fit_boxes, fit_svms
from detkit.models.region_svm import RegionSVM
from detkit.structures import Batch, Classes, Targets

IMAGES = torch.randint(
    0, 256, (2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
OWN = {
    "rcnn": {"warp": 64, "context": 4},
    "sppnet": {"head_channels": 16, "dropout": 0.0},
}


def model(name: str, backbone: str = "resnet18", **settings) -> RegionSVM:
    torch.manual_seed(0)
    given = {"name": name, **OWN[name], **settings}
    return build(given, {"name": backbone, "width": 0.125}, Classes.numbered(3)).eval()


def targets(*boxes, labels=None) -> Targets:
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Targets(rows, torch.tensor(labels or [0] * len(rows), dtype=torch.int64))


def batch(proposals: list[torch.Tensor], truth: list[Targets]) -> Batch:
    return Batch(IMAGES, torch.tensor([[96, 96], [96, 96]]), truth, proposals=proposals)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([low, low + 10 + torch.rand(count, 2, generator=generator) * 25], 1)


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_batch_has_32_objects_and_96_of_background_whichever_images_they_are_in(name):
    network = model(name)
    near = torch.tensor([[10.0, 10, 50, 50]]) + torch.rand(100, 4)
    away = torch.tensor([[10.0, 35, 50, 75]]) + torch.rand(100, 4)  # IoU of 0.23
    truth = [targets([10, 10, 50, 50], labels=[2]), targets()]
    rois, wanted, valid = network.choose([near, away], [truth[0], truth[0]])
    assert valid.all()
    assert wanted.bincount(minlength=4).tolist() == [0, 0, 32, 96]
    assert sum(map(len, rois)) == 128
    assert (rois[0][:, 1] < 12).all()
    # an image's order is that of the classes wanted
    assert (wanted[: len(rois[0])] == 2).all()


@pytest.mark.parametrize("name", sorted(OWN))
def test_images_without_any_proposal_train_and_predict(name):
    network, none = model(name).train(), torch.zeros(0, 4)
    losses = network(IMAGES, [targets(), targets()], proposals=[none, none])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    found = network.eval()(IMAGES, proposals=[none, none])
    assert [len(one) for one in found] == [0, 0]


@pytest.mark.parametrize("name", sorted(OWN))
def test_images_side_by_side_have_the_features_that_each_has_alone(name):
    network, boxes = model(name), [random_boxes(150, 1), random_boxes(7, 2)]
    images = IMAGES.float() / 255
    with torch.no_grad():
        both = network.features(images, boxes).split([150, 7])
        for i in range(2):
            alone = network.features(images[i : i + 1], [boxes[i]])
            torch.testing.assert_close(both[i], alone, atol=1e-4, rtol=1e-4)


def test_few_regions_are_in_the_backbone_at_once_more_in_the_tail_and_all_that_train(monkeypatch):
    """What VGG-16's maps take is bounded by it, beside the rows that the SVMs keep."""
    network, images, boxes = model("rcnn"), IMAGES.float() / 255, [random_boxes(40, 1)]
    seen: dict[str, list[int]] = {"backbone": [], "tail": []}
    for part, lots in seen.items():
        getattr(network, part).register_forward_hook(
            lambda _, inputs, __, lots=lots: lots.append(len(inputs[0]))
        )
    with torch.no_grad():
        together = network.features(images[:1], boxes)
        assert seen == {"backbone": [40], "tail": [40]}
        monkeypatch.setattr("detkit.models.rcnn.ON_CPU", 9 * 64 * 64)
        apart = network.features(images[:1], boxes)
        assert seen == {"backbone": [40, 9, 9, 9, 9, 4], "tail": [40, 40]}
        torch.testing.assert_close(apart, together, atol=1e-4, rtol=1e-4)
        network.train().features(images[:1], boxes)
    assert seen["backbone"][-1] == 40  # batch norms see all of them


@pytest.mark.parametrize("fit", [fit_svms, fit_boxes])
def test_features_of_one_image_at_a_time_are_in_memory(fit, monkeypatch):
    network, objects = model("rcnn"), random_boxes(2, 3)
    counts, features = [], network.features
    monkeypatch.setattr(
        network, "learnt_features", lambda x, rois: counts.append(len(rois)) or features(x, rois)
    )
    truth = [targets(*objects.tolist(), labels=[0, 1])] * 2
    fit(
        network,
        [batch([torch.cat([objects, random_boxes(9, 4)])] * 2, truth)],
        None,
        torch.Generator(),
    )
    assert len(counts) >= 2
    assert set(counts) == {1}


@pytest.mark.parametrize("name", sorted(OWN))
def test_svms_part_objects_from_background_and_a_class_without_any_finds_nothing(name):
    network = model(name, svm_penalty=10.0, **({"head_channels": 64} if name == "sppnet" else {}))
    objects = random_boxes(4, 3)
    truth = [targets(*objects[:2].tolist(), labels=[0, 1]), targets(*objects[2:].tolist())]
    given = batch([random_boxes(30, 4), random_boxes(30, 5)], truth)
    fit_svms(network, [given], None, torch.Generator())
    with torch.no_grad():
        scores, _ = network.head(network.features(network_images(network), [objects[:2]] * 2))
    assert scores[0, 0] > 0.5 > scores[1, 0]
    assert scores[1, 1] > 0.5 > scores[0, 1]
    found = network(IMAGES, proposals=given.proposals)
    assert not any((one.labels == 2).any() for one in found)


def test_where_negatives_are_more_than_there_is_room_for_it_says_of_which_classes(
    monkeypatch, capsys
):
    network, objects = model("sppnet"), random_boxes(4, 3)  # C is small: nothing is easy
    truth = [targets(*objects[:2].tolist(), labels=[0, 1]), targets(*objects[2:].tolist())]
    given = batch([random_boxes(30, 4), random_boxes(30, 5)], truth)
    fit_svms(network, [given], None, torch.Generator())
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("detkit.models.heads.solving.MEMORY", 4 * 16 * 24)  # 24 rows, 4 of objects
    fit_svms(network, [given], None, torch.Generator())
    names = network.class_list.names
    told = capsys.readouterr().out
    assert "room for 10 negatives a class" in told
    assert f"of {names[0]}, {names[1]}\n" in told
    assert network.svms.svm_weight[:2].any(1).all()


def network_images(network: RegionSVM) -> torch.Tensor:
    mean, std = network.mean_std
    return (IMAGES / 255 - mean) / std


@pytest.mark.parametrize("name", sorted(OWN))
@pytest.mark.parametrize("together", [True, False])
def test_boxes_are_moved_as_those_near_objects_were(name, together, monkeypatch):
    """Proposals lie left and above each object by a tenth of it: so much they are moved."""
    if not together:  # a pass for each class
        monkeypatch.setattr("detkit.models.heads.solving.SUMS", 1)
    network = model(name, box_penalty=1.0)
    objects = torch.tensor([[20.0, 20, 60, 50], [30, 30, 60, 90]])
    size = (objects[:, 2:] - objects[:, :2]).repeat(1, 2)
    proposals = objects - 0.1 * size
    truth = [targets(*objects.tolist(), labels=[0, 1]), targets()]
    far = torch.tensor([[0.0, 0, 10, 10]])
    given = batch([torch.cat([proposals, far]), far], truth)
    fit_boxes(network, [given], None, torch.Generator())
    with torch.no_grad():
        _, deltas = network.head(network.features(network_images(network), [proposals, far]))
    moved = network.head.box_coder.decode(deltas, torch.cat([proposals, far])[:, None])
    torch.testing.assert_close(moved[0, 0], objects[0], atol=0.3, rtol=0)
    torch.testing.assert_close(moved[1, 1], objects[1], atol=0.3, rtol=0)
    torch.testing.assert_close(moved[:, 2], torch.cat([proposals, far]))  # nothing to learn from


def test_a_context_that_leaves_nothing_is_told():
    with pytest.raises(DetkitError, match="leaves nothing of 30"):
        model("rcnn", warp=30, context=15)


def test_sppnet_wants_one_map():
    with pytest.raises(DetkitError, match="pools from one map, not from the levels 3, 4"):
        build(
            {"name": "sppnet"},
            {"name": "resnet18", "width": 0.125, "levels": [3, 4]},
            Classes.numbered(3),
        )


@pytest.mark.parametrize("name", sorted(OWN))
def test_without_proposals_it_says_what_it_wants(name):
    with pytest.raises(DetkitError, match="none came with the images"):
        model(name)(IMAGES)


def test_maps_of_a_frozen_trunk_are_kept_while_it_stays_as_it_is():
    network = model("sppnet")
    network.backbone.requires_grad_(False)
    images, boxes = network_images(network), [random_boxes(5, 1), random_boxes(5, 2)]
    fresh = network.features(images, boxes)
    first = network.learnt_features(images, boxes)
    again = network.learnt_features(images.flip(0), boxes[::-1])
    assert (network.kept.made, network.kept.found) == (2, 2)
    torch.testing.assert_close(first, fresh, atol=1e-4, rtol=1e-4)
    assert torch.equal(again, first.roll(5, 0))
    with torch.autocast("cpu", torch.bfloat16):  # other numbers
        network.learnt_features(images, boxes)
    network.learnt_features(images.flip(3), boxes)  # other pixels
    assert network.kept.made == 6
    assert copy.deepcopy(network).kept.made == 0
    with torch.no_grad():
        next(network.backbone.parameters()).mul_(2)
    changed = network.learnt_features(images, boxes)
    assert network.kept.made == 8
    assert not torch.equal(changed, first)
    torch.testing.assert_close(changed, network.features(images, boxes), atol=1e-4, rtol=1e-4)


def test_no_more_maps_are_kept_than_there_is_room_for():
    network = model("sppnet")
    network.backbone.requires_grad_(False)
    images, boxes = network_images(network), [random_boxes(5, 1), random_boxes(5, 2)]
    size = network.backbone(images[:1])["4"].numel() * 4
    network.kept = KeptMaps(size + 1)
    for _ in range(2):
        network.learnt_features(images, boxes)
    assert network.kept.bytes == size
    assert (network.kept.made, network.kept.found) == (3, 1)


def test_a_trunk_that_learns_has_its_gradients():
    network = model("sppnet").train()
    network.learnt_features(network_images(network), [random_boxes(5, 1)] * 2).sum().backward()
    assert all(p.grad is not None for p in network.backbone.parameters())
    assert network.kept.made == 0


def test_a_window_of_sppnet_is_taken_at_its_scale():
    network = model("sppnet", scales=[0.5, 1.0]).eval()
    small, large = torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([[0.0, 0, 480, 480]])
    images = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = network.features(images, [torch.cat([large, small])])
        alone = model("sppnet").eval()
        torch.testing.assert_close(both[1:], alone.features(images, [small]))
        half = resized(images, 0.5)
        torch.testing.assert_close(both[:1], alone.features(half, [large / 2]))
