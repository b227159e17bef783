"""detkit: object detection and segmentation in PyTorch.

figures = detkit.train(dataset="photos", epochs=20)
predictor = detkit.load(figures["run_dir"])
detections = predictor("photo.jpg")
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network

# Threads that wait for one another spin shortly and then sleep: alone that costs nothing, and two
# processes on the same cores are 5 to 7 times faster. libgomp reads it when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from detkit.errors import DetkitError

if TYPE_CHECKING:
    from detkit.commands.calls import evaluate as evaluate
    from detkit.commands.calls import open_dataset as open_dataset
    from detkit.commands.calls import train as train
    from detkit.inference.predictor import Predictor as Predictor
    from detkit.inference.predictor import load as load
    from detkit.predictions import Classification as Classification
    from detkit.predictions import Detections as Detections
    from detkit.predictions import Segmentation as Segmentation

__version__ = "0.1.0"
# where what there is lies; it is imported when it is asked for, for torch takes seconds
_HOMES = {
    "load": "inference.predictor",
    "Predictor": "inference.predictor",
    "train": "commands.calls",
    "evaluate": "commands.calls",
    "open_dataset": "commands.calls",
    "Detections": "predictions",
    "Segmentation": "predictions",
    "Classification": "predictions",
}
__all__ = ["DetkitError", "__version__", *_HOMES]


def _check_cv2() -> None:
    """Answers a broken OpenCV with the one command that repairs it.

    albumentations brings `opencv-python-headless` beside our `opencv-python`; both own the folder
    `cv2`, so that uninstalling or upgrading either breaks the other.
    """
    repair = "pip install --force-reinstall --no-deps "
    try:
        import cv2
    except Exception as error:  # half a package raises anything
        missing_library = "cannot open shared object file" in str(error)
        package = "opencv-python-headless" if missing_library else "opencv-python"
        raise ImportError(f"cv2 is broken ({error}). Repair it with: {repair}{package}") from error
    if not hasattr(cv2, "imdecode"):  # an emptied folder imports as a namespace
        raise ImportError(f"cv2 is empty. Repair it with: {repair}opencv-python")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"detkit.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'detkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


_check_cv2()
