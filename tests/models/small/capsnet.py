MODEL = {"name": "capsnet", "side": 32, "filters": 16, "types": 2, "dimensions": 8}
BACKBONES = ["pixels"]
SIDE = 32
