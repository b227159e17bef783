"""The outline of a mask along its pixels' edges, so that the polygon covers those pixels exactly.

Each edge between a pixel inside and one outside is an arrow with the inside on its right; arrows
chain to rings, clockwise around what is inside and the other way around holes.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np


def rings(mask: np.ndarray) -> list[np.ndarray]:
    """The rings of a mask.

    Args:
        mask: (H, W) bool.
    Returns:
        (n, 2) int64 each, x and y of the corners; none where the mask is empty.
    """
    inside = np.pad(mask.astype(np.int8), 1)
    across, along = np.diff(inside, axis=0)[:, 1:-1], np.diff(inside, axis=1)[1:-1]
    following: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for y, x in np.argwhere(across).tolist():
        ends = (x, y), (x + 1, y)  # the upper edge of a pixel goes right, the lower one left
        start, end = ends if across[y, x] > 0 else ends[::-1]
        following[start].append(end)
    for y, x in np.argwhere(along).tolist():
        ends = (x, y + 1), (x, y)  # the left edge goes up, the right one down
        start, end = ends if along[y, x] > 0 else ends[::-1]
        following[start].append(end)
    found = []
    while following:
        first = place = next(iter(following))
        ring = []
        while True:
            ring.append(place)
            ends_here = following[place]
            after = ends_here.pop()
            if not ends_here:
                del following[place]
            place = after
            if place == first:
                break
        found.append(_corners(np.array(ring)))
    return found


def polygon(mask: np.ndarray) -> np.ndarray:
    """One polygon of a mask of any number of parts and holes: rings are joined by lines that are
    walked there and back, which cover nothing.

    Args:
        mask: (H, W) bool.
    Returns:
        (n, 2) int64, x and y; n is 0 where the mask is empty.
    """
    found = rings(mask)
    if len(found) < 2:
        return found[0] if found else np.zeros((0, 2), np.int64)
    closed = [np.concatenate([ring, ring[:1]]) for ring in found]
    back = np.stack([ring[0] for ring in found[-2::-1]])
    return np.concatenate([*closed, back])


def _corners(ring: np.ndarray) -> np.ndarray:
    """Without the points that lie on a straight line."""
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    return ring[(before != after).any(1)]
