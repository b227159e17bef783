MODEL = {"name": "darknet_cfg"}
BACKBONES = ["darknet_cfg"]
