"""A loss that is not finite: the batch is kept, and the run stops with its files' names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from detkit import checkpoint
from detkit.atomic import replacing, write_json
from detkit.errors import DetkitError
from detkit.structures import Batch, Frame, Targets


def write(file: Path, step: int, batch: Batch, losses: Mapping[str, float]) -> DetkitError:
    """Writes the batch to a safetensors file, and a JSON beside it; the error to stop with."""
    saved = {"images": batch.images, "sizes": batch.sizes}
    saved |= {f"proposals/{i}": boxes for i, boxes in enumerate(batch.proposals or [])}
    for i, targets in enumerate(batch.targets):
        for part in fields(targets):
            if (value := getattr(targets, part.name)) is not None:
                saved[f"targets/{i}/{part.name}"] = value
    files = [frame.file for frame in batch.frames]
    told = {name: value if math.isfinite(value) else str(value) for name, value in losses.items()}
    with replacing(file) as new:
        checkpoint.write_tensors(new, saved)
    write_json(
        file.with_suffix(".json"),
        {"step": step, "losses": told, "frames": [vars(frame) for frame in batch.frames]},
    )
    parts = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return DetkitError(
        f"The loss or its gradient is not finite at step {step}: {parts}."
        f" The batch: {', '.join(files)}.",
        file=file,
        remedy="lower optimizer.lr, lengthen schedule.warmup_steps or set training.clip_norm=10; "
        "if one picture is at fault, correct its annotation. The replay file holds the batch; "
        "last/ and best/ are as they were.",
    )


def read(file: Path) -> tuple[Batch, int]:
    """The batch of a replay file, and the step at which it came."""
    saved = checkpoint.read_tensors(file)
    told = checkpoint.read_json(file.with_suffix(".json"), ("step", "frames"))
    targets: list[dict[str, Tensor]] = [{} for _ in range(len(saved["images"]))]
    for key, value in saved.items():
        if key.startswith("targets/"):
            _, i, name = key.split("/")
            targets[int(i)][name] = value
    frames = [
        Frame(**{**f, "original": tuple(f["original"]), "resized": tuple(f["resized"])})
        for f in told["frames"]
    ]
    proposals = [saved.get(f"proposals/{i}") for i in range(len(frames))]
    batch = Batch(
        saved["images"],
        saved["sizes"],
        [Targets(**t) for t in targets],
        frames,
        [boxes for boxes in proposals if boxes is not None] or None,
    )
    return batch, told["step"]
