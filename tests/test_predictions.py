"""Masks of detections: where they are in the file's image, run lengths, none at all, drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from detkit.draw import colour
from detkit.errors import DetkitError
from detkit.predictions import Detections
from detkit.structures import Frame

FRAME = Frame("a", 0, "", (100, 200), (50, 100), top=10, left=20)  # twice as large as the network's


def found(*boxes: tuple[float, ...]) -> Detections:
    """Objects that fill the left half of their boxes; the network's image."""
    n = len(boxes)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(n, 28, 28)
    masks[:, :, :14] = 1
    scores, labels = torch.linspace(0.9, 0.5, n), torch.arange(n)
    return Detections(corners, scores, labels, masks=masks, mask_boxes=corners)


def test_a_mask_lies_where_its_box_lies_in_the_files_image():
    one = found((30, 20, 50, 40)).to_image(FRAME)
    assert one.boxes.tolist() == [[20, 20, 60, 60]]
    expected = np.zeros((100, 200), bool)
    expected[20:60, 20:40] = True
    assert (one.bitmap(0) == expected).all()


def test_a_box_that_was_cut_at_the_border_keeps_its_mask_in_place():
    one = found((10, 20, 50, 40)).to_image(FRAME)  # a quarter of it is beyond the left border
    assert one.boxes.tolist() == [[0, 20, 60, 60]]
    expected = np.zeros((100, 200), bool)
    expected[20:60, :20] = True
    assert (one.bitmap(0) == expected).all()


def test_run_lengths_are_the_bitmaps():
    several = found((30, 20, 50, 40), (21.3, 11.8, 97.1, 55), (110, 50, 119, 59)).to_image(FRAME)
    for i, runs in enumerate(several.run_lengths()):
        assert runs["size"] == [100, 200]
        assert coco.area(runs) == several.bitmap(i).sum() > 0
        assert (coco.decode(runs) == several.bitmap(i)).all()
    assert several[1].run_lengths() == several.run_lengths()[1:2]
    bitmaps = torch.from_numpy(np.stack([several.bitmap(i) for i in range(3)]))
    whole = Detections(several.boxes, several.scores, several.labels, masks=bitmaps)
    assert whole.run_lengths() == several.run_lengths()


def test_coco_records_hold_the_masks_as_text():
    records = found((30, 20, 50, 40)).to_image(FRAME).to_coco(7, [1])
    assert records[0]["bbox"] == [20, 20, 40, 40]
    assert isinstance(records[0]["segmentation"]["counts"], str)
    boxes = Detections(torch.ones(1, 4), torch.ones(1), torch.zeros(1).long())
    assert "segmentation" not in boxes.to_coco(7, [1])[0]


def test_nothing_found_has_no_masks():
    none = found().to_image(FRAME)
    assert none.run_lengths() == none.to_coco(1, []) == []
    picture = np.full((100, 200, 3), 90, np.uint8)
    assert (none.draw(picture) == picture).all()


def test_masks_are_drawn_in_their_place_and_larger_on_a_larger_copy():
    one = found((30, 20, 50, 40)).to_image(FRAME)
    grey = np.full((100, 200, 3), 90, np.uint8)
    tint = np.round(0.6 * 90 + 0.4 * np.array(colour(0))).astype(np.uint8)
    for factor in (1, 3):
        large = grey.repeat(factor, 0).repeat(factor, 1)
        drawn = one.enlarged((100, 200), factor).draw(large)
        inside, beside = drawn[40 * factor, 30 * factor], drawn[40 * factor, 50 * factor]
        assert (inside == tint).all()
        assert (beside == 90).all()
    truth = Detections(
        one.boxes,
        one.scores,
        one.labels,
        masks=torch.from_numpy(one.bitmap(0))[None],
        annotated=True,
    )
    again = truth.enlarged((100, 200), 3).draw(grey.repeat(3, 0).repeat(3, 1))
    assert (again[120, 90] == tint).all()
    with pytest.raises(DetkitError, match="masks are of a picture 200x100, this one is 200x101"):
        one.draw(np.zeros((101, 200, 3), np.uint8))
