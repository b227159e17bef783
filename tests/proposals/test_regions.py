"""Colour spaces, histograms and neighbours beside loops over pixels."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from detkit.proposals.graph import segment
from detkit.proposals.regions import COLOUR_SPACES, STEEPEST, colour_space, describe, pixel_bins

RANDOM = np.random.default_rng(0)


def test_colour_spaces_are_what_their_names_say():
    image = RANDOM.integers(0, 256, (6, 7, 3), np.uint8)
    for name in COLOUR_SPACES:
        found = colour_space(image, name)
        assert found.shape == (6, 7, 1 if name in "hi" else 3)
        assert found.dtype == np.uint8
    hsv, rgi = colour_space(image, "hsv").astype(float), colour_space(image, "rgi").astype(float)
    for y, x in np.ndindex(6, 7):
        red, green, blue = image[y, x] / 255
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        around = abs(hsv[y, x, 0] - hue * 255)
        assert min(around, 255 - around) < 2
        np.testing.assert_allclose(hsv[y, x, 1:], [saturation * 255, value * 255], atol=1.5)
        total = red + green + blue
        intensity = 0.299 * red + 0.587 * green + 0.114 * blue
        wanted = [red / total * 255, green / total * 255, intensity * 255]
        np.testing.assert_allclose(rgi[y, x], wanted, atol=1.01)
    np.testing.assert_array_equal(colour_space(image, "h")[..., 0], hsv[..., 0])
    np.testing.assert_array_equal(colour_space(image, "i")[..., 0], rgi[..., 2])
    greys = colour_space(np.full((1, 1, 3), 128, np.uint8), "lab")
    assert greys[0, 0, 1:].tolist() == [128, 128]
    assert colour_space(np.zeros((1, 1, 3), np.uint8), "rgi").max() == 0  # no 0 / 0


@pytest.mark.parametrize("channels", [1, 3])
def test_histograms_sizes_boxes_and_pairs_are_those_of_a_loop(channels):
    image = RANDOM.integers(0, 256, (17, 23, channels), np.uint8)
    labels = segment(image, k=20, min_size=5)
    bins = pixel_bins(image)
    regions = describe(labels, bins)
    assert len(regions.sizes) == labels.max() + 1 > 5
    for n in range(labels.max() + 1):
        mask = labels == n
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert (regions.sizes[n], regions.boxes[n].tolist()) == (mask.sum(), box)
        colours, textures = [], []
        for c in range(channels):
            colours.append(np.histogram(image[mask][:, c].astype(int) * 25 // 256, 25, (0, 25))[0])
            slopes = reference_slopes(image[..., c].astype(float))[:, mask]
            textures += [np.histogram(steep, 10, (0, 10))[0] for steep in slopes]
        np.testing.assert_array_equal(regions.colours[n], np.concatenate(colours))
        # a slope that lies on a bin's border may fall on either side
        assert np.abs(regions.textures[n] - np.concatenate(textures)).sum() <= 2
        assert regions.textures[n].sum() == 8 * channels * mask.sum()
    touching = set()
    for y, x in np.ndindex(labels.shape):
        for other in labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].ravel():
            if other != labels[y, x]:
                touching.add(tuple(sorted((int(other), int(labels[y, x])))))
    assert list(map(tuple, regions.pairs.tolist())) == sorted(touching)


def reference_slopes(image: np.ndarray) -> np.ndarray:
    """(8, H, W): derivatives along 0°, 45° … 315° where they are positive, in bins from 0 to 9."""
    reach = np.arange(-4, 5)
    gauss = np.exp(-(reach**2) / 2)
    gauss /= gauss.sum()
    padded = np.pad(image, 4, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (9, 9))
    along_x = np.einsum("yxij,i,j->yx", windows, gauss, reach * gauss)
    along_y = np.einsum("yxij,i,j->yx", windows, reach * gauss, gauss)
    angles = np.arange(8) * np.pi / 4
    slopes = [np.cos(a) * along_x + np.sin(a) * along_y for a in angles]
    return np.minimum(np.maximum(slopes, 0) * 10 / STEEPEST, 9).astype(int)


def test_the_steepest_step_is_in_the_last_bin():
    image = np.zeros((9, 20, 1), np.uint8)
    image[:, 10:] = 255
    orientation, steepness = np.divmod(pixel_bins(image).textures[4 * 20 + 10], 10)
    assert orientation[0] == 0  # along x
    assert steepness[0] >= 7  # the derivative is largest between two pixels, not on one
    mirrored = pixel_bins(image[:, ::-1]).textures[4 * 20 + 9]
    assert mirrored[0] // 10 == 4  # against x
