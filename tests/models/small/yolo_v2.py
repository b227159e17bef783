MODEL = {"name": "yolo_v2", "neck_width": 1 / 64, "anchor_images": 8}
LEARNER = {
    "model": {"anchors": [[16, 16], [24, 24], [36, 36]], "neck_width": 1 / 16},
    "backbone": {"width": 0.25},
}
