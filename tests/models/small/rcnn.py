MODEL = {"name": "rcnn", "warp": 64, "context": 4, "roi_samples": 16}
BACKBONES = ("resnet18", "alexnet", "vgg11_bn", "mobilenet_v2", "squeezenet1_0")
LEARNER = {
    "model": {
        "proposal_mode": "single",
        "proposal_width": None,
        "proposal_min_side": 6,
        "roi_samples": 64,
    }
}
RATE = 2e-3
