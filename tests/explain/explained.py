"""Small models that are explained, and how often their parts are called."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import small

from detkit.data.transforms import Transform
from detkit.explain.page import Section
from detkit.explain.sections import Explained, batch_of, ready
from detkit.inference.sources import Item, Picture

OFFERED = np.array([[8.0, 12, 40, 44], [0, 0, 20, 20], [30, 30, 62, 60], [5, 5, 60, 60]])


@dataclass
class Made:
    """A model's page and how often each of its modules was called for it, and without it."""

    explained: Explained
    sections: list[Section]
    folder: Path
    calls: Counter
    plain: Counter


def explained_of(name: str) -> tuple[Explained, Picture]:
    """A small model, and a picture of its size."""
    settings = small.small(name)
    model = settings.build(settings.backbones[0])
    ready(model)
    if model.proposer is not None:
        model.proposer = lambda image, image_id, file: OFFERED * image.shape[0] / 64
    side, channels = settings.side, model.mean_std.shape[1]
    transform = Transform(lambda height, width: (side, side), multiple=1)
    image = small.images(side, channels, 1)[0].permute(1, 2, 0).numpy()
    names = tuple(f"class {k}" for k in range(small.CLASSES))
    explained = Explained(model, names, transform, trained=True)
    return explained, Picture(np.ascontiguousarray(image), Item("x.png", "x", False))


def counted(model, run) -> Counter:
    """How often each module is called by `run()`."""
    calls: Counter = Counter()

    def counter(name):
        return lambda module, inputs, output: calls.update([name])

    hooks = [part.register_forward_hook(counter(name)) for name, part in model.named_modules()]
    run()
    for hook in hooks:
        hook.remove()
    return calls


def watched(calls, watch):
    """`watch`, which appends how often each module was called while the model was watched."""

    def counting(model, *arguments):
        found = []
        calls.append(counted(model, lambda: found.append(watch(model, *arguments))))
        return found[0]

    return counting


def predicted(explained: Explained, source: Picture):
    batch, _ = batch_of(explained, source, 200)
    return explained.model(**batch.inputs())
