MODEL = {
    "name": "faster_rcnn_alternating",
    "head_channels": 16,
    "proposals": [20, 20],
    "roi_samples": 16,
}
