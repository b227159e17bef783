"""Mask R-CNN: its loss beside a slow twin, processes, images without objects, three heads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from detkit.models.build import build
from detkit.models.heads.box_head import Samples
from detkit.models.heads.mask_head import MaskHead, mask_targets
from detkit.structures import Classes, Targets

SMALL = {
    "name": "mask_rcnn",
    "head_channels": 16,
    "mask_channels": 8,
    "proposals": [20, 20],
    "roi_samples": 16,
}


def disc(x: float, y: float, radius: float, side: int = 64) -> torch.Tensor:
    """(side, side) bool."""
    place = torch.arange(side) + 0.5
    return (place[None, :] - x) ** 2 + (place[:, None] - y) ** 2 < radius**2


def targets(*discs: tuple[float, float, float]) -> Targets:
    boxes = [[x - r, y - r, x + r, y + r] for x, y, r in discs]
    masks = torch.stack([disc(*one) for one in discs]) if discs else torch.zeros(0, 64, 64).bool()
    labels = torch.arange(len(discs)) % 3
    return Targets(torch.tensor(boxes).reshape(-1, 4), labels, masks)


def head(levels=(2, 3)) -> MaskHead:
    torch.manual_seed(0)
    made = MaskHead(4, 3, levels, layers=2, channels=8)
    torch.nn.init.normal_(made.logits.weight)
    return made


def maps(images: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(images, 4, 64 // s, 64 // s, generator=generator) for s in (4, 8)]


def sampled_loop(mask: list[list[bool]], y: float, x: float) -> float:
    """Bilinear value of a bitmap between the centres of its pixels, those at the edge going on."""
    side = len(mask)
    y, x = (min(max(v - 0.5, 0.0), side - 1) for v in (y, x))
    top, left = int(y), int(x)
    value = 0.0
    for row, wy in ((top, 1 - (y - top)), (min(top + 1, side - 1), y - top)):
        for column, wx in ((left, 1 - (x - left)), (min(left + 1, side - 1), x - left)):
            value += wy * wx * mask[row][column]
    return value


def targets_loop(mask: torch.Tensor, roi: list[float], size: int) -> list[list[float]]:
    """The mean over each cell of a grid of points at most a pixel apart."""
    bitmap = mask.tolist()
    x1, y1, x2, y2 = roi
    w, h = (x2 - x1) / size, (y2 - y1) / size
    across, down = math.ceil(w), math.ceil(h)
    cells = []
    for i in range(size):
        row = []
        for j in range(size):
            points = [
                sampled_loop(
                    bitmap, y1 + (i + (a + 0.5) / down) * h, x1 + (j + (b + 0.5) / across) * w
                )
                for a in range(down)
                for b in range(across)
            ]
            row.append(sum(points) / len(points))
        cells.append(row)
    return cells


def test_targets_equal_the_loops():
    shown = targets((20, 30, 12), (50, 40, 9.5))
    rois = torch.tensor([[8.3, 18.1, 32.9, 41.0], [40.0, 30.5, 60.2, 49.9], [15, 20, 30, 58.5]])
    found = mask_targets(shown, rois, torch.tensor([0, 1, 0]), 7)
    assert 0.2 < found.mean() < 0.9
    for cells, roi, which in zip(found, rois.tolist(), (0, 1, 0), strict=True):
        wanted = torch.tensor(targets_loop(shown.masks[which], roi, 7))
        torch.testing.assert_close(cells, wanted, rtol=0, atol=1e-5)


def test_a_whole_object_fills_its_own_box_unshifted():
    square = torch.zeros(1, 64, 64, dtype=torch.bool)
    square[0, 10:38, 20:48] = True
    shown = Targets(torch.tensor([[20.0, 10, 48, 38]]), torch.tensor([0]), square)
    around = torch.tensor([[13.0, 3, 55, 45]])  # by a quarter of it on every side
    cells = mask_targets(shown, around, torch.tensor([0]), 28)[0]
    for turned in (cells.flip(0), cells.flip(1), cells.T):
        torch.testing.assert_close(cells, turned)
    assert cells.sum() * (42 / 28) ** 2 == pytest.approx(28 * 28, rel=0.02)  # its own area


def loss_loop(head: MaskHead, maps, samples: Samples, shown: list[Targets]) -> float:
    """Object after object: the cross-entropy of its class's mask; means of images, then of them."""
    total = 0.0
    for i, one in enumerate(shown):
        losses = []
        for roi, matched, valid in zip(*(part[i] for part in samples), strict=True):
            if not valid or matched < 0 or not one.masks[matched].any():
                continue
            label = one.labels[matched][None]
            logits = head.predict(maps, roi[None], torch.tensor([i]), label)[0].flatten().tolist()
            wanted = mask_targets(one, roi[None], matched[None], 28)[0].flatten().tolist()
            cells = [
                -(t * math.log(1 / (1 + math.exp(-z))) + (1 - t) * math.log(1 / (1 + math.exp(z))))
                for z, t in zip(logits, wanted, strict=True)
            ]
            losses.append(sum(cells) / len(cells))
        total += sum(losses) / len(losses) / len(shown) if losses else 0.0
    return total


def scene() -> tuple[Samples, list[Targets]]:
    """Positives, background, a row that was not drawn, an object whose mask is empty."""
    first, second = targets((20, 30, 12), (50, 40, 9.5), (30, 10, 6)), targets((32, 32, 20))
    first.masks[2] = False
    rois = torch.tensor(
        [
            [[8.0, 18, 33, 41], [41, 31, 60, 50], [0, 0, 10, 10], [24, 4, 36, 16]],
            [[12.0, 12, 50, 52], [30, 2, 60, 20], [10, 14, 54, 50], [12, 12, 52, 52]],
        ]
    )
    matched = torch.tensor([[0, 1, -1, 2], [0, -1, 0, 0]])
    valid = torch.tensor([[True, True, True, True], [True, True, True, False]])
    return Samples(rois, matched, valid), [first, second]


def test_the_loss_equals_the_loops():
    samples, shown = scene()
    loss = head().loss(maps(), samples, shown).detach()
    assert float(loss) == pytest.approx(loss_loop(head(), maps(), samples, shown), rel=1e-5)


def test_two_processes_of_an_image_each_learn_what_one_learns_of_both():
    samples, shown = scene()
    both = head()
    both.loss(maps(), samples, shown).backward()
    apart = head()
    for i in range(2):
        own = Samples(*(part[i : i + 1] for part in samples))
        (apart.loss([m[i : i + 1] for m in maps()], own, [shown[i]]) / 2).backward()
    for ours, theirs in zip(both.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_a_batch_without_a_positive_reaches_every_parameter_and_costs_nothing():
    samples, shown = scene()
    made = head()
    loss = made.loss(maps(), samples._replace(matched=torch.full((2, 4), -1)), shown)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in made.parameters())


@pytest.mark.parametrize(
    ("backbone", "layers", "side"),
    [("resnet18_fpn", 4, 28), ("resnet18", 0, 14), ("vgg11", 4, 28)],
)
def test_masks_come_with_the_final_boxes(backbone, layers, side):
    torch.manual_seed(0)
    pyramid = {"fpn_channels": 8} if backbone.endswith("_fpn") else {}
    settings = {**SMALL, "score_thresh": 0.0, "detections": 3}
    model = build(settings, {"name": backbone, "width": 0.125, **pyramid}, Classes.numbered(3))
    assert len(model.masks.layers) == layers
    with torch.no_grad():
        for found in model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)):
            assert found.masks.shape == (3, side, side)
            assert ((found.masks >= 0) & (found.masks <= 1)).all()
            assert torch.equal(found.mask_boxes, found.boxes)


def test_nothing_found_is_nothing_drawn():
    model = build(
        {**SMALL, "score_thresh": 1.0},
        {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8},
        Classes.numbered(3),
    )
    with torch.no_grad():
        for found in model(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)):
            assert found.masks.shape == (0, 28, 28)


def test_it_learns_to_draw_one_object():
    torch.manual_seed(0)
    model = build(
        SMALL, {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 8}, Classes.numbered(3)
    )
    shown = targets((30, 34, 18))
    image = torch.where(shown.masks[0], 220, 40).to(torch.uint8).expand(1, 3, 64, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    losses = []
    for _ in range(40):
        mask = model(image, [replace(shown)])
        losses.append(float(mask["mask"].detach()))
        optimizer.zero_grad()
        sum(mask.values()).backward()
        optimizer.step()
    assert losses[-1] < 0.35 < 0.6 < losses[0]
