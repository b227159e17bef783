"""The worked example's numbers, on paper."""

from __future__ import annotations

import numpy as np
import pytest

from detkit.errors import DetkitError
from detkit.explain.worked import BAR, LINE, PULSE, VERTICAL, answer, matrix, section, steps


def test_a_filter_of_vertical_lines_finds_the_bar():
    found = answer(matrix(BAR, "numbers"), matrix(VERTICAL, "filter"))
    assert found.tolist() == [[0, 0, 3, 3, 0, 0]] * 6


def test_the_same_in_one_dimension():
    found = answer(matrix(LINE, "numbers"), matrix(PULSE, "filter"))
    assert found.tolist() == [[0, 0, 1, 1, 0, 0]]


def test_a_step_says_its_products():
    third = list(steps(matrix(BAR, "numbers"), matrix(VERTICAL, "filter")))[2]
    assert (third.row, third.column, third.total) == (0, 2, 3)
    assert third.products.tolist() == [[0, 1, 0]] * 3


def test_the_filter_is_not_turned_round_as_in_pytorch():
    import torch

    rng = np.random.default_rng(0)
    picture, kernel = rng.normal(size=(7, 9)), rng.normal(size=(2, 3))
    by_torch = torch.nn.functional.conv2d(*(torch.tensor(x)[None, None] for x in (picture, kernel)))
    np.testing.assert_allclose(answer(picture, kernel), by_torch[0, 0].numpy())


def test_ones_own_numbers_take_the_examples_place():
    photo = np.zeros((20, 30, 3), np.uint8)
    titles = [p.title for p in section([[1, 2], [3, 4]], [[1, -1]], photo).pictures]
    assert titles == ["Picture, filter, answer", "Step by step", "The filter on your picture"]
    assert "The same in one dimension" in [p.title for p in section(None, None, None).pictures]


@pytest.mark.parametrize(
    ("numbers", "kernel", "words"),
    [
        ([[1, 2], [3]], None, "rows of 1, 2 numbers"),
        ([[1, 2]], [[1, 1, 1]], "larger than the picture"),
        ([], None, "rows of no numbers"),
        ([[0] * 41], [[1]], "41 numbers a side"),
    ],
)
def test_numbers_that_are_no_picture_are_told(numbers, kernel, words):
    with pytest.raises(DetkitError, match=words):
        section(numbers, kernel, None)
