"""A filter by hand: what a convolution computes, place by place, on a picture of few numbers.

picture 8×8      filter 3×3     its answer 6×6
0 0 0 1 1 0 0 0    0 1 0       0 0 3 3 0 0
…                  0 1 0       …
                   0 1 0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detkit.errors import DetkitError
from detkit.explain import canvas
from detkit.explain.page import Picture, Section

BAR = ((0, 0, 0, 1, 1, 0, 0, 0),) * 8  # two pixels wide
VERTICAL = ((0, 1, 0),) * 3
LINE, PULSE = ((0, 0, 0, 1, 1, 0, 0, 0),), ((0, 1, 0),)  # the same in one dimension
MOST = 12  # steps that are drawn
PHOTO = 640  # pixels of the long side of a photo that the filter is laid on
LARGEST = 40  # numbers a side of a picture that is shown as numbers


@dataclass(frozen=True)
class Step:
    """One place of the filter on the picture.

    Attributes:
        row, column: where its upper left number lies.
        products: (k, l), number by number.
        total: their sum, which is the answer there.
    """

    row: int
    column: int
    products: np.ndarray
    total: float


def steps(picture: np.ndarray, kernel: np.ndarray) -> Iterator[Step]:
    """Each place of the filter inside the picture, row by row.

    As in every network the filter is not turned round: this is a cross-correlation.

    Args:
        picture: (H, W).
        kernel: (k, l), no larger than the picture.
    """
    height, width = kernel.shape
    for row in range(picture.shape[0] - height + 1):
        for column in range(picture.shape[1] - width + 1):
            products = picture[row : row + height, column : column + width] * kernel
            yield Step(row, column, products, float(products.sum()))


def answer(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(H − k + 1, W − l + 1): the sums of all places."""
    shape = tuple(p - k + 1 for p, k in zip(picture.shape, kernel.shape, strict=True))
    return np.array([step.total for step in steps(picture, kernel)]).reshape(shape)


def matrix(values: Sequence[Sequence[float]], setting: str) -> np.ndarray:
    """
    Args:
        setting: where the user wrote the numbers.
    Raises:
        DetkitError: rows of unlike length, or none.
    """
    lengths = {len(row) for row in values}
    if len(lengths) != 1 or lengths == {0}:
        raise DetkitError(
            f"{setting} has rows of {', '.join(map(str, sorted(lengths))) or 'no'} numbers.",
            remedy=f"give rows of one length, such as {setting}=[[0,1,0],[0,1,0],[0,1,0]].",
        )
    return np.array(values, np.float64)


def section(
    numbers: Sequence[Sequence[float]] | None,
    kernel: Sequence[Sequence[float]] | None,
    photo: np.ndarray | None,
) -> Section:
    """The example with numbers, the same in one dimension, and the filter on a photo.

    Args:
        numbers, kernel: the user's own picture and filter; None are a bar and the filter of
            vertical lines.
        photo: (H, W, 3) uint8, or None.
    Raises:
        DetkitError: rows of unlike length, or a filter that is larger than the picture.
    """
    own = numbers is not None or kernel is not None
    picture = matrix(BAR if numbers is None else numbers, "numbers")
    weights = matrix(VERTICAL if kernel is None else kernel, "filter")
    _check(picture, weights)
    shown = [
        Picture(
            "Picture, filter, answer",
            f"The filter of {weights.shape[0]}×{weights.shape[1]} weights is laid on every place of"
            " the picture where it fits. There each number is multiplied by the weight that lies on"
            " it, and the sum is one number of the answer: large where the picture looks like the"
            " filter.",
            _equation(picture, weights, answer(picture, weights)),
        ),
        Picture(
            "Step by step",
            "The first row with more than one answer, or the first one: the place in yellow, and"
            " below it the products that are not zero and their sum.",
            _steps(picture, weights),
        ),
    ]
    if not own:
        line, pulse = matrix(LINE, "numbers"), matrix(PULSE, "filter")
        shown.append(
            Picture(
                "The same in one dimension",
                "A row of eight numbers and a filter of three.",
                _equation(line, pulse, answer(line, pulse)),
            )
        )
    if photo is not None and all(p > k for p, k in zip(photo.shape, weights.shape, strict=False)):
        shown.append(_on(photo, weights))
    return Section(
        "What a filter does",
        "A convolution of a network is many such filters; their weights are learnt instead of"
        " written by hand.",
        shown,
    )


def _check(picture: np.ndarray, weights: np.ndarray) -> None:
    if any(k > p for k, p in zip(weights.shape, picture.shape, strict=True)):
        sides = ["×".join(map(str, each.shape)) for each in (weights, picture)]
        raise DetkitError(
            f"The filter of {sides[0]} is larger than the picture of {sides[1]} numbers.",
            remedy="give a smaller filter=, or more numbers=.",
        )
    if max(picture.shape) > LARGEST:
        raise DetkitError(
            f"A picture of {max(picture.shape)} numbers a side cannot be read.",
            remedy=f"give at most {LARGEST} a side in numbers=; source= takes photos.",
        )


def _equation(picture: np.ndarray, weights: np.ndarray, found: np.ndarray) -> np.ndarray:
    parts = (("picture", picture), ("filter", weights), ("answer", found))
    return canvas.row([canvas.titled(canvas.table(values), name) for name, values in parts])


def _steps(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    every = list(steps(picture, weights))
    rows: dict[int, list[Step]] = {}
    for step in every:
        rows.setdefault(step.row, []).append(step)
    telling = [row for row in rows.values() if len({step.total for step in row}) > 1]
    chosen = (telling or list(rows.values()))[0][:MOST]
    found = np.full(answer(picture, weights).shape, np.nan)
    tiles = []
    for step in chosen:
        here = np.zeros(picture.shape, bool)
        here[step.row : step.row + weights.shape[0], step.column :][:, : weights.shape[1]] = True
        found[step.row, step.column] = step.total
        panel = canvas.table(picture, here, shaded=False, cell=24)
        tiles.append(canvas.titled(panel, _sum(step), 14))
    return canvas.grid(tiles, columns=min(3, len(tiles)), gap=12)


def _sum(step: Step) -> str:
    """The products that are not zero, as a sum in words short enough for a line."""
    parts = [canvas.number(value) for value in step.products.flat if value]
    if not parts:
        return "0"
    shown = " + ".join(parts[:6]) + (" + …" if len(parts) > 6 else "")
    return f"{shown} = {canvas.number(step.total)}"


def _on(photo: np.ndarray, weights: np.ndarray) -> Picture:
    grey = canvas.shrunk(photo, PHOTO) @ np.array([0.299, 0.587, 0.114]) / 255
    height, width = grey.shape
    rows, columns = weights.shape
    found = sum(
        weights[i, j] * grey[i : height - rows + 1 + i, j : width - columns + 1 + j]
        for i in range(rows)
        for j in range(columns)
    )
    drawn = canvas.signed(found) if weights.min() < 0 else canvas.heat(np.asarray(found))
    return Picture(
        "The filter on your picture",
        "Its answer on the photo in grey: red above zero, blue below."
        if weights.min() < 0
        else "Its answer on the photo in grey: dark where it is small, yellow where it is large.",
        canvas.enlarged(drawn, PHOTO // 2) if max(drawn.shape) < PHOTO // 2 else drawn,
    )
