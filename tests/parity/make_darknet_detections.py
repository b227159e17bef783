"""Makes results that `detkit evaluate` scores: what OpenCV's reader of Darknet networks detects.

    python tests/parity/make_darknet_detections.py WEIGHTS CFG NAMES IMAGES OUTPUT [letterbox]
    python tests/parity/make_darknet_detections.py SHARED       # darknet_detections.json

with OpenCV 4.14 and NumPy alone, since OpenCV 5 has no such reader. WEIGHTS, CFG and NAMES are
Darknet's files, IMAGES a folder of pictures; OUTPUT gets a list of `file_name`, `category`, `bbox`
(x y w h, pixels) and `score`. As detkit: scores above 0.01, boxes cut at the image, the best 1,000
predictors of an image, NMS per class at 0.45, at most 100 boxes. The fixture has what scores 0.3
and more in a few pictures, stretched and in the letterbox.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

SCORE, NMS, CANDIDATES, AT_MOST = 0.01, 0.45, 1000, 100
FIXTURE = Path(__file__).with_name("darknet_detections.json")
SURE = 0.3
PICTURES = tuple(f"{i:012}.jpg" for i in (139, 47112, 56344, 99053, 160012, 310200, 435208, 568290))
CASES = {
    "yolo-fastest-1.1-xl": "coco.names",
    "yolo-fastest-1.1": "coco.names",
    "MobileNetV2-YOLOv3-Nano-voc": "voc.names",
    "yolo-lite-trial3": "voc.names",
}


def network(weights: Path, cfg: Path) -> tuple[cv2.dnn.Net, tuple[int, int]]:
    """The network with its (width, height); OpenCV drops what scores less than `thresh`."""
    text = re.sub(r"(?m)^\s*thresh\s*=.*$", "", cfg.read_text(errors="replace"))
    text = re.sub(r"\[(yolo|region)\]", r"[\1]\nthresh=0.001\nnms_threshold=0", text)
    size = tuple(
        int(re.search(rf"(?m)^{side}\s*=\s*(\d+)", text)[1]) for side in ("width", "height")
    )
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write(text)
        file.flush()
        net = cv2.dnn.readNetFromDarknet(file.name, str(weights))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    return net, size


def detect(net, size, image: np.ndarray, letterbox: bool) -> list[tuple[int, float, np.ndarray]]:
    """(class, score, xyxy) of what is found in a picture."""
    height, width = image.shape[:2]
    wide, tall = size
    left = top = 0
    if letterbox:
        factor = min(wide / width, tall / height)
        inner = round(width * factor), round(height * factor)
        left, top = (wide - inner[0]) // 2, (tall - inner[1]) // 2
        canvas = np.full((tall, wide, 3), (104, 116, 124), np.uint8)
        canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner)
        image = canvas
    else:
        inner = size
    net.setInput(cv2.dnn.blobFromImage(image, 1 / 255, size, swapRB=True))
    outputs = net.forward(net.getUnconnectedOutLayersNames())
    rows = np.concatenate([out.reshape(-1, out.shape[-1]) for out in outputs])
    centre, sides = rows[:, :2] * size, rows[:, 2:4] * size
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], 1) - [left, top, left, top]
    boxes *= np.tile([width / inner[0], height / inner[1]], 2)
    boxes = boxes.clip(0, [width, height, width, height])
    scores = rows[:, 5:] * ((boxes[:, 2:] - boxes[:, :2]) > 1e-3).all(1)[:, None]
    best = np.argsort(-scores.max(1), kind="stable")[:CANDIDATES]
    boxes, scores = boxes[best], scores[best]
    found = []
    for label in range(scores.shape[1]):
        here = np.flatnonzero(scores[:, label] > SCORE)
        if not len(here):
            continue
        xywh = np.concatenate([boxes[here, :2], boxes[here, 2:] - boxes[here, :2]], 1)
        kept = cv2.dnn.NMSBoxes(xywh.tolist(), scores[here, label].tolist(), SCORE, NMS)
        found += [(label, float(scores[i, label]), boxes[i]) for i in here[np.ravel(kept)]]
    return sorted(found, key=lambda one: -one[1])[:AT_MOST]


def results_of(
    weights: Path, cfg: Path, names: Path, files: list[Path], letterbox: bool
) -> list[dict]:
    net, size = network(weights, cfg)
    classes = [line.strip() for line in names.read_text().splitlines() if line.strip()]
    results = []
    for file in files:
        for label, score, box in detect(net, size, cv2.imread(str(file)), letterbox):
            low, high = box[:2], box[2:]
            results.append(
                {
                    "image_id": file.stem,
                    "category_id": label + 1,
                    "category": classes[label],
                    "file_name": file.name,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "score": score,
                }
            )
    return results


def fixture(shared: Path) -> None:
    folder, found = shared / "darknet", {}
    files = [shared / "coco-mini/images/val" / name for name in PICTURES]
    for name, names in CASES.items():
        paths = [folder / file for file in (f"{name}.weights", f"{name}.cfg", names)]
        for how in ("stretched", "letterbox"):
            rows = results_of(*paths, files, how == "letterbox")
            found[f"{name} {how}"] = [
                [
                    row["file_name"],
                    row["category"],
                    round(row["score"], 4),
                    [round(x, 2) for x in row["bbox"]],
                ]
                for row in rows
                if row["score"] >= SURE
            ]
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(rows)}" for key, rows in found.items())
    FIXTURE.write_text(f"{{\n{lines}\n}}\n")
    print({key: len(rows) for key, rows in found.items()})


def main(weights: Path, cfg: Path, names: Path, images: Path, output: Path, *how: str) -> None:
    results = results_of(weights, cfg, names, sorted(images.glob("*.jpg")), "letterbox" in how)
    output.write_text(json.dumps(results))
    print(f"OpenCV {cv2.__version__}: {len(results):,} detections → {output}")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        fixture(Path(sys.argv[1]))
    else:
        main(*map(Path, sys.argv[1:6]), *sys.argv[6:])
