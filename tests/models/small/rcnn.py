MODEL = {"name": "rcnn", "warp": 64, "context": 4, "roi_samples": 16}
BACKBONES = ("resnet18", "alexnet", "vgg11_bn", "mobilenet_v2", "squeezenet1_0")
LEARNER = {"model": {"warp": 32, "context": 2, "roi_samples": 64, "box_penalty": 1.0}}
RATE = 2e-3
