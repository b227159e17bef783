MODEL = {"name": "tiny_yolo_v3", "neck_width": 1 / 64}
