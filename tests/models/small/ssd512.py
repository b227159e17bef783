MODEL = {"name": "ssd512", "layer_width": 1 / 32, "aspect_ratios": [[2], [2, 3], [2], [2], [2]]}
