MODEL = {"name": "yolo_v1", "side": 64, "cells": 4}
