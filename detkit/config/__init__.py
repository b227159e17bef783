"""From the command line to typed settings. Hydra appears in this room only."""

from detkit.config.compose import CONF, compose, launch
from detkit.config.settings import (
    EvaluateSettings,
    PredictSettings,
    TrainingSettings,
    TrainSettings,
)

__all__ = [
    "CONF",
    "EvaluateSettings",
    "PredictSettings",
    "TrainSettings",
    "TrainingSettings",
    "compose",
    "launch",
]
