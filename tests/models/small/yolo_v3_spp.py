MODEL = {"name": "yolo_v3_spp", "neck_width": 1 / 64}
