"""From the command line to typed settings. Hydra appears in this room only."""

from detkit.config.compose import CONF, compose, launch
from detkit.config.settings import (
    BenchmarkSettings,
    EvaluateSettings,
    PredictSettings,
    TrainingSettings,
    TrainSettings,
)

__all__ = [
    "CONF",
    "BenchmarkSettings",
    "EvaluateSettings",
    "PredictSettings",
    "TrainSettings",
    "TrainingSettings",
    "compose",
    "launch",
]
