"""detkit: object detection and segmentation in PyTorch.

predictor = detkit.load("runs/…")
detections = predictor("photo.jpg")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network

from detkit.errors import DetkitError

if TYPE_CHECKING:
    from detkit.inference.predictor import load as load

__version__ = "0.1.0"
__all__ = ["DetkitError", "__version__", "load"]


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
    if name == "load":
        from detkit.inference.predictor import load

        return load
    raise AttributeError(f"module 'detkit' has no attribute {name!r}")


_check_cv2()
