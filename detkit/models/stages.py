"""The steps of a model's recipe as data; `training.recipe` carries them out.

Most models have one. R-CNN is fine-tuned, then its SVMs are solved for; Faster R-CNN's alternating
training is a list of six.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from detkit.structures import Batch

if TYPE_CHECKING:
    from detkit.models.model import Model

PROPOSALS = "proposals.npz"  # what a solved stage that makes proposals calls its file of them

# (model, batches, folder, generator): fills buffers of the model, or writes into the folder
Solve = Callable[["Model", Iterable[Batch], Path, torch.Generator], None]


@dataclass(frozen=True)
class Stage:
    """One step: steps of gradient descent, or something that is solved for at once.

    Attributes:
        name: what progress, `metrics.jsonl` and the checkpoint call it.
        share: of the run's steps, beside the other stages' shares; 0 for a stage that is solved.
        images: or so many images, whatever the run's length (YOLOv2's first 12,800), but a quarter
            of its steps at most.
        trains: parts or parameters that learn, such as "head" ("" is all that the run trains).
        restarts: those that go back to the values that the run started with.
        rate: factor on the learning rate.
        continues: whether it goes on with the optimiser, the moving average and the schedule of
            the stage before it, which has to train the same parameters; else all of them are new.
        losses: another view of the model, whose losses count; None is the model itself.
        needs: what it learns from, if not what the model needs.
        solve: what it does instead of steps. It sees each training image once a pass, without
            random changes, and starts again when it was ended.
        proposals: name of a solved stage before it, in whose folder the proposals for it lie.
        measured: whether a figure of this stage may choose `best/`.
    """

    name: str
    share: float = 1.0
    images: int | None = None
    trains: tuple[str, ...] = ("",)
    restarts: tuple[str, ...] = ()
    rate: float = 1.0
    continues: bool = False
    losses: Callable[[Model], nn.Module] | None = None
    needs: frozenset[str] | None = None
    solve: Solve | None = None
    proposals: str | None = None
    measured: bool = True
