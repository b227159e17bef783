"""The row `paste`: small maps of objects become pixels of their image, beside torchvision's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from detkit.ops.mask_paste import THRESHOLD, paste

OBJECTS = 100  # as many as COCO counts in an image
CELLS = 28  # a side, Mask R-CNN's figure 4

Step = Callable[[], object]


def paste_steps(height: int, width: int) -> tuple[Step, Step]:
    """All objects of one image, boxes of a tenth to a half of its sides, brought to its pixels.

    Ours keeps the part of the image that each box covers, torchvision an image for each object.
    """
    random = torch.Generator().manual_seed(0)
    limit = torch.tensor([width, height])
    share = torch.rand(OBJECTS, 4, generator=random)
    side = (share[:, :2] * 0.4 + 0.1) * limit
    corner = share[:, 2:] * (limit - side)
    boxes = torch.cat([corner, corner + side], dim=1)
    cells = torch.rand(OBJECTS, CELLS, CELLS, generator=random)

    def ours() -> object:
        pairs = zip(cells.numpy(), boxes.tolist(), strict=True)
        return [paste(own, box, (height, width)) for own, box in pairs]

    def peer() -> object:
        return paste_masks_in_image(cells[:, None], boxes, (height, width)) >= THRESHOLD

    return ours, peer
