"""The mask branch of Mask R-CNN (He et al. 2017, section 3 and figure 4).

    RoIs ─▶ RoIAlign 14×14 ─┬─▶ four 3×3 convolutions ─┬─▶ deconvolution ─▶ a mask a class
                            └─▶ the tail's last stage ─┘

Shapes: B images, S sampled RoIs an image, R RoIs of the batch, K classes, m cells a side of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from detkit.backbones.backbone import MeanTail
from detkit.models.heads.box_head import Samples
from detkit.models.heads.matching import gather_targets
from detkit.ops.roi_pool import pool_rois
from detkit.predictions import Detections
from detkit.structures import Targets

SIZE = 14  # cells a side of the RoIs that it pools
AT_ONCE = 16  # masks that are float images at the same time, while targets are made


class MaskHead(nn.Module):
    """Draws each object that was found; in training each sampled RoI that is an object.

    Args:
        in_channels: of the maps, or of the tail's map.
        num_classes: K.
        levels: logarithms of the strides of the maps that RoIs are pooled from: the first ones.
        layers: 3×3 convolutions before the deconvolution (0 behind a tail, which is some itself).
        channels: width of them and of the deconvolution.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        levels: Sequence[int],
        layers: int = 4,
        channels: int = 256,
    ) -> None:
        super().__init__()
        self.levels = tuple(levels)
        widths = [in_channels] + [channels] * layers
        self.layers = nn.ModuleList(
            nn.Conv2d(width, channels, 3, padding=1) for width in widths[:-1]
        )
        self.deconv = nn.ConvTranspose2d(widths[-1], channels, 2, stride=2)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        for conv in (*self.layers, self.deconv):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.logits.weight, std=0.001)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        maps: list[Tensor],
        found: list[Detections] | Samples,
        targets: list[Targets] | None = None,
        tail: MeanTail | None = None,
    ) -> tuple[list[Detections], dict[str, Tensor]]:
        """
        Args:
            maps: one (B, C, H, W) a level, finest first.
            found: what the box head found, or with targets what it sampled.
            tail: the box head's own, where its last stage is shared.
        Returns:
            The detections with masks, none with targets; and then the loss `mask`.
        """
        if targets is not None:
            assert isinstance(found, Samples)
            return [], {"mask": self.loss(maps, found, targets, tail)}
        assert isinstance(found, list)
        counts = [len(one) for one in found]
        boxes = torch.cat([one.boxes for one in found])
        image = torch.arange(len(found), device=boxes.device).repeat_interleave(
            torch.tensor(counts, device=boxes.device)
        )
        logits = self.predict(maps, boxes, image, torch.cat([one.labels for one in found]), tail)
        for one, masks in zip(found, logits.sigmoid().split(counts), strict=True):
            one.masks, one.mask_boxes = masks, one.boxes
        return found, {}

    def predict(
        self,
        maps: list[Tensor],
        rois: Tensor,
        image: Tensor,
        labels: Tensor,
        tail: MeanTail | None = None,
    ) -> Tensor:
        """The logits of each RoI's own class.

        Args:
            rois: (R, 4) xyxy, pixels of the network's image. image, labels: (R,) int64 of each.
        Returns:
            (R, m, m) float32.
        """
        size = tail.size if tail is not None else SIZE
        x = pool_rois(maps[: len(self.levels)], self.levels, rois, image, size)
        if tail is not None:
            x = tail.last_map(x)
        for conv in self.layers:
            x = F.relu(conv(x))
        x = self.logits(F.relu(self.deconv(x)))
        return x[torch.arange(len(x), device=x.device), labels].float()

    def loss(
        self,
        maps: list[Tensor],
        samples: Samples,
        targets: list[Targets],
        tail: MeanTail | None = None,
    ) -> Tensor:
        """Binary cross-entropy of the object's class, averaged over the cells and RoIs of each
        image that are objects, then over the images.
        """
        rois, matched, valid = samples
        is_object = (matched >= 0) & valid
        is_object &= torch.stack([has_mask(*pair) for pair in zip(targets, matched, strict=True)])
        image, place = torch.nonzero(is_object, as_tuple=True)  # a GPU is waited for, once
        if not len(image):  # one that does not count, so that every parameter has its gradient
            none = image.new_zeros(1)
            return (self.predict(maps, rois[0, :1], none, none, tail) * 0).sum()
        share = is_object / (is_object.sum(1, keepdim=True).clamp(min=1) * len(rois))
        _, labels = gather_targets(targets, matched)
        rois, labels, matched, share = (x[image, place] for x in (rois, labels, matched, share))
        logits = self.predict(maps, rois, image, labels, tail)
        counts = torch.bincount(image, minlength=len(targets)).tolist()
        parts = zip(targets, rois.split(counts), matched.split(counts), strict=True)
        wanted = torch.cat([mask_targets(*part, logits.shape[-1]) for part in parts])
        losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return (losses.mean((1, 2)) * share).sum()


def has_mask(targets: Targets, matched: Tensor) -> Tensor:
    """(S,) bool: whether the object of each RoI has a pixel; resizing leaves small ones without."""
    assert targets.masks is not None, "the targets have no masks"
    if len(targets) == 0:
        return torch.zeros_like(matched, dtype=torch.bool)
    return targets.masks.flatten(1).any(1)[matched.clamp(min=0)]


def mask_targets(targets: Targets, rois: Tensor, matched: Tensor, size: int) -> Tensor:
    """What each RoI's mask should be: its object's, cropped to the RoI and resized by RoIAlign.

    Args:
        rois: (R, 4) xyxy.
        matched: (R,) int64, the object of each.
        size: m.
    Returns:
        (R, m, m) float32, the share of each cell that is the object's.
    """
    assert targets.masks is not None
    parts = [rois.new_zeros(0, size, size)]
    for boxes, objects in zip(rois.split(AT_ONCE), matched.split(AT_ONCE), strict=True):
        bitmaps = targets.masks[objects][:, None].float()
        number = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)
        numbered = torch.cat([number[:, None], boxes], dim=1)
        parts.append(roi_align(bitmaps, numbered, size, aligned=True)[:, 0])
    return torch.cat(parts)
