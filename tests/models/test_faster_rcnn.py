"""Faster R-CNN's own rules: crowds, empty images, padding, borders."""

import pytest
import torch
from torch import nn

from detkit.backbones.backbone import Backbone
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.faster_rcnn import FasterRCNN, sizes_per_level
from detkit.models.heads import rpn
from detkit.models.heads.box_head import Samples
from detkit.models.heads.matching import BACKGROUND, IGNORED, gather_targets, match_image
from detkit.structures import Classes, Targets


class Pyramid(Backbone):
    """One convolution a level: the smallest thing with strides."""

    def __init__(self) -> None:
        super().__init__()
        self.strides = {str(level): 2**level for level in (3, 4, 5)}
        self.channels = dict.fromkeys(self.strides, 8)
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, s, s) for s in self.strides.values())

    def forward(self, images):
        return {level: conv(images) for level, conv in zip(self.strides, self.convs, strict=True)}


def targets(boxes=(), labels=(), crowd=None) -> Targets:
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        crowd=None if crowd is None else torch.tensor(crowd),
    )


@pytest.fixture
def model() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(Pyramid(), Classes.numbered(3), head_channels=16, anchor_sizes=[16, 32, 64])


def test_the_losses_of_a_batch_are_the_mean_of_its_images_when_all_anchors_are_drawn():
    torch.manual_seed(0)
    model = FasterRCNN(
        Pyramid(),
        Classes.numbered(3),
        head_channels=16,
        anchor_sizes=[16, 32, 64],
        rpn_samples=10**6,
        rpn_positive_fraction=1.0,
        roi_samples=10**6,
        roi_positive_fraction=1.0,
    )
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    both = [targets([[8, 8, 40, 40]], [1]), targets([[30, 10, 80, 50], [5, 5, 25, 60]], [0, 2])]
    batch = model(images, both)
    alone = [model(images[i : i + 1], both[i : i + 1]) for i in range(2)]
    for name, value in batch.items():
        mean = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)


def test_nothing_inside_a_crowd_is_background():
    boxes = torch.tensor([[10.0, 10, 20, 20], [60, 60, 70, 70]])
    crowd = targets([[0, 0, 50, 50]], [0], [True])
    assert match_image(boxes, crowd, 0.5, 0.5).tolist() == [IGNORED, BACKGROUND]
    across = torch.tensor([[45.0, 0, 55, 10], [44, 0, 54, 10], [46, 0, 56, 10]])  # a half, 0.6, 0.4
    assert match_image(across, crowd, 0.5, 0.5).tolist() == [BACKGROUND, IGNORED, BACKGROUND]


def test_a_crowd_is_never_a_target(model):
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    crowd = [targets([[0, 0, 40, 40]], [0], [True])]
    losses = model(images, crowd)
    assert losses["rpn_box"] == 0
    assert losses["head_box"] == 0
    _, matched, valid = model.head.choose([torch.tensor([[0.0, 0, 40, 40]])], crowd)
    assert not valid.any()
    assert (matched < 0).all()


def test_nothing_is_found_in_the_padding(model):
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    padded = torch.full((1, 3, 128, 160), 77, dtype=torch.uint8)
    padded[:, :, :64, :96] = images
    (found,) = model(padded, sizes=torch.tensor([[64, 96]]))
    assert len(found) > 0
    assert (found.boxes[:, 2] <= 96).all()
    assert (found.boxes[:, 3] <= 64).all()


def test_what_lies_beyond_the_border_leaves_no_sliver_on_it(model):
    size = torch.tensor([[64, 96]])
    (proposals,), _ = model.rpn([torch.zeros(1, 8, 128 // s, 160 // s) for s in (8, 16, 32)], size)
    assert len(proposals) > 0
    assert (proposals[:, 2:] - proposals[:, :2] >= rpn.MIN_SIDE).all()
    rois = torch.tensor([[100.0, 10, 120, 30], [10, 70, 30, 90], [10, 10, 30, 30]])
    (found,) = model.head.detect(torch.full((3, 3), 0.25), torch.zeros(3, 3, 4), [rois], size)
    torch.testing.assert_close(found.boxes, rois[2:].expand(3, 4))  # once a class


def test_padding_is_no_background(model):
    maps = [torch.zeros(2, 8, 128 // s, 128 // s) for s in (8, 16, 32)]
    anchors = torch.cat(model.rpn.anchors(maps))
    both = [targets([[0, 0, 30, 30]], [0])] * 2
    whole, padded = model.rpn.match(anchors, torch.tensor([[128, 128], [128, 64]]), both)
    centre = anchors[:, [0, 2]].mean(1)
    assert (whole != IGNORED).sum() > (padded != IGNORED).sum()
    assert (padded[centre > 64] == IGNORED).all()
    assert torch.equal(padded[centre <= 64], whole[centre <= 64])


def test_an_anchor_is_not_background_and_object_at_once():
    with pytest.raises(DetkitError, match=r"rpn_pos_iou \(0\.2\) is below"):
        FasterRCNN(Pyramid(), Classes.numbered(1), anchor_sizes=[16, 32, 64], rpn_pos_iou=0.2)


def test_the_head_of_upper_stages_takes_the_level_in_front_of_them():
    backbone = {"name": "resnet18", "width": 0.125, "levels": [3, 4]}
    with pytest.raises(DetkitError, match="follow level 4") as caught:
        build({"name": "faster_rcnn"}, backbone, Classes.numbered(2))
    assert "_fpn" in caught.value.remedy


def test_anchors_across_the_border_can_be_left_out_of_training():
    torch.manual_seed(0)
    model = FasterRCNN(
        Pyramid(), Classes.numbered(1), anchor_sizes=[16, 32, 64], rpn_across_border=False
    )
    maps = [torch.zeros(1, 8, 64 // s, 64 // s) for s in (8, 16, 32)]
    anchors = torch.cat(model.rpn.anchors(maps))
    matched = model.rpn.match(anchors, torch.tensor([[64, 48]]), [targets([[0, 0, 30, 30]], [0])])
    crossing = (anchors[:, :2] < 0).any(1) | (anchors[:, 2] > 48) | (anchors[:, 3] > 64)
    assert crossing.any()
    assert not crossing.all()
    assert (matched[0, crossing] == IGNORED).all()
    assert (matched[0, ~crossing] != IGNORED).any()


def test_an_object_whose_best_anchor_crosses_the_border_is_trained_with_the_best_inside():
    """As the paper's code: those outside are out before the best of an object is looked for."""
    model = FasterRCNN(
        Pyramid(), Classes.numbered(1), anchor_sizes=[16, 32, 64], rpn_across_border=False
    )
    anchors = torch.tensor([[-8.0, 0, 24, 32], [0, 0, 24, 24], [40, 40, 60, 60]])
    there = [targets([[0, 0, 24, 40]], [0])]
    assert model.rpn.match(anchors, torch.tensor([[64, 64]]), there).tolist() == [[IGNORED, 0, -1]]


@pytest.mark.parametrize(("levels", "fine"), [([2, 5], True), ([6], False)])
def test_a_pyramid_with_gaps_pools_from_what_it_has(levels, fine):
    backbone = {"name": "resnet18_fpn", "width": 0.125, "levels": levels, "fpn_channels": 8}
    if not fine:
        with pytest.raises(DetkitError, match="levels up to 5"):
            build({"name": "faster_rcnn"}, backbone, Classes.numbered(2))
        return
    model = build({"name": "faster_rcnn", "head_channels": 8}, backbone, Classes.numbered(2))
    truth = [targets([[0, 0, 250, 250], [0, 0, 20, 20]], [0, 1])]
    losses = model(torch.zeros(1, 3, 256, 256, dtype=torch.uint8), truth)
    assert all(loss.isfinite() for loss in losses.values())


def test_targets_are_gathered_image_by_image():
    both = [targets([[1, 2, 3, 4], [5, 6, 7, 8]], [3, 4]), targets()]
    boxes, labels = gather_targets(both, torch.tensor([[1, 0, -1], [-1, -2, -1]]))
    assert boxes[0, :2].tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]
    assert labels[0, :2].tolist() == [4, 3]


def test_a_missing_anchor_size_is_named():
    with pytest.raises(DetkitError, match="2 entries for 3 levels"):
        sizes_per_level([16, 32], [8, 16, 32])


def test_a_class_weight_scales_that_class_alone():
    logits, deltas = torch.zeros(4, 4), torch.zeros(4, 3, 4)
    rois, valid = torch.rand(1, 4, 4), torch.ones(1, 4, dtype=torch.bool)
    matched = torch.tensor([[0, 0, 1, -1]])  # classes 1, 1, 2 and background
    truth = [targets([[8, 8, 40, 40], [0, 0, 9, 9]], [1, 2])]
    weighted = FasterRCNN(
        Pyramid(), Classes.numbered(3), class_weights=[5.0, 3.0, 1.0], anchor_sizes=[16, 32, 64]
    )
    loss = weighted.head.predictor.losses(logits, deltas, Samples(rois, matched, valid), truth)[
        "head_class"
    ]
    # each is log 4 of four even classes, a quarter each: (3 + 3 + 1 + 1) / 4 = 2
    torch.testing.assert_close(loss, 2 * torch.tensor(4.0).log())


def test_the_box_of_a_crowd_is_no_roi_to_train_on():
    model = FasterRCNN(Pyramid(), Classes.numbered(3), anchor_sizes=[16, 32, 64])
    truth = targets([[0, 0, 40, 40], [50, 50, 60, 60]], [1, 2], crowd=[True, False])
    rois, matched, valid = model.head.choose([torch.zeros(0, 4)], [truth])
    assert rois[valid].tolist() == [[50, 50, 60, 60]]
    assert matched[valid].tolist() == [1]


def test_an_unknown_way_of_pooling_is_refused():
    with pytest.raises(DetkitError, match="Did you mean align"):
        FasterRCNN(Pyramid(), Classes.numbered(3), anchor_sizes=[16, 32, 64], roi_pooling="alignn")
