MODEL = {"name": "unet", "decoder_width": 2}
LEARNER = {"model": {"decoder_width": 8}, "backbone": {"width": 0.25}}
