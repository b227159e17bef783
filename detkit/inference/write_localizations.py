"""What a localizer leaves on disk: as a detector of one object."""

from __future__ import annotations

from typing import Any

from detkit.inference.sources import Picture
from detkit.inference.write import DetectionWriter


class LocalizationWriter(DetectionWriter):
    """Drawn copies, `predictions.json` and `predictions.csv` with the one object of each picture.

    It has one however unsure its class is: a picture is taken to show something.
    """

    def add(self, picture: Picture, prediction: Any) -> None:
        super().add(picture, prediction.detections())
