"""Matching against a loop and against torchvision's matcher; the sampler's promises."""

import torch
from torchvision.models.detection._utils import Matcher

from detkit.models.heads.matching import BACKGROUND, IGNORED, match, sample


def loop(iou: torch.Tensor, pos: float, neg: float, keep_best: bool) -> list[int]:
    result = []
    for row in iou.tolist():
        best = max(row)
        box = row.index(best)
        result.append(box if best >= pos else BACKGROUND if best < neg else IGNORED)
    if keep_best:
        for j in range(iou.shape[1]):
            column = iou[:, j].tolist()
            for i, value in enumerate(column):
                if value == max(column) and value > 0:
                    row = iou[i].tolist()
                    result[i] = row.index(max(row))
    return result


def random_iou(generator: torch.Generator) -> torch.Tensor:
    a, n = torch.randint(1, 12, (2,), generator=generator).tolist()
    iou = torch.rand(a, n, generator=generator)
    return torch.where(torch.rand(a, n, generator=generator) < 0.3, 0.0, iou)


def test_matching_equals_the_loop():
    generator = torch.Generator().manual_seed(2)
    for _ in range(1000):
        iou = random_iou(generator)
        for keep_best in (False, True):
            assert match(iou, 0.7, 0.3, keep_best).tolist() == loop(iou, 0.7, 0.3, keep_best)


def test_matching_equals_torchvisions_where_every_box_overlaps_an_anchor():
    generator = torch.Generator().manual_seed(3)
    for _ in range(1000):
        iou = random_iou(generator) + 1e-4
        for keep_best in (False, True):
            expected = Matcher(0.7, 0.3, allow_low_quality_matches=keep_best)(iou.T)
            assert match(iou, 0.7, 0.3, keep_best).tolist() == expected.tolist()


def test_a_box_that_overlaps_no_anchor_makes_none_positive():
    iou = torch.tensor([[0.8, 0.0], [0.1, 0.0], [0.0, 0.0]])
    assert match(iou, 0.7, 0.3, keep_best=True).tolist() == [0, BACKGROUND, BACKGROUND]
    everything = Matcher(0.7, 0.3, allow_low_quality_matches=True)(iou.T)
    assert (everything >= 0).all()  # what the reference makes of it


def test_without_boxes_everything_is_background():
    assert match(torch.zeros(3, 0), 0.7, 0.3, keep_best=True).tolist() == [BACKGROUND] * 3


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
