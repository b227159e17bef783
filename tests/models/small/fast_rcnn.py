MODEL = {"name": "fast_rcnn", "head_channels": 16, "roi_samples": 16}
