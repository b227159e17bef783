"""OpenCV's half of a benchmark, run by another Python: OpenCV 5 no longer reads Darknet's networks.

    PYTHON opencv_side.py CFG WEIGHTS IMAGE.npy THREADS SCORE IOU

It imports nothing of detkit. A line of any text on its standard input makes it detect once; it
answers with the seconds that took, pictures' preparation, decoding and NMS included, and the number
of detections. Its first line is OpenCV's version, or what is amiss.
"""

import sys
import time
from typing import Any

import cv2
import numpy as np


def main(cfg: str, weights: str, image: str, threads: str, score: str, iou: str) -> None:
    cv2.setNumThreads(int(threads))
    picture = np.load(image)
    height, width = picture.shape[:2]
    dnn: Any = cv2.dnn  # the types are those of OpenCV 5
    try:
        model = dnn.DetectionModel(dnn.readNetFromDarknet(cfg, weights))
    except (AttributeError, cv2.error) as error:
        print(f"! OpenCV {cv2.__version__} does not read it: {error}".splitlines()[0], flush=True)
        return
    model.setInputParams(1 / 255, (width, height), swapRB=False)
    print(cv2.__version__, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        classes, _, _ = model.detect(picture, float(score), float(iou))
        print(time.perf_counter() - start, len(classes), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
