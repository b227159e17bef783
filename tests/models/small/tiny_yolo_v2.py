MODEL = {"name": "tiny_yolo_v2", "neck_width": 1 / 64, "anchor_images": 8}
