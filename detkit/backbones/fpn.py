"""Feature pyramid (Lin et al. 2017, arXiv:1612.03144, figure 3) over any backbone.

level 5 ─▶ 1×1 ────────────────▶ 3×3 ─▶ level 5 ─▶ every other cell ─▶ level 6 …
             │ twice the size
level 4 ─▶ 1×1 ─▶ + ───────────▶ 3×3 ─▶ level 4
                  │ twice the size
level 3 ─▶ 1×1 ─▶ + ───────────▶ 3×3 ─▶ level 3
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.backbone import Backbone


class FPN(Backbone):
    """A backbone whose levels all have the same width and see the coarser ones.

    Args:
        body: the backbone below, with the levels that the pyramid stands on.
        channels: width of every level.
        levels: those that come out: levels of `body`, and coarser ones, which are the last one with
            every other row and column left out (the paper's P6).
    """

    def __init__(self, body: Backbone, channels: int, levels: Sequence[str]) -> None:
        super().__init__()
        self.body = body
        self.fpn = Pyramid(list(body.channels.values()), channels)
        self.channels = dict.fromkeys(levels, channels)
        self.strides = {level: 2 ** int(level) for level in levels}
        self.normalization = body.normalization
        self.weights_report = body.weights_report

    def forward(self, images: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        found = self.body(images, taps)
        below = [found[level] for level in self.body.channels]
        maps = dict(zip(self.body.channels, self.fpn(below), strict=True))
        last = max(map(int, maps))
        for level in range(last + 1, max(map(int, self.channels)) + 1):
            maps[str(level)] = F.max_pool2d(maps[str(level - 1)], kernel_size=1, stride=2)
        return {level: maps[level] for level in self.channels} | {tap: found[tap] for tap in taps}

    def stages(self) -> list[list[nn.Module]]:
        return self.body.stages()


class Pyramid(nn.Module):
    """The two convolutions of each level, finest first, under torchvision's names."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(w, channels, 1)) for w in widths)
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in widths
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # linear convolutions: as torchvision starts them
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out: list[Tensor] = []
        above: Tensor | None = None
        for x, inner, layer in reversed(
            list(zip(maps, self.inner_blocks, self.layer_blocks, strict=True))
        ):
            lateral = inner(x)
            if above is not None:
                lateral = lateral + F.interpolate(above, size=lateral.shape[-2:], mode="nearest")
            above = lateral
            out.insert(0, layer(lateral))
        return out
