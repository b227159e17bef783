"""Matching against a loop and against torchvision's matcher."""

import torch
from torchvision.models.detection._utils import Matcher

from detkit.ops.matcher import BACKGROUND, IGNORED, match


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
