"""U-Net's elastic deformation (Ronneberger 2015, section 3.1): a coarse grid of random shifts.

"Displacements are sampled from a Gaussian distribution with 10 pixels standard deviation" at the
points of a 3×3 grid over the picture, "per-pixel displacements are then computed using bicubic
interpolation".
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def bicubic(count: int, pixels: int) -> NDArray[np.float32]:
    """(pixels, count) weights at each pixel of `count` even points, the outer ones at the ends.

    Keys's kernel (a = −0.5); beyond the ends the points go on as straight lines.
    """
    if count == 1:
        return np.ones((pixels, 1), np.float32)
    place = np.linspace(0, count - 1, pixels)
    first = np.minimum(np.floor(place), count - 2).astype(np.int64)
    t = place - first
    around = np.stack(
        [
            (-(t**3) + 2 * t**2 - t) / 2,
            (3 * t**3 - 5 * t**2 + 2) / 2,
            (-3 * t**3 + 4 * t**2 + t) / 2,
            (t**3 - t**2) / 2,
        ]
    )
    weights = np.zeros((pixels, count + 2))
    for step, weight in enumerate(around):  # point −1 is in column 0
        weights[np.arange(pixels), first + step] += weight
    ends = weights[:, 0].copy(), weights[:, -1].copy()
    inner = weights[:, 1:-1]
    inner[:, 0] += 2 * ends[0]  # p(−1) = 2 p(0) − p(1)
    inner[:, 1] -= ends[0]
    inner[:, -1] += 2 * ends[1]
    inner[:, -2] -= ends[1]
    return inner.astype(np.float32)


def shifts(
    rng: np.random.Generator, points: int, sigma: float, height: int, width: int
) -> NDArray[np.float32]:
    """(2, height, width) shifts of each pixel along y and x, in pixels.

    Args:
        points: of the grid, a side. sigma: of the shifts at these points, pixels.
    """
    grid = rng.normal(0.0, sigma, (2, points, points)).astype(np.float32)
    moved = bicubic(points, height) @ grid @ bicubic(points, width).T
    return moved.astype(np.float32)


def grid_deformation(A: Any, points: int, sigma: float) -> Any:
    """The deformation as a step of albumentations (module `A`).

    What comes in from outside is the picture's mirror image, in masks too.
    """

    class GridDeformation(A.ElasticTransform):
        def get_params_dependent_on_data(self, params: Any, data: Any) -> dict[str, Any]:
            height, width = params["shape"][:2]
            down, across = shifts(self.random_generator, points, sigma, height, width)
            rows, columns = np.mgrid[:height, :width].astype(np.float32)
            return {"map_x": columns + across, "map_y": rows + down}

    return GridDeformation(border_mode=cv2.BORDER_REFLECT_101, p=1)
