MODEL = {
    "name": "faster_rcnn_alternating",
    "head_channels": 16,
    "proposals": [20, 20],
    "roi_samples": 16,
}
LEARNER = {
    "model": {
        "anchor_sizes": [8, 16, 24, 32],
        "proposals": [60, 30],
        "roi_samples": 32,
        "head_channels": 64,
    },
    "backbone": {"levels": [2, 3, 4, 5], "fpn_channels": 16},
}
