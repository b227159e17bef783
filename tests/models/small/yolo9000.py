MODEL = {"name": "yolo9000", "anchor_images": 8}
LEARNER = {"model": {"anchors": [[16, 16], [24, 24], [36, 36]]}, "backbone": {"width": 0.25}}
