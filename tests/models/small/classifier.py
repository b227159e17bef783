MODEL = {"name": "classifier"}
BACKBONES = ["mobilenet_v2", "resnet18_fpn", "vgg11", "squeezenet1_0", "lenet5_modern"]
