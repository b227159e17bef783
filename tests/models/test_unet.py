"""U-Net against a straightforward reference, and what could break it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from detkit.backbones.backbone import Backbone, normalize
from detkit.errors import DetkitError
from detkit.models.heads.pixel_loss import focal_loss
from detkit.models.unet import Block, UNet
from detkit.structures import IGNORE, Classes, Targets


class Fake(Backbone):
    """Convolutions with a map for each level; `floor` rounds sizes down, as AlexNet's do."""

    def __init__(self, levels: str = "012345", width: int = 4, floor: bool = False) -> None:
        super().__init__()
        self.channels = {level: width + int(level) for level in levels}
        self.strides = {level: 2 ** int(level) for level in levels}
        self.layers, given = nn.ModuleList(), 3
        for level in range(int(max(levels)) + 1):
            taken, given = given, width + level
            self.layers.append(
                nn.Conv2d(taken, given, 3, stride=2 if level else 1, padding=1 - floor)
            )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = {}
        for level, layer in enumerate(self.layers):
            images = layer(images).relu()
            maps[str(level)] = images
        return {level: maps[level] for level in self.channels}


def network(num_classes: int = 3, levels: str = "0123", **settings) -> UNet:
    torch.manual_seed(0)
    return UNet(Fake(levels), Classes.numbered(num_classes), decoder_width=4, **settings)


def random_batch(count: int = 3, seed: int = 0, side: int = 32):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    pixels = torch.randint(0, 4, (count, side, side), generator=generator, dtype=torch.uint8)
    pixels[pixels == 3] = IGNORE
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    return images, [Targets(none.boxes, none.labels, pixels=p) for p in pixels]


@pytest.mark.parametrize("upsample", ["bilinear", "nearest", "transposed"])
def test_the_forward_pass_is_figure_1_written_out(upsample):
    model = network(upsample=upsample).eval()
    images, _ = random_batch()
    maps = model.backbone(normalize(images, model.mean_std))
    features = maps["3"]
    for block, level in zip(model.decoder, "210", strict=True):
        if upsample != "transposed":
            features = nn.Upsample(scale_factor=2, mode=upsample)(features)
        else:
            features = nn.functional.conv_transpose2d(
                features, block.up.weight, block.up.bias, stride=2
            )
        features = torch.cat([maps[level], features], 1)
        for first in (0, 3):
            convolution, norm = block.convolutions[first], block.convolutions[first + 1]
            features = nn.functional.conv2d(features, convolution.weight, padding=1)
            features = (features / math.sqrt(1 + norm.eps)).relu()  # statistics of a new norm
    expected = nn.functional.conv2d(features, model.head.weight, model.head.bias)
    found = torch.stack([s.logits for s in model(images)])
    assert found.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_the_loss_is_the_slow_references(weights):
    model = network(class_weights=weights).eval()
    images, targets = random_batch()
    sizes = torch.tensor([[32, 32], [20, 32], [32, 7]])
    logits = torch.stack([s.logits for s in model(images, sizes=sizes)])
    means = []
    for i in range(3):
        total, weight = 0.0, 0.0
        for y in range(sizes[i, 0]):
            for x in range(sizes[i, 1]):
                label = int(targets[i].pixels[y, x])
                if label != IGNORE:
                    w = weights[label] if weights else 1.0
                    row = logits[i, :, y, x].tolist()
                    total += w * (math.log(sum(map(math.exp, row))) - row[label])
                    weight += w
        means.append(total / weight)
    loss = model(images, targets, sizes)["pixels"]
    assert loss.item() == pytest.approx(sum(means) / 3, rel=1e-5)


def test_what_comes_back_depends_on_the_arguments_alone():
    model = network()
    images, targets = random_batch()
    for mode in (True, False):
        model.train(mode)
        assert set(model(images, targets)) == {"pixels"}
        found = model(images)
        assert [s.logits.shape for s in found] == [(3, 32, 32)] * 3
        assert found[0].labels.dtype == torch.uint8


@pytest.mark.parametrize("void", [(0,), (0, 1, 2)])
def test_images_without_a_pixel_that_counts_train(void):
    model = network()
    images, targets = random_batch()
    for i in void:
        targets[i].pixels.fill_(IGNORE)
    loss = model(images, targets)["pixels"]
    assert loss.isfinite()
    assert (loss == 0) == (len(void) == 3)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_a_focal_loss_of_any_exponent_has_gradients(gamma):
    """Also where a pixel is right beyond float32's doubt, and where one does not count."""
    logits = torch.tensor([[[[0.0, 60.0, 0.0]], [[1.0, -60.0, 0.0]]]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[[0, 0, IGNORE]]]), torch.ones(2), gamma)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    p = 1 / (1 + math.e)
    assert float(loss.detach()) == pytest.approx(-((1 - p) ** gamma) * math.log(p) / 2, rel=1e-4)


def test_the_loss_of_a_batch_is_the_mean_of_its_images():
    model = network().eval()  # batch norm by stored statistics, else images see each other
    images, targets = random_batch()
    targets[1].pixels.fill_(IGNORE)
    targets[2].pixels[:, 1:] = IGNORE  # few pixels count as much as many
    together = model(images, targets)["pixels"]
    alone = [model(images[i : i + 1], targets[i : i + 1])["pixels"] for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_labels_in_the_padding_do_not_count():
    model = network()
    images, targets = random_batch(1)
    sizes = torch.tensor([[32, 16]])
    before = model(images, targets, sizes)["pixels"].item()
    targets[0].pixels[:, 16:] = 1
    assert model(images, targets, sizes)["pixels"].item() == before
    targets[0].pixels[:, :16] = 1
    assert model(images, targets, sizes)["pixels"].item() != before


def test_maps_without_padding_fit_padded_images():
    model = network().eval()
    images, targets = random_batch(1)
    sizes = torch.tensor([[32, 16]])
    before = model(images, targets, sizes)["pixels"]
    targets[0].pixels = targets[0].pixels[:, :16]
    assert torch.equal(model(images, targets, sizes)["pixels"], before)


def test_repeated_pixels_have_the_gradients_of_repeating_them():
    torch.manual_seed(0)
    block = Block(5, 3, 4, "nearest")
    features = torch.randn(2, 5, 6, 7, requires_grad=True)
    skip = torch.randn(2, 3, 12, 14, requires_grad=True)
    goal = torch.randn(2, 4, 12, 14)
    inputs = features, skip, block.convolutions[0].weight
    short = torch.autograd.grad(
        (block.repeated(features, skip, block.convolutions[0]) * goal).sum(), inputs
    )
    large = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
    whole = block.convolutions[0](torch.cat([skip, large], 1))
    for a, b in zip(short, torch.autograd.grad((whole * goal).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_targets_without_a_map_are_named():
    images, targets = random_batch()
    targets[1].pixels = None
    with pytest.raises(DetkitError, match=r"Image 1 .* no map of pixel labels"):
        network()(images, targets)


@pytest.mark.parametrize("upsample", ["bilinear", "nearest", "transposed"])
@pytest.mark.parametrize("side", [32, 33, 45])
@pytest.mark.parametrize("levels", ["012345", "12345", "2345", "24", "234", "4", "0", "23456"])
def test_every_encoder_comes_back_to_full_resolution(levels, side, upsample):
    model = network(levels=levels, upsample=upsample)
    images, targets = random_batch(2, side=side)
    assert model(images)[0].logits.shape == (3, side, side)
    model(images, targets)["pixels"].backward()
    assert model.head.weight.grad.abs().sum() > 0


def test_encoders_that_round_their_sizes_down_fit():
    model = UNet(Fake("234", floor=True), Classes.numbered(3), decoder_width=4)
    assert model(random_batch(2, side=70)[0])[0].logits.shape == (3, 70, 70)


def test_the_papers_decoder():
    model = UNet(Fake("01234"), Classes.numbered(2), decoder_width=64)
    assert [b.convolutions[0].out_channels for b in model.decoder] == [512, 256, 128, 64]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"upsample": "bilinaer"}, "Did you mean bilinear"),
        ({"class_weights": [1.0]}, "1 class weights for 3 classes"),
        ({"loss": "dise"}, "cross_entropy, dice, focal, or a sum"),
        ({"loss": "dice+0*focal"}, "above 0"),
    ],
)
def test_impossible_settings_are_named(settings, words):
    with pytest.raises(DetkitError, match=words):
        network(**settings)


@pytest.mark.parametrize("upsample", ["bilinear", "transposed"])
def test_a_handful_of_pictures_is_learnt_by_heart(upsample):
    torch.manual_seed(0)
    images, targets = random_batch(4, side=32)
    for i, target in enumerate(targets):  # two rectangles of other colours and a border of void
        target.pixels.zero_()
        target.pixels[2 + i : 14, 3:20] = 1
        target.pixels[16:30, 10 : 24 + i] = 2
        images[i] = images[i] // 8 + 60 * target.pixels
        target.pixels[:1] = IGNORE
    model = UNet(Fake("1234", width=16), Classes.numbered(3), decoder_width=8, upsample=upsample)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(images, targets)["pixels"]
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    for found, target in zip(model.eval()(images), targets, strict=True):
        counts = target.pixels != IGNORE
        assert (found.labels == target.pixels)[counts].float().mean() > 0.97


def test_under_autocast_the_loss_and_the_logits_are_float32():
    model = network()
    images, targets = random_batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss, found = model(images, targets)["pixels"], model(images)
    assert loss.dtype == found[0].logits.dtype == torch.float32
    assert loss.isfinite()
