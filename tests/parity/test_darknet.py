"""Darknet's networks beside OpenCV's reader of the same files, on real photos.

`make_darknet_fixture.py` made the fixture with OpenCV 4.14, where all elements were compared.
"""

from __future__ import annotations

from pathlib import Path

import darknet_networks as networks
import numpy as np
import pytest

FIXTURE = Path(__file__).with_name("darknet_opencv.npz")
TOLERANCE = 1e-4  # of the largest magnitude of each output


@pytest.mark.parametrize("case", networks.CASES, ids=lambda case: case.name)
def test_maps_and_predictions_equal_opencvs(shared, case):
    kept = np.load(FIXTURE)
    images = networks.images(shared, case.side)
    net = networks.network(shared, case, images)
    for i, image in enumerate(images):
        for j, answer in enumerate(networks.answers(net, image)):
            places, values, largest = (
                kept[f"{case.name}.{i}.{j}.{what}"] for what in ("places", "values", "largest")
            )
            assert len(places) == 250
            error = np.abs(answer.ravel()[places] - values).max() / largest
            assert error < TOLERANCE, (i, j)
        assert f"{case.name}.{i}.{j + 1}.places" not in kept  # none of OpenCV's outputs is left
