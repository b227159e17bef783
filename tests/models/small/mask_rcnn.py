MODEL = {
    "name": "mask_rcnn",
    "head_channels": 16,
    "mask_channels": 8,
    "proposals": [20, 20],
    "roi_samples": 16,
}
