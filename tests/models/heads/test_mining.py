"""Hard negatives: what is planted is found, memory is bounded, what is easy goes."""

import numpy as np
import pytest
import torch

from detkit.models.heads import mining
from detkit.models.heads.kept_rows import ObjectRows
from detkit.models.heads.mining import Miner
from detkit.models.heads.solving import distinct, negatives_of
from detkit.ops.linear_svm import fit_svm
from detkit.structures import Targets


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(mining, "FIT_EVERY", 50)


def around(x: float, y: float, count: int, seed: int) -> torch.Tensor:
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)) * 0.3
    return noise + torch.tensor([x, y])


def score(miner: Miner, row: torch.Tensor) -> float:
    return float(row @ miner.weight + miner.bias)


def test_a_planted_negative_among_thousands_turns_the_svm():
    """Objects lie right, easy background left; one image of a hundred has background at the upper
    right, which the SVM of the first images takes for objects.
    """
    positives = around(5, 0, 30, 0).numpy()
    planted = around(5, 5, 20, 1)
    found = {}
    for name, extra in (("with", planted), ("without", planted[:0])):
        miner = Miner(positives, 1.0, 2.0, 10_000)
        for image in range(100):
            easy = around(-5, 0, 40, 2 + image)
            miner.see(torch.cat([easy, extra]) if image == 97 else easy)
        miner.fit()
        found[name] = miner
    assert min(score(found["without"], row) for row in planted) > 0
    assert max(score(found["with"], row) for row in planted) < 0
    assert (torch.from_numpy(positives) @ found["with"].weight + found["with"].bias).min() > 0
    # of 4,000 negatives the few that matter are kept
    assert len(found["with"].negatives) < 100


def test_no_more_negatives_are_kept_than_there_is_room_for_and_the_hardest_stay(monkeypatch):
    fitted = []

    def watched(rows, positive, *args, **more):
        weight, bias, duals = fit_svm(rows, positive, *args, **more)
        fitted.append((rows[~positive] @ weight + bias).copy())
        return weight, bias, duals

    monkeypatch.setattr(mining, "fit_svm", watched)
    miner = Miner(around(1, 0, 5, 0).numpy(), 0.001, 2.0, 60)
    rows = miner._rows
    for image in range(20):
        miner.see(around(0, 0, 80, image + 1))
        miner.fit()
        assert len(miner.negatives) == 45
        left = miner.negatives @ miner.weight.numpy() + miner.bias
        assert np.allclose(np.sort(left), np.sort(fitted[-1])[-45:])
    assert miner._rows is rows
    assert rows.shape == (65, 2)
    assert max(map(len, fitted)) == 60
    assert miner.left_out == sum(map(len, fitted)) - 45 * len(fitted)


def test_room_that_is_not_needed_makes_no_difference():
    found = []
    for room in (100, 10_000):
        miner = Miner(around(2, 0, 30, 0).numpy(), 1.0, 2.0, room)
        for image in range(30):
            miner.see(around(-2, 0, 40, 1 + image))
        miner.fit()
        assert miner.left_out == 0
        found.append((miner.weight, torch.tensor(miner.bias)))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_of_too_many_objects_a_random_part_of_the_largest_classes_stays():
    stay = np.zeros(1000)
    for seed in range(20):
        objects = ObjectRows(80, 2, 3, seed)
        for image in range(100):  # ten of class 0 in each, of class 2 one in every tenth
            numbers = torch.arange(10.0) + 10 * image
            objects.add(torch.stack([numbers, -numbers], 1), torch.zeros(10, dtype=torch.int64))
            if image % 10 == 0:
                objects.add(torch.full((1, 2), float(image)), torch.tensor([2]))
        numbers, other = objects.of(0), objects.of(2)
        assert other[:, 0].tolist() == list(range(0, 100, 10))
        assert objects.number(1) == 0
        assert 20 <= len(numbers) == objects.number(0) <= 70
        assert (np.diff(numbers[:, 0]) > 0).all()
        assert (numbers[:, 1] == -numbers[:, 0]).all()
        stay[numbers[:, 0].astype(int)] += 1
    early, late = stay[:500].sum(), stay[500:].sum()  # 900 in all, give or take 30 each
    assert abs(early - late) < 0.3 * (early + late)


def test_negatives_of_a_class_overlap_none_of_its_objects():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 2], [50, 50, 60, 60], [80, 80, 84, 84]])
    targets = Targets(
        torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 62], [79, 79, 99, 99]]),
        torch.tensor([0, 1, 1]),
        crowd=torch.tensor([False, False, True]),
    )
    found = negatives_of(boxes, targets, 3, 0.3)
    # a class without an object in the image has them all; of a crowd any part will do
    wanted = [[False, True, True], [True, True, True], [True, False, True], [True, False, True]]
    assert found.tolist() == wanted
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert negatives_of(boxes, none, 3, 0.3).all()


def test_of_negatives_that_overlap_much_the_first_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 6], [0, 0, 10, 10]])
    assert distinct(boxes, torch.tensor([True, True, True, False]), 0.7).tolist() == [0, 2]
    assert distinct(boxes, torch.tensor([False, True, True, True]), None).tolist() == [1, 2, 3]
    assert len(distinct(boxes, torch.zeros(4, dtype=torch.bool), 0.7)) == 0
