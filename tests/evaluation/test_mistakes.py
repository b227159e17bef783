"""Why a box is wrong, by cases, and that nothing is counted twice."""

from __future__ import annotations

import numpy as np
import pytest

from detkit.evaluation.mistakes import KINDS, MISSED, RIGHT, mistakes
from detkit.evaluation.ranking import ranked

OBJECT = (0, 0, 0, 100, 100)  # label 0


@pytest.mark.parametrize(
    ("rows", "kinds", "found"),
    [
        ([(0, 0, 0.9, 0, 0, 100, 90)], ["right"], ["right"]),
        ([(0, 1, 0.9, 0, 0, 100, 90)], ["wrong class"], ["wrong class"]),
        ([(0, 0, 0.9, 0, 0, 100, 40)], ["badly placed"], ["badly placed"]),
        ([(0, 0, 0.9, 0, 0, 100, 9)], ["false"], ["missed"]),
        ([(0, 1, 0.9, 0, 0, 100, 40)], ["false"], ["missed"]),
        (
            [(0, 0, 0.9, 0, 0, 99, 99), (0, 0, 0.8, 0, 0, 100, 99)],
            ["right", "found twice"],
            ["right"],
        ),
        ([(0, 0, 0.9, 0, 0, 99, 99), (0, 1, 0.8, 0, 0, 100, 99)], ["right", "false"], ["right"]),
        ([(0, 0, 0.9, 0, 0, 99, 99), (0, 0, 0.8, 0, 0, 100, 40)], ["right", "false"], ["right"]),
        ([(0, 0, 0.1, 0, 0, 100, 90)], [], ["missed"]),  # below the score
        ([], [], ["missed"]),
    ],
)
def test_one_object(make_records, make_results, rows, kinds, found):
    records = make_records([[OBJECT]])
    got = mistakes(records, make_results(*rows), np.array([0.5, 0.5]))
    assert [KINDS[kind] for kind in got.kinds] == kinds
    assert [KINDS[kind] for kind in got.found] == found


def test_nothing_is_counted_twice(random_case):
    rng = np.random.default_rng(1)
    for _ in range(60):
        records, results = random_case(rng)
        classes = len(records.names)
        found = mistakes(records, results, np.full(classes, 0.45))
        classes_ranked = ranked(records, results)
        right, wrong = np.sum([c.at(0.45) for c in classes_ranked], 0)
        assert (found.kinds == RIGHT).sum() == (found.found == RIGHT).sum() == right
        assert (found.kinds > 1).sum() == wrong
        counts = found.confusion(records.labels, classes)
        assert np.trace(counts) == right
        assert counts[:, :classes].sum() == right + wrong
        assert counts[:classes].sum() == sum(c.objects for c in classes_ranked)
        assert (found.found == MISSED).sum() <= sum(c.objects for c in classes_ranked) - right
