MODEL = {"name": "fast_yolo", "side": 64, "cells": 4, "hidden": [32]}
