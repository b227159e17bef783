"""The sampler's promises, on random cases."""

import torch

from detkit.ops.matcher import BACKGROUND, IGNORED
from detkit.ops.sampler import sample


def test_as_many_as_there_are_and_never_more_positives_than_allowed():
    generator = torch.Generator().manual_seed(4)
    for _ in range(1000):
        b, a, number = torch.randint(1, 20, (3,), generator=generator).tolist()
        fraction = float(torch.rand(1, generator=generator))
        matched = torch.randint(IGNORED, 4, (b, a), generator=generator)
        index, valid = sample(matched, number, fraction, generator)
        for row, where, good in zip(matched, index, valid, strict=True):
            drawn = where[good]
            assert len(drawn.unique()) == len(drawn)
            positives = int((row >= 0).sum())
            expected = min(positives, int(number * fraction))
            assert int((row[drawn] >= 0).sum()) == expected
            background = int((row == BACKGROUND).sum())
            assert int((row[drawn] == BACKGROUND).sum()) == min(
                background, min(number, a) - expected
            )
            assert (row[drawn] != IGNORED).all()


def test_every_anchor_is_as_likely_as_any_other():
    matched = torch.tensor([[0] * 8 + [BACKGROUND] * 8]).expand(4000, -1)
    index, valid = sample(matched, 4, 0.5, torch.Generator().manual_seed(5))
    share = torch.bincount(index[valid], minlength=16) / 4000
    # two of eight each: 0.25, standard error sqrt(0.25 · 0.75 / 4000) = 0.007
    assert (share - 0.25).abs().max() < 0.03
