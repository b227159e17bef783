MODEL = {"name": "unet_2015"}
BACKBONES = ["unet_encoder_2015"]
BACKBONE = {"width": 0.125, "dropout": 0.0}
LEARNER = {"backbone": {"width": 0.25}}
