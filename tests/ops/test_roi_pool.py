"""RoI pooling against torchvision's kernels, values and gradients."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align, roi_pool

from detkit.ops.roi_pool import SPARSE_FROM, pool_rois, pyramid_level


def random_rois(r: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    centre = torch.rand(r, 2, generator=generator) * torch.tensor([width, height])
    side = torch.exp(torch.rand(r, 2, generator=generator) * 6 - 0.5)
    rois = torch.cat([centre - side / 2, centre + side / 2], dim=1)
    rois[: r // 2, 0::2] = rois[: r // 2, 0::2].clamp(0, width)  # half of them cross the border
    rois[: r // 2, 1::2] = rois[: r // 2, 1::2].clamp(0, height)
    return rois


@pytest.mark.parametrize("r", [3, SPARSE_FROM - 1, SPARSE_FROM + 500])
@pytest.mark.parametrize("size", [1, 7])
def test_a_pyramid_is_pooled_as_torchvision_does(r, size):
    generator = torch.Generator().manual_seed(8)
    height, width = 96, 128
    ours = [
        torch.randn(2, 5, height // s, width // s, generator=generator, requires_grad=True)
        for s in (4, 8, 16, 32)
    ]
    theirs = [m.detach().clone().requires_grad_() for m in ours]
    rois = random_rois(r, height, width, generator)
    image = torch.randint(0, 2, (r,), generator=generator).sort().values
    pooled = pool_rois(ours, [2, 3, 4, 5], rois, image, size)
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], size, 2)
    expected = reference(
        {str(i): m for i, m in enumerate(theirs)},
        [rois[image == 0], rois[image == 1]],
        [(height, width)] * 2,
    )
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-4)
    weight = torch.randn(pooled.shape, generator=generator)
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("mode", ["align", "pool"])
def test_one_map_is_pooled_as_the_kernel_does(mode):
    generator = torch.Generator().manual_seed(9)
    for _ in range(1000 // 50):
        features = torch.randn(2, 3, 12, 9, generator=generator)
        rois = random_rois(50, 12 * 16, 9 * 16, generator)
        image = torch.randint(0, 2, (50,), generator=generator)
        numbered = torch.cat([image[:, None].float(), rois], dim=1)
        expected = (
            roi_align(features, numbered, 7, 1 / 16, 2)
            if mode == "align"
            else roi_pool(features, numbered, 7, 1 / 16)
        )
        pooled = pool_rois([features], [4], rois, image, 7, mode=mode)
        torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-4)


def test_no_rois_give_no_features_and_a_gradient_of_zero():
    features = torch.randn(1, 3, 8, 8, requires_grad=True)
    for maps, levels in (([features], [4]), ([features, features], [4, 5])):
        pooled = pool_rois(maps, levels, torch.zeros(0, 4), torch.zeros(0).long(), 7)
        assert pooled.shape == (0, 3, 7, 7)
        features.grad = None
        pooled.sum().backward()
        assert features.grad is not None
        assert not features.grad.any()


def test_bfloat16_maps_give_bfloat16_features():
    features = torch.randn(1, 3, 8, 8).bfloat16()
    rois = random_rois(40, 128, 128, torch.Generator().manual_seed(1))
    pooled = pool_rois([features], [4], rois, torch.zeros(40).long(), 7)
    assert pooled.dtype == torch.bfloat16


def test_an_image_sized_roi_goes_to_level_four():
    sides = torch.tensor([112.0, 224.0, 447.0, 449.0, 10.0, 5000.0])
    rois = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    # 4 + log2(side / 224): 3, 4, 4.997, 5.003, below 2, above 5
    assert (pyramid_level(rois, [2, 3, 4, 5]) + 2).tolist() == [3, 4, 4, 5, 2, 5]


def test_without_its_level_a_roi_goes_to_the_nearest():
    sides = torch.tensor([50.0, 112.0, 224.0, 500.0])  # of levels 2, 3, 4, 5
    rois = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    assert pyramid_level(rois, [2, 5]).tolist() == [0, 0, 1, 1]
    assert pyramid_level(rois, [2, 4, 5]).tolist() == [0, 0, 1, 2]
    assert pyramid_level(rois, [4]).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("levels", [[2], [2, 3]])
@pytest.mark.parametrize("mode", ["align", "pool"])
@pytest.mark.parametrize("r", [3, SPARSE_FROM + 8])
def test_under_autocast_rois_keep_their_place(levels, mode, r):
    height, width = 600, 1000  # as coordinates in bf16 these would be rounded to 4 pixels
    ramps = [
        torch.arange(width >> k).float().expand(1, 2, height >> k, width >> k).contiguous()
        for k in levels
    ]
    rois = torch.tensor([[701.0, 301, 765, 365]]).repeat(r, 1)
    image = torch.zeros(r, dtype=torch.int64)
    exact = pool_rois(ramps, levels, rois, image, 7, mode=mode)
    maps = [ramp.bfloat16().requires_grad_() for ramp in ramps]
    with torch.autocast("cpu", torch.bfloat16):
        rough = pool_rois(maps, levels, rois, image, 7, mode=mode)
    assert rough.dtype == torch.bfloat16
    rounded = pool_rois([m.detach().float() for m in maps], levels, rois, image, 7, mode=mode)
    torch.testing.assert_close(rough.float(), rounded, rtol=2**-8, atol=0)
    assert (rounded - exact).abs().max() < 1  # a cell of 4 pixels, by the maps' own rounding
    rough.float().sum().backward()
    assert sum(float(m.grad.float().sum()) for m in maps if m.grad is not None) > 0
