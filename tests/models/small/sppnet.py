MODEL = {"name": "sppnet", "head_channels": 32, "roi_samples": 16, "train_backbone": True}
LEARNER = {
    "model": {"roi_samples": 64, "box_penalty": 1.0, "dropout": 0.0, "head_channels": 64},
    "backbone": {"levels": [3]},
}
