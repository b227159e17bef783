"""Faster R-CNN by the paper's four steps (Ren et al. 2015, section 3.2: alternating training).

    1  backbone ── RPN        ─▶ proposals of all training images
    2  backbone'── box head   on those proposals, both from the run's start (Fast R-CNN)
    3  backbone'── RPN        the backbone fixed, all but its pyramid ─▶ proposals
    4  backbone'── box head   the backbone fixed, on those proposals

The model is `faster_rcnn`; after step 4 RPN and head share one backbone. Each step has a quarter of
the run's steps, its own optimiser and its own learning rate schedule.

Differences from the paper: those of `faster_rcnn`; the RPN of step 3 goes on from the weights of
step 1, and so does the head in step 4 from those of step 2. A pyramid (which the paper has not)
learns in step 3: no RoI of step 2 comes from its coarsest level, whose convolution would stay as
random as it began, and large objects would not be proposed (white cells of BCCD: recall 0.51).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from detkit.models.faster_rcnn import FasterRCNN
from detkit.models.model import Model, models
from detkit.models.stages import PROPOSALS, Stage
from detkit.proposals.files import write_npz
from detkit.structures import Batch, Targets


@models.register("faster_rcnn_alternating")
class AlternatingFasterRCNN(FasterRCNN):
    """Faster R-CNN, its two networks trained in turn; see above."""

    def stages(self) -> Sequence[Stage]:
        return (
            Stage("rpn", trains=("backbone", "rpn"), losses=RPNAlone, measured=False),
            Stage("propose", solve=propose, measured=False),
            Stage(
                "head",
                trains=("backbone", "head"),
                restarts=("backbone", "head"),
                losses=HeadAlone,
                proposals="propose",
                measured=False,
            ),
            Stage("rpn_alone", trains=("rpn", "backbone.fpn"), losses=RPNAlone, measured=False),
            Stage("propose_again", solve=propose, measured=False),
            Stage("head_alone", trains=("head",), losses=HeadAlone, proposals="propose_again"),
        )


class _Part(nn.Module):
    """A view of the model whose losses are those of a part of it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        assert isinstance(model, FasterRCNN)
        self.model = model


class RPNAlone(_Part):
    """What steps 1 and 3 train."""

    def forward(
        self, images: Tensor, targets: list[Targets], sizes: Tensor | None = None
    ) -> dict[str, Tensor]:
        _, maps, sizes = self.model.maps(images, sizes)
        return self.model.rpn.learn(maps, sizes, targets)


class HeadAlone(_Part):
    """What steps 2 and 4 train: the head on proposals that there are, which is Fast R-CNN."""

    def forward(
        self,
        images: Tensor,
        targets: list[Targets],
        sizes: Tensor | None = None,
        proposals: list[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        assert proposals is not None
        images, maps, sizes = self.model.maps(images, sizes)
        return self.model.head(images, maps, proposals, sizes, targets)[1]


@torch.inference_mode()
def propose(
    model: Model, batches: Iterable[Batch], folder: Path, generator: torch.Generator
) -> None:
    """Writes the RPN's proposals for each image, as many as in training, in the file's pixels."""
    assert isinstance(model, FasterRCNN)
    found, rpn = {}, model.rpn
    for loaded in batches:
        batch = loaded.to(model.mean_std.device)
        _, maps, sizes = model.maps(batch.images, batch.sizes)
        outputs = [rpn.predict(features) for features in maps]
        proposals = rpn.propose(outputs, rpn.anchors(maps), sizes, training=True)
        for boxes, frame in zip(proposals, batch.frames, strict=True):
            found[frame.image_id] = frame.boxes_to_image(boxes).cpu().numpy()
    write_npz(folder / PROPOSALS, found)
