"""Predictions in a notebook and in other packages' hands: pandas, supervision, a PNG, a window.

Those packages are imported when they are asked for; detkit installs none of them. `found` are
`predictions.Detections`.
"""

from __future__ import annotations

import importlib
from typing import Any

import cv2
import numpy as np

from detkit.errors import DetkitError


def table(found: Any) -> Any:
    """A `pandas.DataFrame`, a row an object: class, score, x1, y1, x2, y2 in the picture's pixels.

    Raises:
        DetkitError: pandas is not installed.
    """
    corners = found.boxes.cpu().numpy()
    columns = {name: corners[:, place] for place, name in enumerate(("x1", "y1", "x2", "y2"))}
    return _package("pandas").DataFrame(
        {"class": _classes(found), "score": found.scores.cpu().numpy(), **columns}
    )


def supervision(found: Any) -> Any:
    """A `supervision.Detections`, with masks where there are some.

    Raises:
        DetkitError: supervision is not installed.
    """
    masks = None
    if found.masks is not None:
        masks = np.stack([found.bitmap(i) for i in range(len(found))]) if len(found) else None
    return _package("supervision").Detections(
        xyxy=found.boxes.cpu().numpy().astype(np.float32),
        confidence=found.scores.cpu().numpy(),
        class_id=found.labels.cpu().numpy(),
        mask=masks,
        data={"class_name": np.array(_classes(found), dtype=object)},
    )


def png(picture: np.ndarray) -> bytes:
    """The bytes of an (H, W, 3) RGB uint8 picture as a PNG file."""
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def show(picture: np.ndarray) -> None:
    """Shows an (H, W, 3) RGB uint8 picture: in a notebook below the cell, else in a window.

    Raises:
        DetkitError: there is neither.
    """
    try:
        shell = importlib.import_module("IPython").get_ipython()
    except ImportError:
        shell = None
    if shell is not None and hasattr(shell, "kernel"):
        display = importlib.import_module("IPython.display")
        display.display(display.Image(png(picture)))
        return
    from PIL import Image, ImageShow

    if not ImageShow.show(Image.fromarray(picture)):
        raise DetkitError("No program shows pictures here.", remedy="write found.draw() to a file.")


def _classes(found: Any) -> list[str]:
    return [found.names[k] if found.names else str(k) for k in found.labels.tolist()]


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DetkitError(f"{name} is not installed.", remedy=f"pip install {name}") from error
