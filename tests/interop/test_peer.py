"""torchvision's model behind our contract: the same network, the same answers."""

import pytest
import torch
from hydra.core.config_store import ConfigStore
from torchvision.ops import box_iou

from detkit.commands.train import train
from detkit.config import compose
from detkit.errors import DetkitError
from detkit.interop.torchvision import load_faster_rcnn
from detkit.models.build import build
from detkit.models.model import models
from detkit.structures import Classes, Targets


@pytest.fixture
def peer():
    """The module registers its model; afterwards the registry is as it was."""
    import detkit.interop.peer  # noqa: F401

    stored = ConfigStore.instance().repo
    had_models = "model" in stored
    yield {"name": "torchvision_faster_rcnn", "score_thresh": 0.0}
    for name in ("torchvision_faster_rcnn", "torchvision_mask_rcnn"):
        models._entries.pop(name, None)
    if not had_models:
        stored.pop("model", None)
    import sys

    del sys.modules["detkit.interop.peer"]


def test_the_peer_starts_from_our_backbone_and_answers_like_ours(peer):
    torch.manual_seed(0)
    backbone = {"name": "resnet18_fpn", "norm": "frozen", "frozen_stages": 2}
    theirs = build(peer, backbone, Classes.numbered(2))
    with torch.no_grad():  # untrained scores all but tie: spread them
        theirs.peer.rpn.head.cls_logits.weight *= 100
        theirs.peer.roi_heads.box_predictor.cls_score.weight *= 100
    ours = build({"name": "faster_rcnn", "score_thresh": 0.0}, backbone, Classes.numbered(2))
    load_faster_rcnn(ours, theirs.peer.state_dict())
    frozen = [n for n, p in theirs.peer.backbone.named_parameters() if not p.requires_grad]
    assert frozen
    assert not any("layer2" in name for name in frozen)

    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        (a,), (b,) = ours(images), theirs(images)
    assert len(a) == len(b) > 0
    same = (box_iou(b.boxes, a.boxes) > 0.99) & (b.labels[:, None] == a.labels)
    assert same.any(1).float().mean() > 0.95


def test_the_peer_trains_on_a_crowd_and_on_nothing(peer):
    model = build(peer, {"name": "resnet18_fpn", "norm": "frozen"}, Classes.numbered(2))
    crowd = Targets(torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([1]), crowd=torch.tensor([True]))
    losses = model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), [crowd])
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses["loss_box_reg"] == 0


@pytest.mark.parametrize("name", ["torchvision_faster_rcnn", "torchvision_mask_rcnn"])
def test_the_peer_trains_and_is_measured_by_our_command(peer, name, tmp_path):
    settings = compose(
        "train",
        [
            *("plugins=[detkit.interop.peer]", f"model={name}"),
            *("backbone=resnet18_fpn", "backbone.norm=frozen", "dataset=shapes"),
            *("dataset.train_images=4", "dataset.val_images=2", "dataset.size=64"),
            *("training.max_steps=1", "training.batch_size=2", "training.workers=0"),
            *("device=cpu", f"run_dir={tmp_path / 'run'}"),
        ],
    )
    assert train(settings)["images"] == 2


def test_a_backbone_without_a_pyramid_is_refused(peer):
    with pytest.raises(DetkitError, match="FPN"):
        build(peer, {"name": "resnet18"}, Classes.numbered(2))
