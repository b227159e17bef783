"""What a weights file gave a network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightsReport:
    """What a weights file gave a network, for the run record.

    Attributes:
        file: its path.
        loaded: tensors taken from it (batch counters are not counted anywhere).
        missing: the network's tensors that it lacks; they keep their random start.
        not_used: its tensors for parts of the network that are not built (the classifier, a stage).
        unexpected: its tensors that the network does not have at all.
        norms_frozen: batch norms that it filled and that are frozen therefore.
        metadata: what a safetensors file says of itself.
    """

    file: str
    loaded: int
    missing: tuple[str, ...]
    not_used: tuple[str, ...]
    unexpected: tuple[str, ...]
    norms_frozen: int
    metadata: dict[str, str]
