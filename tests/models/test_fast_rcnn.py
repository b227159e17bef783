"""Fast R-CNN's own rules, and that it is Faster R-CNN's head on proposals from elsewhere."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detkit.data.formats.shapes import read
from detkit.data.loading import Batches, Dataset
from detkit.data.transforms import build as build_transform
from detkit.errors import DetkitError
from detkit.inference.run import prepare
from detkit.models.build import build
from detkit.models.fast_rcnn import FastRCNN
from detkit.models.faster_rcnn import FasterRCNN
from detkit.models.heads.scales import at_fitting_scale, fitting
from detkit.models.heads.solving import fit_svms
from detkit.models.heads.truncated import factors, two_layers
from detkit.proposals.files import ProposalsFile, write_npz
from detkit.structures import Batch, Classes, Targets

PYRAMID = {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8}
IMAGES = torch.randint(
    0, 256, (2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def fast(backbone=PYRAMID, **settings) -> FastRCNN:
    torch.manual_seed(0)
    model = {"name": "fast_rcnn", "head_channels": 16, **settings}
    return build(model, backbone, Classes.numbered(4))


def targets(*boxes) -> Targets:
    labels = torch.arange(len(boxes)) % 4
    return Targets(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels)


@pytest.mark.parametrize("backbone", [PYRAMID, {"name": "resnet18", "width": 0.125}])
@pytest.mark.parametrize("pooling", ["pool", "align"])
def test_on_the_rpns_proposals_it_finds_what_faster_rcnn_does(backbone, pooling):
    torch.manual_seed(1)
    given = {"head_channels": 16, "roi_pooling": pooling, "nms_iou": 0.5, "score_thresh": 0.0}
    both = build({"name": "faster_rcnn", **given}, backbone, Classes.numbered(4)).eval()
    with torch.no_grad():  # detections stay near their proposals
        both.head.predictor.deltas.weight.mul_(0.01)
        both.head.predictor.logits.weight.mul_(0.01)
    levels = [level for level in both.backbone.channels if level != "6"]
    head = fast({**backbone, "levels": levels}, **given).eval()
    own = {k: v for k, v in both.state_dict().items() if not k.startswith("rpn.")}
    head.load_state_dict(own)
    sizes = torch.tensor([[96, 96], [96, 70]])
    assert isinstance(both, FasterRCNN)
    with torch.no_grad():
        wanted = both(IMAGES, sizes=sizes)
        _, maps, _ = both.maps(IMAGES, sizes)
        proposals, _ = both.rpn(maps, sizes)
        found = head(IMAGES, sizes=sizes, proposals=proposals)
    assert sum(map(len, wanted)) > 10
    for one, other in zip(wanted, found, strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.labels, other.labels)


def test_background_overlaps_an_object_by_a_tenth_to_a_half():
    model = fast(roi_samples=100)
    offered = torch.tensor(
        [  # of an object of 40 × 40 they cover so many columns, and nothing else
            *([0.0, 0, 40, 30], [0, 0, 40, 20], [0, 0, 40, 19], [0, 0, 40, 4], [0, 0, 40, 3]),
            *([50.0, 50, 60, 60],),
        ]
    )
    rois, matched, valid = model.head.choose([offered], [targets([0, 0, 40, 40])])
    kinds = {
        tuple(roi): int(m) for roi, m in zip(rois[valid].tolist(), matched[valid], strict=True)
    }
    assert kinds == {
        (0, 0, 40, 40): 0,  # the ground truth's own box
        (0, 0, 40, 30): 0,  # 0.75
        (0, 0, 40, 20): 0,  # 0.5
        (0, 0, 40, 19): -1,  # 0.475
        (0, 0, 40, 4): -1,  # 0.1
    }


def test_an_image_has_64_rois_of_which_a_quarter_are_objects():
    model = fast()
    boxes = torch.tensor([[0.0, 0, 40, 40]]) + torch.rand(200, 4)
    halves = torch.tensor([[0.0, 0, 40, 15]]) + torch.rand(200, 4)
    _, matched, valid = model.head.choose([torch.cat([boxes, halves])], [targets([0, 0, 40, 40])])
    assert valid.sum() == 64
    assert (matched[valid] == 0).sum() == 16


@pytest.mark.parametrize("backbone", [PYRAMID, {"name": "resnet18", "width": 0.125}])
def test_images_without_any_proposal_train_and_predict(backbone):
    model = fast(backbone)
    none = torch.zeros(0, 4)
    losses = model(IMAGES, [targets(), targets()], proposals=[none, none])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    losses = model(IMAGES, [targets([5, 5, 40, 60]), targets()], proposals=[none, none])
    assert losses["head_class"] > 0  # the object itself is an RoI
    found = model.eval()(IMAGES, proposals=[none, none])
    assert [len(one) for one in found] == [0, 0]


def test_without_proposals_it_says_what_it_wants():
    with pytest.raises(DetkitError, match="none came with the images") as caught:
        fast()(IMAGES)
    assert "model.proposer" in caught.value.remedy


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"proposer": "file"}, "proposer=file names no file"),
        ({"proposals_file": "a.npz"}, "proposer=selective_search reads no file"),
        ({"proposer": "file", "proposals_file": "nowhere/a.npz"}, "no such file"),
        ({"proposer": "edgeboxes"}, "edgeboxes"),
    ],
)
def test_a_proposer_that_cannot_be_is_told(settings, told):
    with pytest.raises(DetkitError, match=told):
        fast(**settings)


@pytest.fixture
def shapes():
    records = read(None, "train", needs=frozenset({"boxes"}), images=True, train_images=3, size=64)
    return replace(records, notes=())


def test_proposals_of_a_file_come_with_the_batch_through_the_same_flip(shapes, tmp_path):
    offered = {str(i): shapes.annotation(i).boxes for i in range(2)} | {"2": np.zeros((0, 4))}
    write_npz(tmp_path / "boxes.npz", offered)
    model = fast(proposer="file", proposals_file=str(tmp_path / "boxes.npz"))
    transform = build_transform({"name": "detection", "flip": 1.0, "short_side": 96}, train=True)
    dataset = Dataset(shapes, transform, proposer=model.proposer)
    (batch,) = Batches(dataset, [[(0, 0), (0, 1), (0, 2)]], 1, False)
    for boxes, truth in list(zip(batch.proposals, batch.targets, strict=True))[:2]:
        torch.testing.assert_close(boxes, truth.boxes)
    assert len(batch.proposals[2]) == 0
    losses = model(**batch.inputs(), targets=batch.targets)
    assert all(loss.isfinite() for loss in losses.values())


def test_an_image_that_the_file_does_not_know_is_named(shapes, tmp_path):
    write_npz(tmp_path / "boxes.npz", {"0": np.zeros((0, 4))})
    proposer = ProposalsFile(tmp_path / "boxes.npz")
    dataset = Dataset(
        shapes, build_transform({"name": "detection"}, train=False), proposer=proposer
    )
    with pytest.raises(DetkitError, match="no proposals for the image 1") as caught:
        dataset[(0, 1)]
    assert caught.value.file == tmp_path / "boxes.npz"


def test_copies_of_a_model_share_its_proposer_and_a_process_gets_but_its_file(tmp_path):
    many = {str(i): np.random.default_rng(i).random((1000, 4)).cumsum(1) for i in range(20)}
    write_npz(tmp_path / "boxes.npz", many)
    model = fast(proposer="file", proposals_file=str(tmp_path / "boxes.npz"), proposals=7)
    for copied in (copy.deepcopy(model), prepare(model, "cpu", "fp32")):
        assert copied.proposer is model.proposer
        assert copied.head.predictor.logits is not model.head.predictor.logits
    sent = pickle.dumps(model.proposer)
    assert len(sent) < 500
    image = np.zeros((9, 9, 3), np.uint8)
    ours, theirs = (p(image, image_id="3", file="") for p in (model.proposer, pickle.loads(sent)))
    assert len(ours) == 7
    assert np.array_equal(ours, theirs)


def test_a_proposal_is_classified_at_the_scale_that_fits_it():
    """Beside each scale alone; which one fits by a plain loop."""
    scales = (0.5, 1.0, 2.0)
    sides = torch.tensor([20.0, 100, 150, 300, 400, 500])
    rois = torch.cat([torch.zeros(6, 2), sides[:, None].expand(6, 2)], 1)
    wanted = [min(range(3), key=lambda i: abs((s * scales[i]) ** 2 - 224**2)) for s in sides]
    assert fitting(rois, scales).tolist() == wanted == [2, 2, 1, 0, 0, 0]

    def marked(images, rois):
        return torch.cat([boxes[:, 2:3] for boxes in rois]) + images.shape[2] * 1000

    images = torch.zeros(2, 3, 64, 64)
    found = at_fitting_scale(scales, images, [rois[[0, 4]], rois[[2]]], marked)
    assert found[:, 0].tolist() == [128_040, 32_200, 64_150]
    none = at_fitting_scale(scales, images, [rois[:0]] * 2, marked)
    assert none.shape == (0, 1)


def test_at_half_the_scale_it_sees_the_picture_of_half_the_size():
    model, small = fast(scales=[0.5, 4.0]).eval(), fast().eval()
    half = F.interpolate(IMAGES.float() / 255, scale_factor=0.5, mode="bilinear", antialias=True)
    boxes = [torch.tensor([[0.0, 0, 96, 96], [8, 8, 90, 80]])] * 2
    model.scales = (0.5,)
    mean, std = model.mean_std
    with torch.no_grad():
        found = model.learnt_features((IMAGES / 255 - mean) / std, boxes)
        padded = F.pad((half - mean) / std, (0, 16, 0, 16))
        wanted = small.learnt_features(padded, [b / 2 for b in boxes])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_every_scale_is_trained_in_its_turn():
    model = fast(scales=[0.5, 1.0])
    seen = []
    model.backbone.register_forward_hook(lambda _, given, out: seen.append(given[0].shape[2]))
    truth = [targets([5, 5, 40, 60]), targets()]
    for _ in range(12):
        losses = model(IMAGES, truth, proposals=[torch.tensor([[4.0, 4, 44, 60]])] * 2)
    assert set(seen) == {64, 96}  # 48 pixels are padded to 64
    assert all(loss.isfinite() for loss in losses.values())


def test_svms_score_in_place_of_the_softmax_once_they_are_solved_for():
    model = fast(scorer="svm", roi_pooling="align").eval()
    assert [stage.name for stage in model.stages()] == ["train", "svms"]
    truth = [targets([5, 5, 40, 60], [50, 10, 90, 40]), targets([20, 20, 80, 80])]
    boxes = [torch.cat([t.boxes, t.boxes[:1] * 0.3]) for t in truth]
    given = Batch(IMAGES, torch.tensor([[96, 96]] * 2), truth, proposals=boxes)
    before = model(IMAGES, proposals=boxes)
    model.svms.rules = replace(model.svms.rules, penalty=100.0)
    fit_svms(model, [given], None, torch.Generator())
    after = model(IMAGES, proposals=boxes)
    assert not torch.equal(before[0].scores[:3], after[0].scores[:3])
    mean, std = model.mean_std
    with torch.no_grad():
        features = model.learnt_features((IMAGES / 255 - mean) / std, [t.boxes for t in truth])
        scores, _ = model.head.predictor.scored(features)
    assert (scores.argmax(1) == torch.tensor([0, 1, 0])).all()
    assert not (scores[:, 2:] > 0.01).any()  # classes without an object


def test_vgg_is_trained_from_the_layer_that_frozen_stages_leaves():
    """conv3_1 on with two of them, as in the paper's section 4.5."""
    backbone = {"name": "vgg16", "width": 0.125, "frozen_stages": 2}
    model = build({"name": "fast_rcnn"}, backbone, Classes.numbered(4))
    names = [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    assert names[0] == "features.10.weight"


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_a_layer_through_its_largest_singular_values_is_the_best_of_that_rank(shape):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(shape[1], shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.randn(shape, generator=generator))
    u, s, v = torch.linalg.svd(layer.weight.detach().double(), full_matrices=False)
    wanted = (u[:, :5] * s[:5]) @ v[:5]
    first, second = factors(layer.weight.detach(), 5)
    torch.testing.assert_close(second @ first, wanted.float(), atol=1e-5, rtol=1e-4)
    x = torch.randn(7, shape[1], generator=generator)
    torch.testing.assert_close(
        two_layers(layer, 5)(x), x @ wanted.float().T + layer.bias, atol=1e-4, rtol=1e-4
    )
