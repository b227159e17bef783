"""A run's beginning in which every predictor learns its anchor as well (Darknet's [region])."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detkit.models.heads.grid_head import GridHead
from detkit.models.heads.region_head import RegionHead
from detkit.models.model import Model
from detkit.models.stages import Stage
from detkit.structures import Targets, full_sizes


class GridModel(Model):
    """A model of a `grid` over maps.

    Attributes:
        grid: rules of what its last convolutions say.
    """

    grid: GridHead

    def maps(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """(B, A·(5 + K), H, W) of each level, before any sigmoid."""
        raise NotImplementedError


def anchor_stages(images: int) -> Sequence[Stage]:
    """So many first images with the anchors' loss, then all others; one optimiser and schedule."""
    if not images:
        return (Stage("train"),)
    first = Stage("anchors", images=images, losses=WithAnchors)
    return first, Stage("train", continues=True)


class WithAnchors(nn.Module):
    """The losses of a run's beginning: the model's, and that of anchors."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        assert isinstance(model, GridModel)
        self.model = model

    def forward(
        self, images: Tensor, targets: list[Targets], sizes: Tensor | None = None
    ) -> dict[str, Tensor]:
        if sizes is None:
            sizes = full_sizes(images)
        grid = self.model.grid
        assert isinstance(grid, RegionHead)
        outputs = self.model.maps(images, sizes)
        losses = grid(outputs, sizes, targets)
        return {**losses, "anchors": grid.anchor_loss(outputs, targets)}
