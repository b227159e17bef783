"""Pictures and maps of labels in another size."""

from __future__ import annotations

import cv2
import numpy as np


def resized(image: np.ndarray, height: int, width: int, area: bool) -> np.ndarray:
    """Bilinear; with `area` by areas where it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks and area else cv2.INTER_LINEAR
    found = cv2.resize(image, (width, height), interpolation=how)
    return found if found.ndim == 3 else found[..., None]  # OpenCV drops a single channel


def nearest(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(…, H, W) → (…, height, width), the value at the centre of each new pixel."""
    rows = ((np.arange(height) + 0.5) * labels.shape[-2] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * labels.shape[-1] / width).astype(np.int64)
    return labels[..., rows[:, None], columns]
