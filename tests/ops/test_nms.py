"""Detections of an image against a loop, and proposals' NMS against torchvision's."""

import torch
from torchvision.ops import box_iou, nms

from detkit.ops.nms import detections_of, keep_best_per_group


def random_boxes(n: int, generator: torch.Generator) -> torch.Tensor:
    corner = torch.rand(n, 2, generator=generator) * 40
    return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * 30 + 1], dim=1)


def test_suppression_stays_within_a_group():
    generator = torch.Generator().manual_seed(6)
    for _ in range(1000):
        n = int(torch.randint(1, 30, (1,), generator=generator))
        boxes = random_boxes(n, generator)
        scores = torch.rand(n, generator=generator)
        groups = torch.randint(0, 3, (n,), generator=generator)
        kept = keep_best_per_group(boxes, scores, groups, 0.5, 1000)
        expected = set()
        for g in range(3):
            (here,) = torch.nonzero(groups == g, as_tuple=True)
            expected |= set(here[nms(boxes[here], scores[here], 0.5)].tolist())
        assert set(kept.tolist()) == expected
        assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)


def test_detections_equal_the_loop():
    generator = torch.Generator().manual_seed(7)
    for _ in range(200):
        r, k = 12, 3
        boxes = torch.stack([random_boxes(r, generator) for _ in range(k)], dim=1)
        scores = torch.rand(r, k, generator=generator)
        found = detections_of(boxes, scores, 0.3, 0.5, 7)
        expected = []
        for label in range(k):
            kept: list[int] = []
            for i in scores[:, label].argsort(descending=True).tolist():
                overlaps = [box_iou(boxes[i, label][None], boxes[j, label][None]) for j in kept]
                if scores[i, label] > 0.3 and all(o <= 0.5 for o in overlaps):
                    kept.append(i)
            expected += [(float(scores[i, label]), label, i) for i in kept]
        expected = sorted(expected, reverse=True)[:7]
        assert found[2].tolist() == [label for _, label, _ in expected]
        torch.testing.assert_close(found[1], torch.tensor([score for score, *_ in expected]))
        torch.testing.assert_close(found[0], torch.stack([boxes[i, c] for _, c, i in expected]))
