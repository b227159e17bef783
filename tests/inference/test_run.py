"""Prepared models compute what the models themselves compute; predictions find their images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detkit.backbones.backbone import normalize
from detkit.inference.run import predictions, prepare
from detkit.structures import Batch, Classes, Frame


def norms(model: nn.Module) -> int:
    return sum("BatchNorm" in type(module).__name__ for module in model.modules())


@torch.no_grad()
def largest_difference(ours: dict, theirs: dict) -> float:
    assert ours.keys() == theirs.keys()
    return max(
        float((ours[k] - theirs[k]).abs().max() / theirs[k].abs().max().clamp(min=1e-6))
        for k in ours
    )


def batch_of(*sizes: tuple[int, int]) -> Batch:
    """Grey images of these sizes, the first half as bright as the second, padded to the largest."""
    height, width = (max(side) for side in zip(*sizes, strict=True))
    images = torch.zeros(len(sizes), 3, height, width, dtype=torch.uint8)
    frames = []
    for k, (h, w) in enumerate(sizes):
        images[k, :, :h, :w] = 50 * (k + 1)
        frames.append(Frame(f"id{k}", -1, f"{k}.jpg", (2 * h, 2 * w), (h, w)))
    return Batch(images, torch.tensor(sizes), frames=frames)


def test_a_prepared_model_has_no_norms_left_and_the_same_result(detector):
    fast = prepare(detector, "cpu", "fp32")
    x = torch.randn(2, 3, 32, 48)
    assert (norms(detector), norms(fast)) == (2, 0)
    assert largest_difference(fast.backbone(x), detector.backbone(x)) < 1e-5


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50_fpn", "mobilenet_v2", "googlenet", "vgg11_bn", "darknet53"]
)
@pytest.mark.parametrize("frozen", [False, True])
def test_folding_changes_no_backbone(detector, scrambled, name, frozen):
    from detkit.backbones.build import build
    from detkit.backbones.norms import freeze_norms

    torch.manual_seed(0)
    detector.backbone = scrambled(build(name, width=0.125, levels=("3", "4"))[0])
    if frozen:
        freeze_norms(detector)
    fast = prepare(detector, "cpu", "fp32")
    x = torch.randn(1, 3, 64, 96)
    assert norms(detector) > 5
    assert norms(fast) == 0
    with torch.inference_mode():
        assert largest_difference(fast.backbone(x), detector.backbone(x)) < 1e-4


def test_a_backbone_with_something_between_convolution_and_norm_is_left_as_it_is(detector):
    class Unlike(type(detector.backbone)):
        def forward(self, images):
            return {"1": self.block(self.bn1(self.conv1(images).relu()))}

    detector.backbone.__class__ = Unlike
    fast = prepare(detector, "cpu", "fp32")
    x = torch.randn(1, 3, 32, 32)
    assert largest_difference(fast.backbone(x), detector.backbone(x)) < 1e-5
    assert norms(fast) == 2


def test_what_is_not_sure_to_run_in_order_is_left_as_it_is_outside_the_backbone(detector):
    class NormFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            nn.init.uniform_(self.norm.weight, 0.5, 2)
            nn.init.uniform_(self.norm.running_mean)

        def forward(self, x):
            return self.conv(self.norm(x).relu())

    torch.manual_seed(0)
    detector.neck = nn.Sequential(NormFirst(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    fast, x = prepare(detector.eval(), "cpu", "fp32"), torch.randn(1, 4, 8, 8)
    assert (norms(detector.neck), norms(fast.neck)) == (2, 1)  # a Sequential's order is sure
    assert largest_difference({"1": fast.neck(x)}, {"1": detector.neck(x)}) < 1e-5


def test_preparing_leaves_the_model_alone(detector):
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    prepare(detector, "cpu", "bf16")
    after = detector.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(p.requires_grad for p in detector.parameters())


def test_half_precision_casts_weights_once_and_keeps_the_preprocessing(detector):
    fast = prepare(detector, "cpu", "bf16")
    assert {p.dtype for p in fast.parameters()} == {torch.bfloat16}
    assert fast.mean_std.dtype == torch.float32
    exact = detector.backbone(normalize(torch.full((1, 3, 32, 32), 99), detector.mean_std))["1"]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        rough = fast.backbone(normalize(torch.full((1, 3, 32, 32), 99), fast.mean_std))["1"]
    assert rough.dtype == torch.bfloat16
    assert largest_difference({"1": rough.float()}, {"1": exact}) < 0.03


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predictions_are_in_pixels_of_their_own_image(detector, precision):
    model = prepare(detector, "cpu", precision)
    batches = [batch_of((20, 32), (16, 24)), batch_of((8, 8))]
    got = list(predictions(model, batches, device="cpu", precision=precision, names=["cat", "dog"]))
    assert [[f.image_id for f in frames] for frames, _ in got] == [["id0", "id1"], ["id0"]]
    boxes = [found.boxes.tolist() for _, batch in got for found in batch]
    assert [b[0] for b in boxes] == [[0, 0, 32, 20], [0, 0, 24, 16], [0, 0, 8, 8]]
    assert got[0][1][0].names == ("cat", "dog")
    assert got[0][1][1].scores[0] == pytest.approx(100 / 255, abs=1e-3)


def test_maps_are_as_large_as_the_file(segmenter):
    ((_, (first, second)),) = predictions(
        segmenter, [batch_of((20, 32), (16, 24))], device="cpu", precision="fp32", names=["r", "g"]
    )
    assert first.labels.shape == (40, 64)
    assert second.labels.shape == (32, 48)


def test_the_callers_code_runs_outside_of_inference_mode(detector):
    for _ in predictions(detector, [batch_of((8, 8))], device="cpu", precision="fp32", names="ab"):
        assert not torch.is_inference_mode_enabled()
        assert torch.ones(1, requires_grad=True).mul(2).requires_grad


def test_one_batch_is_asked_for_at_a_time(detector):
    asked = []

    def stream():
        for k in range(3):
            asked.append(k)
            yield batch_of((8, 8))

    found = predictions(detector, stream(), device="cpu", precision="fp32", names=["a", "b"])
    next(found)
    assert asked == [0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(
    ("model", "backbone"),
    [
        ("faster_rcnn", "resnet18"),
        ("faster_rcnn", "resnet18_fpn"),
        ("yolo_v3", "mobilenet_v2"),
        ("unet", "resnet18"),
    ],
)
def test_every_family_runs_in_half_precision(scrambled, model, backbone, precision):
    from detkit.models.build import build

    torch.manual_seed(0)
    given = {"name": model} if model == "unet" else {"name": model, "score_thresh": 0.0}
    neck = {"fpn_channels": 16} if backbone.endswith("fpn") else {}
    net = scrambled(
        build(
            given,
            {"name": backbone, "width": 0.125, "weights": "none", **neck},
            Classes.numbered(3),
        )
    )
    batch = batch_of((64, 64))
    batch.images += torch.arange(64, dtype=torch.uint8)[:, None]  # not all pixels alike
    fast = prepare(net, "cpu", precision)
    ((_, found),) = predictions(fast, [batch], device="cpu", precision=precision, names="abc")
    for one in found:
        if model == "unet":
            assert one.logits.isfinite().all()
            continue
        assert len(one) > 0
        assert one.boxes.dtype == one.scores.dtype == torch.float32
        assert one.boxes.isfinite().all()
