MODEL = {"name": "localizer", "hidden": 8}
BACKBONES = ["mobilenet_v2", "resnet18_fpn", "vgg11", "squeezenet1_0", "darknet53"]
