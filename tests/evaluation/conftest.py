"""Small data sets of arrays, given and random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from detkit.data.records import Records, Strings
from detkit.evaluation.results import Results


def _records(
    objects: Sequence[Sequence[tuple]],
    names: Sequence[str] = ("cat", "dog"),
    ids: Sequence[str] | None = None,
    integer_ids: bool = False,
) -> Records:
    """Records of images with objects (label, x1, y1, x2, y2[, "difficult" | "crowd"])."""
    flat = [item for image in objects for item in image]
    boxes = np.array([item[1:5] for item in flat], np.float32).reshape(-1, 4)
    ids = ids or [f"{i:06}" for i in range(len(objects))]
    return Records(
        names=tuple(names),
        category_ids=np.arange(1, len(names) + 1),
        source="a test",
        root=Path(),
        files=Strings.of(f"{name}.jpg" for name in ids),
        image_ids=Strings.of(ids),
        integer_ids=integer_ids,
        sizes=np.full((len(objects), 2), 200, np.int32),
        offsets=np.cumsum([0, *map(len, objects)]),
        boxes=boxes,
        labels=np.array([item[0] for item in flat], np.int64),
        crowd=np.array(["crowd" in item[5:] for item in flat], bool),
        difficult=np.array(["difficult" in item[5:] for item in flat], bool),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(1).astype(np.float64),
    )


def _results(*rows: tuple) -> Results:
    """Results of rows (image index, label, score, x1, y1, x2, y2)."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Results(
        images=table[:, 0].astype(np.int64),
        boxes=table[:, 3:],
        scores=table[:, 2],
        labels=table[:, 1].astype(np.int64),
    )


def _random_case(rng: np.random.Generator) -> tuple[Records, Results]:
    """A few images with clumps of objects on a coarse grid, so that overlaps and scores tie."""
    classes = int(rng.integers(1, 4))

    def box() -> list[float]:
        x, y = rng.integers(0, 8, 2) * 4.0
        w, h = rng.integers(1, 30, 2) * (1.0 if rng.random() < 0.3 else 4.0)
        return [x, y, x + w, y + h]

    images = []
    for _ in range(rng.integers(1, 6)):
        flags = rng.choice(["", "difficult", "crowd"], 6, p=[0.6, 0.2, 0.2])
        number = rng.integers(0, 6)
        images.append([(int(rng.integers(classes)), *box(), flags[n]) for n in range(number)])
    rows = []
    for _ in range(rng.integers(0, 40)):
        image = int(rng.integers(len(images)))
        near = images[image]
        label, corners = int(rng.integers(classes)), box()
        if near and rng.random() < 0.7:
            label, *corners = near[rng.integers(len(near))][:5]
            corners = list(np.add(corners, rng.integers(-2, 3, 4) * [0, 0, 1, 1]))
        corners[2:] = np.maximum(corners[2:], np.add(corners[:2], 1)).tolist()
        rows.append((image, label, rng.integers(0, 10) / 10, *corners))
    return _records(images, [f"class{k}" for k in range(classes)]), _results(*rows)


@pytest.fixture(scope="session")
def make_records() -> Callable[..., Records]:
    return _records


@pytest.fixture(scope="session")
def make_results() -> Callable[..., Results]:
    return _results


@pytest.fixture(scope="session")
def random_case() -> Callable[[np.random.Generator], tuple[Records, Results]]:
    return _random_case
