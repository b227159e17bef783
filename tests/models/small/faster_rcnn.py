MODEL = {
    "name": "faster_rcnn",
    "head_channels": 16,
    "proposals": [20, 20],
    "roi_samples": 16,
}
