MODEL = {"name": "unet", "decoder_width": 2}
