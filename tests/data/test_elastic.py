"""The coarse grid of shifts: its interpolation, its spread, and that masks go along."""

from __future__ import annotations

import numpy as np

from detkit.data.elastic import bicubic, shifts
from detkit.data.records import Annotation
from detkit.data.transforms import NOTHING, build


def test_bicubic_weights_meet_the_points_and_keep_straight_lines():
    for count in (1, 2, 3, 5):
        weights = bicubic(count, 41)
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
        at_points = weights[np.linspace(0, 40, count).astype(int)] if count > 1 else weights[:1]
        np.testing.assert_allclose(at_points, np.eye(count), atol=1e-6)
        line = weights @ np.linspace(-1, 1, count)
        if count > 1:
            np.testing.assert_allclose(line, np.linspace(-1, 1, 41), atol=1e-6)


def test_shifts_have_their_deviation_at_the_points():
    rng = np.random.default_rng(0)
    drawn = np.stack([shifts(rng, 3, 10.0, 21, 31) for _ in range(600)])
    spread = drawn.std(0)
    np.testing.assert_allclose(spread[:, ::10, ::15], 10, rtol=0.1)


def test_a_mask_is_bent_as_its_picture_and_nothing_is_void():
    transform = build(
        {"name": "segmentation", "elastic": 6.0, "elastic_grid": 3, "flip": 0.0}, train=True
    )
    mask = np.zeros((60, 80), np.uint8)
    mask[20:45, 30:60] = 1
    picture = np.repeat(mask[..., None] * np.uint8(255), 3, 2)
    annotation: Annotation = NOTHING
    sample = transform(picture, annotation, pixels=mask, seed=(3,))
    bent = sample.targets.pixels.numpy()
    assert set(np.unique(bent)) <= {0, 1}
    assert (bent != mask).mean() > 0.02
    assert ((sample.image[..., 0] > 127) == bent).mean() > 0.98
    again = transform(picture, annotation, pixels=mask, seed=(3,))
    other = transform(picture, annotation, pixels=mask, seed=(4,))
    assert (again.image == sample.image).all()
    assert (other.image != sample.image).any()
