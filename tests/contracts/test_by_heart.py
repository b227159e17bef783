"""Every model learns two pictures by heart: its losses, targets and decoding belong together."""

from __future__ import annotations

import pytest
import small
import torch

from detkit.data.loading import Dataset, collate
from detkit.data.open import open_dataset
from detkit.data.transforms import Transform
from detkit.distributed import World
from detkit.inference.measure import measure
from detkit.inference.run import prepare
from detkit.inference.tasks import tasks

SHAPES = {"name": "shapes", "train_images": 2}
ENOUGH = 0.8  # of the figure that chooses checkpoints


@pytest.mark.parametrize("name", small.names())
def test_it_learns_one_batch_by_heart(name, tmp_path):
    settings = small.small(name)
    model = settings.learner(len(records_of(name).names))
    records = records_of(name)
    transform = Transform(lambda height, width: (settings.side, settings.side), multiple=1)
    dataset = Dataset(records, transform, needs=model.needs, proposer=model.proposer)
    batch = collate([dataset[0, 0], dataset[0, 1]], multiple=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.rate)
    torch.manual_seed(0)
    figure = 0.0
    for step in range(1, settings.steps + 1):
        losses = model.train()(**batch.inputs(), targets=batch.targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        if step % 50 == 0:
            solve(model, batch, tmp_path)
            found = measure(
                prepare(model, "cpu", "fp32"),
                records,
                transform,
                names=records.names,
                world=World(),
                precision="fp32",
                batch_size=2,
            )
            figure = found.result()[tasks[model.task].evaluator.headline]
            if figure >= ENOUGH:
                return
    assert figure >= ENOUGH


def solve(model, batch, folder):
    """What a recipe solves for after its steps, from the same batch."""
    generator = torch.Generator().manual_seed(0)
    for stage in model.stages():
        if stage.solve is not None:
            stage.solve(model.eval(), [batch], folder, generator)


def records_of(name: str):
    side = small.small(name).side
    return open_dataset({**SHAPES, "size": side}, "train", needs=small.needs(name))
