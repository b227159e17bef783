MODEL = {
    "name": "mask_rcnn",
    "head_channels": 16,
    "mask_channels": 8,
    "proposals": [20, 20],
    "roi_samples": 16,
}
LEARNER = {
    "model": {
        "anchor_sizes": [8, 16, 24, 32],
        "proposals": [60, 30],
        "roi_samples": 64,
        "head_channels": 64,
        "mask_channels": 32,
    },
    "backbone": {"levels": [2, 3, 4, 5], "fpn_channels": 32, "width": 0.25},
}
