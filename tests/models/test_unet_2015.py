"""U-Net as published: its sizes, its figure written out, its mirrored borders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from detkit.backbones.backbone import normalize
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.unet_2015 import mirrored, side_for, surrounded
from detkit.structures import IGNORE, Classes, Targets


def network(classes: int = 2, width: float = 0.125, channels: int = 1, **settings):
    torch.manual_seed(0)
    backbone = {"name": "unet_encoder_2015", "width": width, "in_channels": channels}
    return build({"name": "unet_2015", **settings}, backbone, Classes.numbered(classes))


def pictures(side: int, count: int = 1, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 2, (count, side, side), generator=generator, dtype=torch.uint8)
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    return images, [Targets(*none, pixels=p) for p in labels]


def test_the_papers_numbers():
    assert side_for(388, 92) == 572  # figure 1
    assert side_for(256, 92) == 444
    assert side_for(572, 0) == 572
    with torch.device("meta"):
        model = network(width=1.0)
    down = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    convolutions = sum(9 * a * b + b + 9 * b * b + b for a, b in down)
    up = sum(
        4 * b * a + b + 9 * a * b + b + 9 * b * b + b for b, a in down[1:] for a, b in [(a, b)]
    )
    assert sum(p.numel() for p in model.parameters()) == convolutions + up + 64 * 2 + 2


def test_the_network_is_figure_1_written_out():
    model = network().eval()
    x = torch.randn(1, 1, 188, 204, generator=torch.Generator().manual_seed(1))
    found = model.head(model.expand(model.backbone(x)))
    maps, features = [], x
    for level in range(5):
        features = F.max_pool2d(features, 2) if level else features
        for layer in model.backbone.get_submodule(f"stage{level}"):
            if isinstance(layer, torch.nn.Conv2d):
                assert layer.padding == (0, 0)
                features = F.conv2d(features, layer.weight, layer.bias).relu()
        maps.append(features)
    for block, skip in zip(model.decoder, maps[-2::-1], strict=True):
        features = F.conv_transpose2d(features, block.up.weight, block.up.bias, stride=2)
        edge = [(a - b) // 2 for a, b in zip(skip.shape[2:], features.shape[2:], strict=True)]
        inside = skip[:, :, edge[0] : -edge[0], edge[1] : -edge[1]]
        features = torch.cat([inside, features], 1)
        for layer in block.convolutions[::2]:
            features = F.conv2d(features, layer.weight, layer.bias).relu()
    wanted = F.conv2d(features, model.head.weight, model.head.bias)
    assert wanted.shape[2:] == (4, 20)  # 184 less
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_borders_are_mirrored_at_each_images_own_edge():
    images = torch.randn(2, 3, 30, 25, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[30, 25], [21, 1]])
    seen = surrounded(images, sizes, 92)
    assert seen.shape[2:] == (side_for(30, 92), side_for(25, 92))
    for image, (height, width), whole in zip(images, sizes.tolist(), seen, strict=True):
        behind = [s - 92 - n for s, n in zip(whole.shape[1:], (height, width), strict=True)]
        pads = [(0, 0), (92, behind[0]), (92, behind[1])]
        wanted = np.pad(image[:, :height, :width].numpy(), pads, "reflect")
        assert (whole.numpy() == wanted).all()
    assert mirrored(3, -3, 6).tolist() == [1, 2, 1, 0, 1, 2, 1, 0, 1]


def test_what_pads_a_batch_is_not_looked_at():
    model = network().eval()
    images, targets = pictures(48)
    sizes = torch.tensor([[40, 48]])
    first, loss = model(images, sizes=sizes)[0].logits, model(images, targets, sizes)["pixels"]
    images[:, :, 40:] = 0
    targets[0].pixels[40:] = 1
    assert torch.equal(model(images, sizes=sizes)[0].logits, first)
    assert torch.equal(model(images, targets, sizes)["pixels"], loss)


def test_without_mirrors_only_the_middle_is_learnt():
    model = network(mirror=False, border_weight=0).eval()
    images, targets = pictures(204)  # 204 − 184 = 20
    middle = slice(92, 112)
    loss = model(images, targets)["pixels"]
    outside = torch.ones(204, 204, dtype=torch.bool)
    outside[middle, middle] = False
    targets[0].pixels[outside] = IGNORE
    assert torch.equal(model(images, targets)["pixels"], loss)
    # and it sees what is around it, not mirrors
    logits = model.head(model.expand(model.backbone(normalize(images, model.mean_std))))
    labels = targets[0].pixels[middle, middle].long()
    torch.testing.assert_close(F.cross_entropy(logits, labels[None]), loss)


def test_a_narrow_border_weighs_more():
    images, targets = pictures(40)
    labels = torch.zeros(40, 40, dtype=torch.uint8)
    labels[4:36, 4:19] = labels[4:36, 21:36] = 1
    targets[0].pixels = labels
    plain, bordered = network(border_weight=0).eval(), network(border_weight=10.0).eval()
    wrong = plain.head.bias.data.new_tensor([-3.0, 3.0])  # all is called 1
    for model in (plain, bordered):
        model.head.weight.data.zero_()
        model.head.bias.data.copy_(wrong)
    assert bordered(images, targets)["pixels"] > 1.2 * plain(images, targets)["pixels"]
    named = network(background="1", border_weight=10.0)
    assert named.background == 1


@pytest.mark.parametrize(
    ("model", "backbone", "words"),
    [
        ({}, "resnet18", "no form without padding"),
        ({}, "unet_encoder_fpn", "own contracting path"),
        ({"background": "cell"}, "unet_encoder", "No class 'cell'|class"),
        ({"border_weight": -1.0}, "unet_encoder", "border_weight"),
        ({"loss": "hinge"}, "unet_encoder", "loss"),
    ],
)
def test_impossible_settings_are_named(model, backbone, words):
    settings = {"name": backbone, "width": 0.125}
    with pytest.raises(DetkitError, match=words):
        build({"name": "unet_2015", **model}, settings, Classes.numbered(2))
